#include "brood/kernels/matmul.h"

#include <gtest/gtest.h>
#include <hwy/highway.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "brood/base/random.h"
#include "brood/base/threads.h"
#include "brood/kernels/bf16_tiles.h"
#include "tests/reference/matmul.h"

namespace brood::kernels {
namespace {

constexpr Order kOrders[] = {Order::kPlain, Order::kTransposed};

struct Case {
  Order a_order, b_order;
  int64_t M, N, K;
  int64_t pad;  // extra numbers at the end of every row
  bool accumulate;

  int64_t a_rows() const { return a_order == Order::kPlain ? M : K; }
  int64_t b_rows() const { return b_order == Order::kPlain ? K : N; }
  int64_t lda() const { return (a_order == Order::kPlain ? K : M) + pad; }
  int64_t ldb() const { return (b_order == Order::kPlain ? N : K) + pad; }
  int64_t ldc() const { return N + pad; }
  std::string text() const {
    return fmt::format("{}{} {}x{}x{} pad {}{}", a_order == Order::kPlain ? 'N' : 'T',
                       b_order == Order::kPlain ? 'N' : 'T', M, N, K, pad, accumulate ? " accumulate" : "");
  }
};

template <class T>
T number(double x);
template <>
float number<float>(double x) {
  return float(x);
}
template <>
Bf16 number<Bf16>(double x) {
  return to_bf16(float(x));
}

template <class T>
struct Operands {
  std::vector<T> A, B;
  std::vector<float> C;
};

// Exactly as much memory as the product may touch: the last row has no padding, so that sanitizers see a step
// beyond.
template <class T>
Operands<T> make(const Case& c, Random& random) {
  const auto fill = [&](int64_t rows, int64_t ld) {
    std::vector<T> x(size_t(std::max<int64_t>(0, rows * ld - (rows > 0 ? c.pad : 0))));
    for (T& v : x) v = number<T>(random.normal());
    return x;
  };
  Operands<T> o{fill(c.a_rows(), c.lda()), fill(c.b_rows(), c.ldb()), {}};
  o.C.resize(size_t(c.M * c.ldc()));
  for (float& v : o.C) v = float(random.normal());
  return o;
}

template <class T>
std::vector<float> product(const Case& c, const Operands<T>& o) {
  std::vector<float> C = o.C;
  matmul(c.a_order, c.b_order, c.M, c.N, c.K, o.A.data(), c.lda(), o.B.data(), c.ldb(), c.accumulate,
         C.data(), c.ldc());
  return C;
}

// A sum of K products in any order errs by at most about K·epsilon·Σ|ab| (Higham 2002, eq. 3.5).
template <class T>
void expect_close(const Case& c, const Operands<T>& o, const std::vector<float>& C) {
  std::vector<double> expected(o.C.begin(), o.C.end()), bound(o.C.size(), 0.0);
  reference::matmul(c.a_order, c.b_order, c.M, c.N, c.K, o.A.data(), c.lda(), o.B.data(), c.ldb(),
                    c.accumulate, expected.data(), bound.data(), c.ldc());
  const double epsilon = double(c.K + 2) * std::numeric_limits<float>::epsilon();
  for (int64_t m = 0; m < c.M; ++m) {
    for (int64_t n = 0; n < c.ldc(); ++n) {
      const size_t i = size_t(m * c.ldc() + n);
      if (n >= c.N) {
        ASSERT_EQ(C[i], o.C[i]) << c.text() << ": padding touched at " << m << ", " << n;
      } else {
        ASSERT_NEAR(C[i], expected[i], epsilon * bound[i]) << c.text() << " at " << m << ", " << n;
      }
    }
  }
}

template <class T>
void check(const Case& c, Random& random) {
  const Operands<T> o = make<T>(c, random);
  expect_close(c, o, product(c, o));
}

template <class T>
void check_orders(int64_t M, int64_t N, int64_t K, int64_t pad, Random& random) {
  for (const Order a : kOrders)
    for (const Order b : kOrders)
      for (const bool accumulate : {false, true}) check<T>({a, b, M, N, K, pad, accumulate}, random);
}

// Runs body once for every compiled SIMD target and every bf16 kernel that this CPU has.
template <class Body>
void on_every_target(Body&& body) {
  for (const int64_t target : hwy::SupportedAndGeneratedTargets()) {
    SCOPED_TRACE(hwy::TargetName(target));
    hwy::SetSupportedTargetsForTest(target);
    hwy::GetChosenTarget().Update(hwy::SupportedTargets());
    body();
    if (testing::Test::HasFatalFailure()) break;
  }
  hwy::SetSupportedTargetsForTest(0);
  hwy::GetChosenTarget().Update(hwy::SupportedTargets());
  for (const Bf16Kernel kernel : {Bf16Kernel::kWidened, Bf16Kernel::kAvx512, Bf16Kernel::kAmx}) {
    if (!bf16_supported(kernel) || testing::Test::HasFatalFailure()) continue;
    SCOPED_TRACE(fmt::format("bf16 kernel {}", int(kernel)));
    force_bf16_kernel(kernel);
    body();
  }
  unforce_bf16_kernel();
}

template <class T>
class Matmul : public testing::Test {};
using Numbers = testing::Types<float, Bf16>;
TYPED_TEST_SUITE(Matmul, Numbers);

TYPED_TEST(Matmul, AllSmallShapes) {
  on_every_target([] {
    Random random(1);
    for (int64_t M = 1; M <= 6; ++M)
      for (int64_t N = 1; N <= 9; ++N)
        for (int64_t K = 1; K <= 9; ++K) check_orders<TypeParam>(M, N, K, (M + N + K) % 3, random);
  });
}

TYPED_TEST(Matmul, BordersOfVectorsTilesAndBlocks) {
  on_every_target([] {
    Random random(2);
    for (const int64_t M : {1, 2, 3, 4, 5, 15, 16, 17, 33})
      for (const int64_t N : {7, 16, 17, 31, 32, 33, 65})
        for (const int64_t K : {1, 4, 5, 15, 16, 17, 31, 32, 33, 63, 65})
          check_orders<TypeParam>(M, N, K, 1, random);
  });
}

TYPED_TEST(Matmul, RandomLargeShapes) {
  on_every_target([] {
    Random random(3);
    for (int i = 0; i < 12; ++i) {
      const Case c{kOrders[random.below(2)],
                   kOrders[random.below(2)],
                   int64_t(1 + random.below(300)),
                   int64_t(1 + random.below(500)),
                   int64_t(1 + random.below(600)),
                   int64_t(random.below(20)),
                   random.below(2) == 1};
      check<TypeParam>(c, random);
    }
  });
}

TYPED_TEST(Matmul, LongSumsAreSplitRight) {
  Random random(4);
  check_orders<TypeParam>(5, 40, 9000, 3, random);
  check_orders<TypeParam>(2, 40, 9000, 3, random);
  check_orders<TypeParam>(40, 5, 9000, 0, random);
}

// Shapes of which operands, or the result, are turned or copied, in one part and in several.
TEST(MatmulTurned, EveryOrderInParts) {
  Random random(8);
  const Order P = Order::kPlain, Q = Order::kTransposed;
  for (const bool accumulate : {false, true}) {
    check<float>({P, Q, 20, 401, 250, 1, accumulate}, random);  // few rows: turned with the result
    check<float>({P, Q, 192, 70, 193, 0, accumulate}, random);
    check<float>({P, Q, 193, 203, 1030, 2, accumulate}, random);  // weights turned, two parts of the sums
    check<float>({Q, P, 210, 150, 1030, 1, accumulate}, random);
    check<float>({Q, Q, 203, 205, 1030, 0, accumulate}, random);
    check<float>({P, P, 257, 512, 1030, 0, accumulate}, random);  // rows of B 2 KB apart
    check<float>({Q, P, 260, 1536, 130, 0, accumulate}, random);
  }
}

// However the work is shared out.
TEST(MatmulTurned, SameBitsForAnyNumberOfThreads) {
  const int before = ThreadPool::instance().size();
  Random random(9);
  const Order P = Order::kPlain, Q = Order::kTransposed;
  for (const Case& c : {Case{P, Q, 20, 401, 250, 0, false}, Case{P, Q, 300, 203, 1030, 0, true},
                        Case{Q, P, 300, 512, 1030, 0, true}, Case{P, P, 300, 1024, 300, 0, false}}) {
    const Operands<float> o = make<float>(c, random);
    ThreadPool::instance().resize(1);
    const std::vector<float> alone = product(c, o);
    for (const int threads : {2, 3, 5}) {
      ThreadPool::instance().resize(threads);
      EXPECT_EQ(product(c, o), alone) << c.text() << " with " << threads;
    }
  }
  ThreadPool::instance().resize(before);
}

TYPED_TEST(Matmul, EmptyShapes) {
  Random random(5);
  for (const bool accumulate : {false, true}) {
    for (const Order a : kOrders) {
      for (const Order b : kOrders) {
        check<TypeParam>({a, b, 0, 5, 7, 1, accumulate}, random);
        check<TypeParam>({a, b, 5, 0, 7, 1, accumulate}, random);
        check<TypeParam>({a, b, 5, 7, 0, 1, accumulate}, random);  // C becomes zero, or stays
      }
    }
  }
}

// Shapes that the pool shares out in each of its ways.
std::vector<Case> threaded_cases() {
  std::vector<Case> cases;
  for (const Order a : kOrders)
    for (const Order b : kOrders) cases.push_back({a, b, 130, 300, 257, 2, true});
  for (const int64_t M : {1, 2, 4, 9, 33}) {
    cases.push_back({Order::kPlain, Order::kTransposed, M, 515, 517, 0, false});
    cases.push_back({Order::kPlain, Order::kPlain, M, 515, 517, 0, false});
  }
  for (const int64_t K : {1, 3, 8})
    cases.push_back({Order::kTransposed, Order::kPlain, 515, 517, K, 1, true});
  return cases;
}

TYPED_TEST(Matmul, SameBitsForAnyNumberOfThreads) {
  const int before = ThreadPool::instance().size();
  Random random(6);
  for (const Case& c : threaded_cases()) {
    const Operands<TypeParam> o = make<TypeParam>(c, random);
    ThreadPool::instance().resize(1);
    const std::vector<float> alone = product(c, o);
    expect_close(c, o, alone);
    for (const int threads : {2, 3, 5}) {
      ThreadPool::instance().resize(threads);
      const std::vector<float> together = product(c, o);
      ASSERT_EQ(std::memcmp(alone.data(), together.data(), alone.size() * sizeof(float)), 0)
          << c.text() << " with " << threads << " threads";
    }
  }
  ThreadPool::instance().resize(before);
}

TYPED_TEST(Matmul, ARowDependsOnThatRowAlone) {
  Random random(7);
  for (const Case& c : threaded_cases()) {
    Operands<TypeParam> o = make<TypeParam>(c, random);
    const std::vector<float> before = product(c, o);
    const int64_t changed = int64_t(random.below(uint64_t(c.M)));
    for (int64_t k = 0; k < c.K; ++k) {
      const int64_t i = c.a_order == Order::kPlain ? changed * c.lda() + k : k * c.lda() + changed;
      o.A[size_t(i)] = number<TypeParam>(std::numeric_limits<float>::quiet_NaN());
    }
    const std::vector<float> after = product(c, o);
    for (int64_t m = 0; m < c.M; ++m) {
      const float* row = after.data() + m * c.ldc();
      if (m == changed) {
        EXPECT_TRUE(std::all_of(row, row + c.N, [](float x) { return x != x; })) << c.text();
      } else {
        ASSERT_EQ(std::memcmp(row, before.data() + m * c.ldc(), size_t(c.N) * sizeof(float)), 0)
            << c.text() << " row " << m << " after a change in row " << changed;
      }
    }
  }
}

// One row of bf16: tiles of 16 weights' rows where they fit, the rest as dot products, ranges of both by threads.
TEST(MatmulBf16, OneRowWithRowsOfEveryNumber) {
  Random random(11);
  on_every_target([&] {
    for (const int64_t N : {1, 15, 16, 17, 63, 64, 65, 79, 80, 145, 1030})
      for (const int64_t K : {32, 64, 160})
        for (const int64_t pad : {0, 3})
          for (const bool accumulate : {false, true})
            check<Bf16>({Order::kPlain, Order::kTransposed, 1, N, K, pad, accumulate}, random);
  });
}

TEST(MatmulBf16, OneRowInTilesIsTheSameForAnyNumberOfThreads) {
  if (!bf16_supported(Bf16Kernel::kAmx)) GTEST_SKIP() << "this CPU has no AMX";
  const int before = ThreadPool::instance().size();
  force_bf16_kernel(Bf16Kernel::kAmx);
  Random random(12);
  const Case c{Order::kPlain, Order::kTransposed, 1, 1030, 160, 0, false};
  const Operands<Bf16> o = make<Bf16>(c, random);
  ThreadPool::instance().resize(1);
  const std::vector<float> alone = product(c, o);
  expect_close(c, o, alone);
  for (const int threads : {2, 3, 5}) {
    ThreadPool::instance().resize(threads);
    EXPECT_EQ(product(c, o), alone) << threads << " threads";
  }
  unforce_bf16_kernel();
  ThreadPool::instance().resize(before);
}

// A single row and the same row among a few give the same bits: decoding one step or four is the same.
TEST(MatmulFewRows, ARowAloneIsTheRowAmongOthers) {
  on_every_target([] {
    Random random(8);
    for (const Order b : kOrders) {
      const Case few{Order::kPlain, b, kFewRows, 77, 131, 0, false},
          one{Order::kPlain, b, 1, 77, 131, 0, false};
      const Operands<float> o = make<float>(few, random);
      const std::vector<float> together = product(few, o);
      for (int64_t m = 0; m < few.M; ++m) {
        Operands<float> single{{o.A.begin() + m * few.K, o.A.begin() + (m + 1) * few.K}, o.B, {}};
        single.C.resize(size_t(few.N));
        const std::vector<float> alone = product(one, single);
        EXPECT_EQ(std::memcmp(alone.data(), together.data() + m * few.N, alone.size() * sizeof(float)), 0);
      }
    }
  });
}

std::vector<float> awkward_numbers() {
  const float infinity = std::numeric_limits<float>::infinity();
  std::vector<float> x = {0.0f,
                          -0.0f,
                          1.0f,
                          infinity,
                          -infinity,
                          std::numeric_limits<float>::quiet_NaN(),
                          std::numeric_limits<float>::max(),
                          std::numeric_limits<float>::denorm_min()};
  // Every upper half with the lower halves around the rounding borders.
  for (uint32_t high = 0; high < 65536; high += 7)
    for (const uint32_t low : {0u, 1u, 0x7fffu, 0x8000u, 0x8001u, 0xffffu})
      x.push_back(std::bit_cast<float>(high << 16 | low));
  return x;
}

TEST(Convert, RoundsAsToBf16AndWidensExactly) {
  on_every_target([] {
    const std::vector<float> x = awkward_numbers();
    std::vector<Bf16> narrow(x.size());
    std::vector<float> wide(x.size());
    for (const size_t n : {size_t(1), size_t(5), size_t(16), size_t(37), x.size()}) {
      convert(int64_t(n), x.data(), narrow.data());
      convert(int64_t(n), narrow.data(), wide.data());
      for (size_t i = 0; i < n; ++i) {
        ASSERT_EQ(narrow[i].bits, to_bf16(x[i]).bits) << x[i];
        ASSERT_EQ(std::bit_cast<uint32_t>(wide[i]), uint32_t(narrow[i].bits) << 16);
      }
    }
  });
}

TEST(Convert, LargeArraysAreSharedOut) {
  Random random(9);
  std::vector<float> x(300001), wide(x.size());
  std::vector<Bf16> narrow(x.size());
  random.fill_normal(x.data(), int64_t(x.size()), 1.0f);
  convert(int64_t(x.size()), x.data(), narrow.data());
  convert(int64_t(x.size()), narrow.data(), wide.data());
  for (size_t i = 0; i < x.size(); ++i) ASSERT_EQ(wide[i], to_float(to_bf16(x[i])));
}

}  // namespace
}  // namespace brood::kernels
