// Rotary positions. The angle position·theta^(−2i/head_dim) reaches 10^6 and more while a float keeps 7
// digits, so it is counted in quarter turns in double, brought to the nearest quarter there, and only the
// remainder of at most an eighth turn goes through float sine and cosine. One table a row serves all heads.
#include <algorithm>
#include <cmath>

#include "brood/base/error.h"
#include "brood/base/threads.h"
#include "brood/kernels/attention.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "brood/kernels/rotary.cc"
#include "hwy/foreach_target.h"
// After foreach_target.h, which includes this file once per target.
#include "brood/kernels/vector_math-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace brood::kernels::HWY_NAMESPACE {
namespace {

// Fills cosines[2i] = cosines[2i+1] = cos and sines[2i] = −sin, sines[2i+1] = sin of position·frequency[i]
// quarter turns, for `pairs` (rounded up to a whole vector) frequencies.
void fill_table(int64_t pairs, double position, const double* frequency, float* cosines, float* sines) {
  const hn::CappedTag<double, 8> dd;
  const hn::Rebind<float, decltype(dd)> d;
  const int64_t lanes = int64_t(hn::Lanes(dd));
  HWY_ALIGN float cosine[8], sine[8], quarter[8];
  for (int64_t i = 0; i < pairs; i += lanes) {
    const auto turns = hn::Mul(hn::Set(dd, position), hn::LoadU(dd, frequency + i));
    const auto whole = hn::Round(turns);
    const auto rest = hn::DemoteTo(d, hn::Mul(hn::Sub(turns, whole), hn::Set(dd, 1.5707963267948966)));
    auto s = hn::Zero(d), c = hn::Zero(d);
    NearSineCosine(d, rest, s, c);
    // whole mod 4 decides which of ±s, ±c are the sine and the cosine.
    const auto four = hn::Mul(hn::Set(dd, 4.0), hn::Floor(hn::Mul(whole, hn::Set(dd, 0.25))));
    hn::Store(hn::DemoteTo(d, hn::Sub(whole, four)), d, quarter);
    hn::Store(s, d, sine);
    hn::Store(c, d, cosine);
    for (int64_t l = 0; l < std::min(lanes, pairs - i); ++l) {
      const int q = int(quarter[l]);
      const float sin_of = q % 2 == 0 ? sine[l] : cosine[l], cos_of = q % 2 == 0 ? cosine[l] : sine[l];
      const float full_sine = q >= 2 ? -sin_of : sin_of, full_cosine = q == 1 || q == 2 ? -cos_of : cos_of;
      const int64_t at = 2 * (i + l);
      cosines[at] = cosines[at + 1] = full_cosine;
      sines[at] = -full_sine;
      sines[at + 1] = full_sine;
    }
  }
}

// y = x∘cosines + (x with neighbours swapped)∘sines over one head.
void rotate_head(int64_t head_dim, const float* cosines, const float* sines, const float* x, float* y) {
  const hn::CappedTag<float, 16> d;
  const int64_t lanes = int64_t(hn::Lanes(d));
  int64_t i = 0;
  for (; lanes > 1 && i + lanes <= head_dim; i += lanes) {
    const auto v = hn::LoadU(d, x + i);
    const auto turned = hn::Mul(hn::Reverse2(d, v), hn::LoadU(d, sines + i));
    hn::StoreU(hn::MulAdd(v, hn::LoadU(d, cosines + i), turned), d, y + i);
  }
  for (; i < head_dim; i += 2) {
    const float a = x[i], b = x[i + 1];
    y[i] = a * cosines[i] + b * sines[i];
    y[i + 1] = b * cosines[i + 1] + a * sines[i + 1];
  }
}

// frequency is negative for the inverse.
void rotary_row(int64_t heads, int64_t head_dim, int64_t position, const double* frequency, const float* x,
                float* y) {
  HWY_ALIGN float cosines[kMaxHeadDim], sines[kMaxHeadDim];
  fill_table(head_dim / 2, double(position), frequency, cosines, sines);
  for (int64_t h = 0; h < heads; ++h)
    rotate_head(head_dim, cosines, sines, x + h * head_dim, y + h * head_dim);
}

}  // namespace
}  // namespace brood::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace brood::kernels {

HWY_EXPORT(rotary_row);

void rotary(int64_t B, int64_t T, int64_t heads, int64_t head_dim, const int64_t* positions, float theta,
            bool inverse, const float* x, int64_t x_stride, float* y, int64_t y_stride) {
  BROOD_ASSERT(head_dim % 2 == 0 && head_dim <= kMaxHeadDim);
  constexpr int64_t kRowsOfTask = 32;
  constexpr int64_t kInlineElements = 100'000;  // some 0.2 ns each
  // In quarter turns a step. Products of the ratio lose at most head_dim/2 roundings of a double.
  double frequency[kMaxHeadDim / 2 + 8] = {};
  const double ratio = std::pow(double(theta), -2.0 / double(head_dim));
  double value = inverse ? -0.6366197723675814 : 0.6366197723675814;  // 2/π
  for (int64_t i = 0; i < head_dim / 2; ++i, value *= ratio) frequency[i] = value;

  const auto rotate_row = HWY_DYNAMIC_DISPATCH(rotary_row);
  const int64_t rows = B * T;
  auto task = [&](int64_t i) {
    for (int64_t row = i * kRowsOfTask; row < std::min(rows, (i + 1) * kRowsOfTask); ++row)
      rotate_row(heads, head_dim, positions[row / T] + row % T, frequency, x + row * x_stride,
                 y + row * y_stride);
  };
  const int64_t tasks = (rows + kRowsOfTask - 1) / kRowsOfTask;
  if (rows * heads * head_dim >= kInlineElements) return parallel(tasks, task);
  for (int64_t i = 0; i < tasks; ++i) task(i);
}

}  // namespace brood::kernels
#endif
