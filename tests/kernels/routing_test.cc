// Routing against the reference, for all small shapes; its gradient against finite differences.
#include "brood/kernels/routing.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "brood/base/random.h"
#include "tests/reference/routing.h"

namespace brood::kernels {
namespace {

using Floats = std::vector<float>;

Floats normals(int64_t n, uint64_t seed, float stddev = 1) {
  Floats x(static_cast<size_t>(n));
  Random(seed).fill_normal(x.data(), n, stddev);
  return x;
}

struct Routed {
  Floats score, weight;
  std::vector<int32_t> chosen;
};

Routed route_all(const Routing& routing, int64_t rows, const Floats& z, const float* bias) {
  Routed r{Floats(z.size()), Floats(size_t(rows * routing.top_k)),
           std::vector<int32_t>(size_t(rows * routing.top_k))};
  route(routing, rows, z.data(), bias, r.score.data(), r.chosen.data(), r.weight.data());
  return r;
}

// Every way to route of up to 9 experts.
template <class Check>
void for_every_routing(const Check& check) {
  for (int64_t n = 1; n <= 9; ++n)
    for (int64_t k = 1; k <= n; ++k)
      for (bool softmax : {false, true})
        for (bool renormalise : {false, true}) {
          SCOPED_TRACE(testing::Message() << k << " of " << n << (softmax ? " softmax" : " sigmoid")
                                          << (renormalise ? " renormalised" : ""));
          check(Routing{.n_expert = n, .top_k = k, .softmax = softmax, .renormalise = renormalise});
        }
}

TEST(Routing, ChoosesAndWeighsAsTheReference) {
  constexpr int64_t kRows = 20;
  for_every_routing([](const Routing& routing) {
    const Floats z = normals(kRows * routing.n_expert, 1, 2), bias = normals(routing.n_expert, 2, 0.3f);
    for (const float* b : {static_cast<const float*>(nullptr), bias.data()}) {
      const Routed got = route_all(routing, kRows, z, b);
      for (int64_t r = 0; r < kRows; ++r) {
        const std::vector<double> s = reference::scores(routing, z.data() + r * routing.n_expert);
        const int32_t* chosen = got.chosen.data() + r * routing.top_k;
        ASSERT_EQ(reference::choose(routing, s, b), std::vector<int32_t>(chosen, chosen + routing.top_k));
        const std::vector<double> w = reference::weights(routing, s, chosen);
        for (int64_t k = 0; k < routing.top_k; ++k)
          EXPECT_NEAR(got.weight[size_t(r * routing.top_k + k)], w[size_t(k)], 2e-6);
      }
    }
  });
}

TEST(Routing, EqualsGoToTheLowerNumberAndNaNsSomewhere) {
  const Routing routing{.n_expert = 5, .top_k = 3};
  EXPECT_EQ(route_all(routing, 1, Floats(5, 0.5f), nullptr).chosen, (std::vector<int32_t>{0, 1, 2}));
  for (bool softmax : {false, true}) {
    Routing any = routing;
    any.softmax = softmax;
    std::vector<int32_t> chosen =
        route_all(any, 1, Floats(5, std::numeric_limits<float>::quiet_NaN()), nullptr).chosen;
    std::sort(chosen.begin(), chosen.end());
    EXPECT_EQ(std::unique(chosen.begin(), chosen.end()), chosen.end());
    for (int32_t e : chosen) EXPECT_TRUE(e >= 0 && e < 5);
  }
}

TEST(Routing, AChoiceHasItsPlace) {
  for_every_routing([](const Routing& routing) {
    for (int64_t rows : {1, 2, 7, 30}) {
      const Routed routed = route_all(routing, rows, normals(rows * routing.n_expert, 3), nullptr);
      const auto choices = int64_t(routed.chosen.size());
      std::vector<int64_t> begin(size_t(routing.n_expert) + 1);
      std::vector<int32_t> choice(size_t(choices), -1), place(size_t(choices), -1);
      sort_choices(routing, rows, routed.chosen.data(), begin.data(), choice.data(), place.data());
      ASSERT_EQ(begin.front(), 0);
      ASSERT_EQ(begin.back(), choices);
      for (int64_t e = 0; e < routing.n_expert; ++e)
        for (int64_t at = begin[size_t(e)]; at < begin[size_t(e) + 1]; ++at) {
          EXPECT_EQ(routed.chosen[size_t(choice[size_t(at)])], e);
          EXPECT_EQ(place[size_t(choice[size_t(at)])], at);
          if (at > begin[size_t(e)]) {
            EXPECT_LT(choice[size_t(at) - 1], choice[size_t(at)]);
          }
        }
    }
  });
}

// Loss: Σ a·w over all choices, which stay as they are, and the routing's own.
TEST(Routing, GradientsMatchFiniteDifferences) {
  constexpr int64_t kRows = 6;
  for_every_routing([](Routing routing) {
    routing.balance_loss = 0.7f;
    routing.z_loss = 0.3f;
    const int64_t n = routing.n_expert, k = routing.top_k;
    Floats z = normals(kRows * n, 4);
    const Floats a = normals(kRows * k, 5);
    const Routed routed = route_all(routing, kRows, z, nullptr);
    std::vector<int64_t> begin(size_t(n) + 1);
    std::vector<int32_t> choice(routed.chosen.size()), place(routed.chosen.size());
    sort_choices(routing, kRows, routed.chosen.data(), begin.data(), choice.data(), place.data());
    Floats dz(z.size());
    route_backward(routing, kRows, z.data(), routed.score.data(), routed.chosen.data(), begin.data(),
                   a.data(), dz.data());
    const auto loss = [&] {
      double sum = reference::losses(routing, kRows, z.data(), routed.chosen);
      for (int64_t r = 0; r < kRows; ++r) {
        const std::vector<double> s = reference::scores(routing, z.data() + r * n);
        const std::vector<double> w = reference::weights(routing, s, routed.chosen.data() + r * k);
        for (int64_t i = 0; i < k; ++i) sum += double(a[size_t(r * k + i)]) * w[size_t(i)];
      }
      return sum;
    };
    for (size_t i = 0; i < z.size(); ++i) {
      const float before = z[i], step = 1.0f / 128;
      z[i] = before + step;
      const double above = loss(), high = double(z[i]);
      z[i] = before - step;
      const double below = loss(), low = double(z[i]);
      z[i] = before;
      // The central difference errs by a sixth of the third derivative times step²: some 1e-5.
      EXPECT_NEAR(double(dz[i]), (above - below) / (high - low), 5e-5) << i;
    }
  });
}

}  // namespace
}  // namespace brood::kernels
