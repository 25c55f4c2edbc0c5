// Every target's exponential, logarithm and their relatives against double precision, over floats of all
// sizes.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "tests/kernels/vector_math_test.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <cstdint>

#include "brood/kernels/vector_math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace brood::kernels::HWY_NAMESPACE {

template <class Function>
void map(int64_t n, const float* x, float* y, const Function& function) {
  const hn::ScalableTag<float> d;
  const int64_t lanes = int64_t(hn::Lanes(d));
  for (int64_t i = 0; i < n; i += lanes) hn::StoreU(function(d, hn::LoadU(d, x + i)), d, y + i);
}
void exp_of(int64_t n, const float* x, float* y) {
  map(n, x, y, [](auto d, auto v) HWY_ATTR { return Exp(d, v); });
}
void sigmoid_of(int64_t n, const float* x, float* y) {
  map(n, x, y, [](auto d, auto v) HWY_ATTR { return Sigmoid(d, v); });
}
void softplus_of(int64_t n, const float* x, float* y) {
  map(n, x, y, [](auto d, auto v) HWY_ATTR { return Softplus(d, v); });
}
void softplus_slope_of(int64_t n, const float* x, float* y) {
  map(n, x, y, [](auto d, auto v) HWY_ATTR {
    auto slope = v;
    Softplus(d, v, slope);
    return slope;
  });
}
void tanh_of(int64_t n, const float* x, float* y) {
  map(n, x, y, [](auto d, auto v) HWY_ATTR { return Tanh(d, v); });
}
void normal_share_of(int64_t n, const float* x, float* y) {
  map(n, x, y, [](auto d, auto v) HWY_ATTR {
    auto density = v;
    return NormalShare(d, v, density);
  });
}
void sine_of(int64_t n, const float* x, float* y) {
  map(n, x, y, [](auto d, auto v) HWY_ATTR {
    auto sine = v, cosine = v;
    SineCosine(d, v, sine, cosine);
    return sine;
  });
}
void cosine_of(int64_t n, const float* x, float* y) {
  map(n, x, y, [](auto d, auto v) HWY_ATTR {
    auto sine = v, cosine = v;
    SineCosine(d, v, sine, cosine);
    return cosine;
  });
}

}  // namespace brood::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <vector>

#include "tests/kernels/targets.h"

namespace brood::kernels {
HWY_EXPORT(exp_of);
HWY_EXPORT(sigmoid_of);
HWY_EXPORT(softplus_of);
HWY_EXPORT(softplus_slope_of);
HWY_EXPORT(tanh_of);
HWY_EXPORT(normal_share_of);
HWY_EXPORT(sine_of);
HWY_EXPORT(cosine_of);

namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr double kSmallestNormal = 1.17549436e-38;

// Every 997th float, of either sign or positive only, filled up to a multiple of 64.
std::vector<float> floats_of_all_sizes(bool negative_too) {
  std::vector<float> x;
  for (uint32_t bits = 0; bits < 0x7f800000u; bits += 997) {
    x.push_back(std::bit_cast<float>(bits));
    if (negative_too) x.push_back(-x.back());
  }
  while (x.size() % 64 != 0) x.push_back(1.0f);
  return x;
}

// The distance from y to the true value, in units in the last place of a float of its size.
double ulps(float y, double truth) {
  if (std::isinf(y) && truth > double(std::numeric_limits<float>::max())) return 0;
  int exponent = 0;
  std::frexp(truth, &exponent);
  return std::abs(double(y) - truth) / std::ldexp(1.0, std::max(exponent, -125) - 24);
}

using Map = void (*)(int64_t, const float*, float*);

// Where the truth is below smallest, anything in [0, smallest] will do.
void check_map(const std::vector<float>& x, double (*truth)(double), double tolerance, double smallest,
               Map map) {
  std::vector<float> y(x.size());
  map(int64_t(x.size()), x.data(), y.data());
  double worst = 0;
  size_t where = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    const double t = truth(double(x[i]));
    const bool tiny = t < smallest && y[i] >= 0 && double(y[i]) <= smallest;
    const double off = tiny ? 0 : ulps(y[i], t);
    if (!(off <= worst)) worst = off, where = i;
  }
  EXPECT_LE(worst, tolerance) << "at x = " << x[where] << " y = " << y[where];
}

void check_nan(Map map) {
  const std::vector<float> x(64, kNan);
  std::vector<float> y(64);
  map(64, x.data(), y.data());
  for (float value : y) EXPECT_TRUE(std::isnan(value));
}

TEST(VectorMath, Exp) {
  for_every_target([] {
    Map map = [](int64_t n, const float* x, float* y) { HWY_DYNAMIC_DISPATCH(exp_of)(n, x, y); };
    check_map(
        floats_of_all_sizes(true), [](double x) { return std::exp(x); }, 1.5, kSmallestNormal, map);
    check_nan(map);
    std::vector<float> x(64, 0.0f), y(64);
    x[1] = kInfinity, x[2] = -kInfinity, x[3] = 88.7228317f, x[4] = 88.72284f, x[5] = -87.33654f,
    x[6] = -87.4f;
    map(64, x.data(), y.data());
    EXPECT_EQ(y[0], 1.0f);
    EXPECT_EQ(y[1], kInfinity);
    EXPECT_EQ(y[2], 0.0f);
    EXPECT_LT(y[3], kInfinity);
    EXPECT_EQ(y[4], kInfinity);
    EXPECT_GT(y[5], 0.0f);
    EXPECT_EQ(y[6], 0.0f);
  });
}

TEST(VectorMath, Sigmoid) {
  for_every_target([] {
    Map map = [](int64_t n, const float* x, float* y) { HWY_DYNAMIC_DISPATCH(sigmoid_of)(n, x, y); };
    check_map(
        floats_of_all_sizes(true), [](double x) { return 1 / (1 + std::exp(-x)); }, 3, kSmallestNormal, map);
    check_nan(map);
  });
}

TEST(VectorMath, Softplus) {
  for_every_target([] {
    Map map = [](int64_t n, const float* x, float* y) { HWY_DYNAMIC_DISPATCH(softplus_of)(n, x, y); };
    check_map(
        floats_of_all_sizes(true), [](double x) { return x > 700 ? x : std::log1p(std::exp(x)); }, 3,
        kSmallestNormal, map);
    check_nan(map);
  });
}

TEST(VectorMath, SoftplusSlope) {
  for_every_target([] {
    Map map = [](int64_t n, const float* x, float* y) { HWY_DYNAMIC_DISPATCH(softplus_slope_of)(n, x, y); };
    check_map(
        floats_of_all_sizes(true), [](double x) { return 1 / (1 + std::exp(-x)); }, 3, kSmallestNormal, map);
    check_nan(map);
  });
}

TEST(VectorMath, Tanh) {
  for_every_target([] {
    Map map = [](int64_t n, const float* x, float* y) { HWY_DYNAMIC_DISPATCH(tanh_of)(n, x, y); };
    check_map(
        floats_of_all_sizes(true), [](double x) { return std::tanh(x); }, 4, 0, map);
    check_nan(map);
  });
}

TEST(VectorMath, NormalShare) {
  for_every_target([] {
    Map map = [](int64_t n, const float* x, float* y) { HWY_DYNAMIC_DISPATCH(normal_share_of)(n, x, y); };
    const auto truth = [](double x) { return 0.5 * std::erfc(-x / std::sqrt(2.0)); };
    std::vector<float> near = floats_of_all_sizes(true), tail;
    std::erase_if(near, [](float x) { return x < -2; });
    near.resize(near.size() / 64 * 64);
    check_map(near, truth, 8, kSmallestNormal, map);
    for (int i = 0; i < 64 * 200; ++i) tail.push_back(-2.0f - 0.001f * float(i));
    check_map(tail, truth, 8 + 13.0 * 13.0 / 2, kSmallestNormal, map);
    check_nan(map);
  });
}

TEST(VectorMath, SineAndCosine) {
  std::vector<float> x = floats_of_all_sizes(true);
  std::erase_if(x, [](float v) { return std::abs(v) >= 8000; });
  for (float v = -40; v < 40; v += 0.001f) x.push_back(v);
  x.resize(x.size() / 64 * 64);
  std::vector<float> sine(x.size()), cosine(x.size());
  for_every_target([&] {
    HWY_DYNAMIC_DISPATCH(sine_of)(int64_t(x.size()), x.data(), sine.data());
    HWY_DYNAMIC_DISPATCH(cosine_of)(int64_t(x.size()), x.data(), cosine.data());
    double worst = 0;
    for (size_t i = 0; i < x.size(); ++i)
      worst = std::max({worst, std::abs(double(sine[i]) - std::sin(double(x[i]))),
                        std::abs(double(cosine[i]) - std::cos(double(x[i])))});
    EXPECT_LE(worst, 1.2e-7);
    check_nan([](int64_t n, const float* from, float* to) { HWY_DYNAMIC_DISPATCH(sine_of)(n, from, to); });
  });
}

}  // namespace
}  // namespace brood::kernels
#endif  // HWY_ONCE
