// The product of builds without oneDNN, called directly, so that it is tested in every build.
#include "brood/kernels/tiles.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <string>
#include <vector>

#include "tests/kernels/compare.h"
#include "tests/kernels/targets.h"
#include "tests/reference/matmul.h"

namespace brood::kernels {
namespace {

constexpr Order kOrders[] = {Order::kPlain, Order::kTransposed};

// Rows are `pad` longer than the matrix, and end with the last number that may be touched.
void check(Order a_order, Order b_order, int64_t M, int64_t N, int64_t K, int64_t pad, bool accumulate) {
  const auto plain = [](Order order) { return order == Order::kPlain; };
  const int64_t a_rows = plain(a_order) ? M : K, lda = (plain(a_order) ? K : M) + pad;
  const int64_t b_rows = plain(b_order) ? K : N, ldb = (plain(b_order) ? N : K) + pad;
  const int64_t ldc = N + pad;
  const Floats A = normals(a_rows * lda - pad, 1), B = normals(b_rows * ldb - pad, 2);
  const Floats before = normals(M * ldc - pad, 3);
  Floats C = before;
  tiles_product(a_order, b_order, M, N, K, A.data(), lda, B.data(), ldb, accumulate, C.data(), ldc);

  Numbers expected = widen(before), size(before.size(), 0);
  reference::matmul(a_order, b_order, M, N, K, A.data(), lda, B.data(), ldb, accumulate, expected.data(),
                    size.data(), ldc);
  // A sum of K products in any order errs by at most about K·epsilon·Σ|ab| (Higham 2002, eq. 3.5); what lies
  // between the rows must stay as it is.
  const double epsilon = double(K + 2) * std::numeric_limits<float>::epsilon();
  const std::string what = std::string(plain(a_order) ? "N" : "T") + (plain(b_order) ? "N " : "T ") +
                           std::to_string(M) + "x" + std::to_string(N) + "x" + std::to_string(K);
  expect_close(what, C, expected, [&](size_t i) { return epsilon * size[i]; });
}

void check_orders(int64_t M, int64_t N, int64_t K, int64_t pad) {
  for (const Order a : kOrders) {
    for (const Order b : kOrders) {
      check(a, b, M, N, K, pad, false);
      check(a, b, M, N, K, pad, true);
      if (testing::Test::HasFatalFailure()) return;
    }
  }
}

TEST(Tiles, SmallShapes) {
  for_every_target([] {
    for (int64_t M = 1; M <= 9; ++M)
      for (int64_t N = 1; N <= 9; ++N)
        for (int64_t K = 1; K <= 5; K += 2) check_orders(M, N, K, (M + N + K) % 3);
  });
}

TEST(Tiles, BordersOfVectorsTilesAndPanels) {
  for_every_target([] {
    for (const int64_t M : {1, 8, 17, 33})
      for (const int64_t N : {15, 16, 33})
        for (const int64_t K : {1, 64, 65}) check_orders(M, N, K, 1);
  });
}

TEST(Tiles, LargeShapes) {
  for_every_target([] {
    check_orders(35, 66, 600, 3);
    check_orders(3, 40, 2000, 0);
    check_orders(70, 5, 1100, 2);
  });
}

}  // namespace
}  // namespace brood::kernels
