// What kernel tests share: random inputs, comparison within a derived bound, gradients by finite differences,
// and equality to the bit for different numbers of threads.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "brood/base/random.h"
#include "brood/base/threads.h"

namespace brood {

using Floats = std::vector<float>;
using Numbers = std::vector<double>;

constexpr double kRoundoff = 0x1p-24;  // the largest relative error of one float operation

inline Floats normals(int64_t n, uint64_t seed, float stddev = 1) {
  Floats x(static_cast<size_t>(n));
  Random(seed).fill_normal(x.data(), n, stddev);
  return x;
}

inline Numbers widen(const Floats& x) { return Numbers(x.begin(), x.end()); }

inline Numbers sum(const Numbers& a, const Floats& b) {
  Numbers y = a;
  for (size_t i = 0; i < y.size(); ++i) y[i] += double(b[i]);
  return y;
}

// |got[i] − expected[i]| <= bound(i), and NaN nowhere.
template <class Bound>
void expect_close(const std::string& what, const Floats& got, const Numbers& expected, const Bound& bound) {
  ASSERT_EQ(got.size(), expected.size()) << what;
  for (size_t i = 0; i < got.size(); ++i) {
    const double off = std::abs(double(got[i]) - expected[i]);
    ASSERT_TRUE(off <= bound(i)) << what << "[" << i << "] is " << got[i] << ", not " << expected[i]
                                 << "; off by " << off << ", bound " << bound(i);
  }
}

// gradient[i] against central differences of loss(x) of fourth order, in double precision: good to about the
// fifth derivative times 1e-16, and to the loss's own rounding, 1e-12 of it.
template <class Loss>
void expect_gradient(const std::string& what, const Numbers& x, const Numbers& gradient, const Loss& loss) {
  ASSERT_EQ(x.size(), gradient.size()) << what;
  constexpr double kStep = 2e-4;
  Numbers moved = x;
  const auto difference = [&](size_t i, double step) {
    moved[i] = x[i] + step;
    const double above = loss(moved);
    moved[i] = x[i] - step;
    const double below = loss(moved);
    moved[i] = x[i];
    return above - below;
  };
  for (size_t i = 0; i < x.size(); ++i) {
    const double slope = (8 * difference(i, kStep) - difference(i, 2 * kStep)) / (12 * kStep);
    ASSERT_NEAR(gradient[i], slope, 1e-7 * (1 + std::abs(slope))) << what << "[" << i << "]";
  }
}

inline double dot(const Numbers& a, const Numbers& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

// run() gives a vector; it must be the same to the bit whatever the number of threads.
template <class Run>
void expect_same_for_threads(const Run& run) {
  const int before = ThreadPool::instance().size();
  ThreadPool::instance().resize(1);
  const auto expected = run();
  for (int threads : {2, 3}) {
    ThreadPool::instance().resize(threads);
    const auto got = run();
    ASSERT_EQ(got.size(), expected.size());
    EXPECT_EQ(std::memcmp(got.data(), expected.data(), got.size() * sizeof(got[0])), 0)
        << threads << " threads";
  }
  ThreadPool::instance().resize(before);
}

}  // namespace brood
