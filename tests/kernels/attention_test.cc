// Attention and rotary positions against their double-precision references, gradients by finite differences
// of the reference, on every SIMD target; any chunking and any number of threads.
#include "brood/kernels/attention.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "brood/base/random.h"
#include "brood/base/threads.h"
#include "tests/kernels/targets.h"
#include "tests/reference/attention.h"

namespace brood::kernels {
namespace {

constexpr double kEpsilon = std::numeric_limits<float>::epsilon();
constexpr int64_t kNoWindow = std::numeric_limits<int64_t>::max();
using Doubles = std::vector<double>;
using Floats = std::vector<float>;

// Random numbers that a float holds exactly, so that both sides see the same problem.
Doubles draw(Random& random, int64_t n, double size) {
  Doubles x(static_cast<size_t>(n));
  for (double& v : x) v = double(float(random.uniform(-size, size)));
  return x;
}

// Stream b has start + b·3 older rows; the cache has room for two more than needed.
reference::Attention draw_problem(uint64_t seed, int64_t B, int64_t T, int64_t heads, int64_t head_dim,
                                  int64_t start, int64_t window) {
  Random random(seed);
  std::vector<int64_t> starts;
  for (int64_t b = 0; b < B; ++b) starts.push_back(start + 3 * b);
  const int64_t capacity = starts.back() + T + 2;
  return {B,
          T,
          heads,
          head_dim,
          capacity,
          window,
          starts,
          draw(random, B * T * heads * head_dim, 2),
          draw(random, B * capacity * head_dim, 2),
          draw(random, B * capacity * head_dim, 1)};
}

// The same problem as the kernels want it; queries are columns of wider rows, unused cache rows are poison.
struct Problem {
  const reference::Attention& r;
  Floats q, keys, values;
  int64_t q_stride;

  explicit Problem(const reference::Attention& reference)
      : r(reference), keys(r.keys.begin(), r.keys.end()), values(r.values.begin(), r.values.end()) {
    const int64_t width = r.heads * r.head_dim;
    q_stride = width + 5;
    q.assign(size_t(r.B * r.T * q_stride), NAN);
    for (int64_t i = 0; i < r.B * r.T * width; ++i) q[i / width * q_stride + i % width] = float(r.q[i]);
    for (int64_t b = 0; b < r.B; ++b) {
      for (int64_t i = (r.start[b] + r.T) * r.head_dim; i < r.capacity * r.head_dim; ++i)
        keys[b * r.capacity * r.head_dim + i] = values[b * r.capacity * r.head_dim + i] = NAN;
    }
  }
  Attention attention() const {
    return {r.B,
            r.T,
            r.heads,
            r.head_dim,
            q.data(),
            q_stride,
            keys.data(),
            values.data(),
            r.capacity * r.head_dim,
            r.start.data(),
            r.window};
  }
};

struct Outputs {
  Floats y, log_sum;
};

Outputs forward(const Attention& a) {
  Outputs out{Floats(a.B * a.T * a.heads * a.head_dim, NAN), Floats(a.B * a.T * a.heads, NAN)};
  attention_forward(a, out.y.data(), out.log_sum.data());
  return out;
}

void expect_near(const Floats& got, const Doubles& truth, double tolerance, const char* name) {
  ASSERT_EQ(got.size(), truth.size());
  for (size_t i = 0; i < got.size(); ++i) ASSERT_NEAR(got[i], truth[i], tolerance) << name << "[" << i << "]";
}

// Scores are sums of head_dim products of at most 2·2/√head_dim; their error is the relative error of p;
// values are at most 1. Sums over keys err by √keys roundings.
double tolerance(const reference::Attention& r) {
  const double keys = double(std::min(r.start.back() + r.T, r.window));
  return kEpsilon * (8 + 4 * std::sqrt(double(r.head_dim)) + std::sqrt(keys));
}

void check_forward(const reference::Attention& r) {
  SCOPED_TRACE(testing::Message() << "B " << r.B << " T " << r.T << " heads " << r.heads << " head_dim "
                                  << r.head_dim << " start " << r.start[0] << " window " << r.window);
  const auto truth = reference::attention(r);
  const Problem p(r);
  for_every_target([&] {
    const Outputs out = forward(p.attention());
    expect_near(out.y, truth.y, tolerance(r), "y");
    const double largest = *std::max_element(truth.log_sum.begin(), truth.log_sum.end());
    expect_near(out.log_sum, truth.log_sum, tolerance(r) + kEpsilon * std::abs(largest), "log_sum");
  });
}

TEST(Attention, ForwardMatchesReferenceOnAllSmallShapes) {
  for (int64_t T : {1, 2, 3, 4, 7, 9}) {
    for (int64_t heads : {1, 2, 3, 4, 5, 8, 9}) {
      for (int64_t head_dim : {1, 2, 3, 4, 8, 9, 16, 20}) {
        for (int64_t start : {0, 1, 5}) {
          for (int64_t window : {int64_t(1), int64_t(2), int64_t(4), kNoWindow}) {
            check_forward(draw_problem(uint64_t(T * 1000 + heads * 100 + head_dim), 1 + T % 2, T, heads,
                                       head_dim, start, window));
            if (testing::Test::HasFatalFailure()) return;
          }
        }
      }
    }
  }
}

TEST(Attention, ForwardOfLargerShapes) {
  const int64_t shapes[][6] = {
      {1, 1, 8, 64, 3000, kNoWindow}, {1, 1, 5, 16, 2500, 2200},    {2, 1, 4, 256, 1100, kNoWindow},
      {1, 130, 4, 32, 0, kNoWindow},  {1, 70, 3, 24, 100, 64},      {3, 40, 8, 17, 60, 70},
      {1, 2, 33, 8, 4200, kNoWindow}, {9, 65, 1, 12, 0, 33},        {1, 1, 4, 64, 5000, kNoWindow},
      {1, 1, 3, 128, 2100, 1500},     {9, 1, 7, 32, 70, kNoWindow}, {1, 1, 1, 16, 9000, kNoWindow},
      {2, 1, 6, 48, 300, kNoWindow}};
  for (const auto& [B, T, heads, head_dim, start, window] : shapes)
    check_forward(draw_problem(uint64_t(T + start), B, T, heads, head_dim, start, window));
}

// A score far above all others, first seen late: the running maximum has to take it.
TEST(Attention, LargeScores) {
  reference::Attention r = draw_problem(3, 1, 3, 2, 8, 200, kNoWindow);
  for (int64_t j = 0; j < 8; ++j) r.keys[150 * 8 + j] = 60 * r.q[j];
  for (double& q : r.q) q *= 8;
  const auto truth = reference::attention(r);
  const Problem p(r);
  const double largest = *std::max_element(truth.log_sum.begin(), truth.log_sum.end());
  EXPECT_GT(largest, 1000);
  for_every_target([&] {
    // p's relative error is the absolute error of its score.
    expect_near(forward(p.attention()).y, truth.y, kEpsilon * 4 * largest, "y");
  });
}

struct Gradients {
  Doubles q, keys, values;  // keys and values: of the chunk's own rows, [B·T][head_dim]
};

// Starts every gradient at `before`, since the kernel adds to what is there, and takes it off again.
Gradients backward(const Problem& p, const Doubles& dy) {
  const float before = 0.25f;
  const Attention a = p.attention();
  const Outputs out = forward(a);
  const int64_t width = a.heads * a.head_dim, dq_stride = width + 3;
  const Floats dy_floats(dy.begin(), dy.end());
  Floats dq(a.B * a.T * dq_stride, before), dk(a.B * a.T * a.head_dim, before), dv(dk), scratch;
  scratch.assign(attention_backward_scratch(a), NAN);
  attention_backward(a, out.y.data(), out.log_sum.data(), dy_floats.data(), dq.data(), dq_stride, dk.data(),
                     dv.data(), scratch.data());
  Gradients g{Doubles(dy.size()), Doubles(dk.begin(), dk.end()), Doubles(dv.begin(), dv.end())};
  for (int64_t i = 0; i < a.B * a.T * width; ++i) g.q[i] = dq[i / width * dq_stride + i % width];
  for (Doubles* x : {&g.q, &g.keys, &g.values})
    for (double& v : *x) v -= before;
  return g;
}

double loss(const reference::Attention& r, const Doubles& dy) {
  const auto result = reference::attention(r);
  double sum = 0;
  for (size_t i = 0; i < dy.size(); ++i) sum += dy[i] * result.y[i];
  return sum;
}

// Where element i of a chunk's own rows lies in the cache.
int64_t in_cache(const reference::Attention& r, int64_t i) {
  const int64_t row = i / r.head_dim, b = row / r.T;
  return (b * r.capacity + r.start[b] + row % r.T) * r.head_dim + i % r.head_dim;
}

// The derivative along `direction`, of the queries (member q) or of the chunk's own rows of the cache.
double central_difference(reference::Attention r, Doubles reference::Attention::*member,
                          const Doubles& direction, const Doubles& dy) {
  constexpr double kStep = 1e-5;
  const Doubles at = r.*member;
  double value[2];
  for (int side = 0; side < 2; ++side) {
    for (size_t i = 0; i < direction.size(); ++i) {
      const size_t to = member == &reference::Attention::q ? i : size_t(in_cache(r, int64_t(i)));
      (r.*member)[to] = at[to] + (side == 0 ? kStep : -kStep) * direction[i];
    }
    value[side] = loss(r, dy);
  }
  return (value[0] - value[1]) / (2 * kStep);
}

Doubles reference::Attention::*const kMembers[] = {&reference::Attention::q, &reference::Attention::keys,
                                                   &reference::Attention::values};
Doubles Gradients::*const kGradients[] = {&Gradients::q, &Gradients::keys, &Gradients::values};
const char* const kNames[] = {"q", "keys", "values"};

double length(const Doubles& x) {
  double squares = 0;
  for (double v : x) squares += v * v;
  return std::sqrt(squares);
}

TEST(Attention, EveryGradientMatchesFiniteDifferences) {
  for (int64_t T : {1, 2, 3, 5}) {
    for (int64_t heads : {1, 2, 3, 5}) {
      for (int64_t head_dim : {1, 2, 3, 8}) {
        for (int64_t start : {0, 2}) {
          for (int64_t window : {int64_t(1), int64_t(3), kNoWindow}) {
            const reference::Attention r = draw_problem(uint64_t(T * 1000 + heads * 100 + head_dim),
                                                        1 + T % 2, T, heads, head_dim, start, window);
            SCOPED_TRACE(testing::Message() << "T " << T << " heads " << heads << " head_dim " << head_dim
                                            << " start " << start << " window " << window);
            Random random(5);
            const Doubles dy = draw(random, int64_t(r.q.size()), 1);
            const size_t own = size_t(r.B * r.T * r.head_dim);
            Doubles truth[3];
            for (int m = 0; m < 3; ++m) {
              const size_t size = m == 0 ? r.q.size() : own;
              for (size_t i = 0; i < size; ++i) {
                Doubles direction(size, 0.0);
                direction[i] = 1;
                truth[m].push_back(central_difference(r, kMembers[m], direction, dy));
              }
            }
            const Problem p(r);
            for_every_target([&] {
              const Gradients got = backward(p, dy);
              // Sums of at most T·heads·head_dim terms near 1, each with the relative error of p.
              const double allowed = 4 * tolerance(r) * std::sqrt(double(T * heads * head_dim));
              for (int m = 0; m < 3; ++m)
                for (size_t i = 0; i < truth[m].size(); ++i)
                  ASSERT_NEAR((got.*kGradients[m])[i], truth[m][i], allowed) << kNames[m] << "[" << i << "]";
            });
            if (testing::Test::HasFatalFailure()) return;
          }
        }
      }
    }
  }
}

TEST(Attention, GradientsOfLargerShapesAlongRandomDirections) {
  const int64_t shapes[][6] = {{1, 70, 4, 24, 0, kNoWindow},
                               {1, 40, 3, 17, 90, 70},
                               {2, 33, 8, 16, 5, kNoWindow},
                               {3, 9, 1, 40, 130, 100},
                               {1, 1, 8, 64, 200, kNoWindow}};
  for (const auto& [B, T, heads, head_dim, start, window] : shapes) {
    const reference::Attention r = draw_problem(uint64_t(T + start), B, T, heads, head_dim, start, window);
    SCOPED_TRACE(testing::Message() << "B " << B << " T " << T << " heads " << heads << " head_dim "
                                    << head_dim);
    Random random(5);
    const Doubles dy = draw(random, int64_t(r.q.size()), 1);
    Doubles directions[3];
    double truth[3];
    for (int m = 0; m < 3; ++m) {
      directions[m].resize(m == 0 ? r.q.size() : size_t(r.B * r.T * r.head_dim));
      for (double& v : directions[m]) v = random.below(2) == 0 ? -1 : 1;
      truth[m] = central_difference(r, kMembers[m], directions[m], dy);
    }
    const Problem p(r);
    for_every_target([&] {
      const Gradients got = backward(p, dy);
      for (int m = 0; m < 3; ++m) {
        const Doubles& g = got.*kGradients[m];
        double along = 0;
        for (size_t i = 0; i < g.size(); ++i) along += g[i] * directions[m][i];
        // Errors of elements are random in sign: they add up as their squares do.
        const double size = length(g) + std::sqrt(double(heads) * double(g.size()));
        ASSERT_NEAR(along, truth[m], 4 * tolerance(r) * size) << kNames[m];
      }
    });
    if (testing::Test::HasFatalFailure()) return;
  }
}

TEST(Attention, AnyChunkingAgrees) {
  const reference::Attention r = draw_problem(9, 1, 60, 4, 16, 30, 50);
  const Problem p(r);
  const auto truth = reference::attention(r);
  for_every_target([&] {
    for (int64_t chunk : {1, 2, 7, 16, 60}) {
      Floats y(truth.y.size());
      for (int64_t t = 0; t < r.T; t += chunk) {
        Attention a = p.attention();
        const int64_t start = r.start[0] + t;
        a.T = std::min(chunk, r.T - t);
        a.q += t * p.q_stride;
        a.start = &start;
        attention_forward(a, y.data() + t * r.heads * r.head_dim, nullptr);
      }
      expect_near(y, truth.y, tolerance(r), "y");
    }
  });
}

TEST(Attention, ThreadsDoNotChangeABit) {
  const int before = ThreadPool::instance().size();
  const int64_t shapes[][6] = {
      {1, 1, 8, 64, 4000, kNoWindow}, {1, 100, 8, 32, 0, kNoWindow}, {4, 60, 4, 32, 20, 50}};
  for (const auto& [B, T, heads, head_dim, start, window] : shapes) {
    const reference::Attention r = draw_problem(21, B, T, heads, head_dim, start, window);
    const Problem p(r);
    Random random(5);
    const Doubles dy = draw(random, int64_t(r.q.size()), 1);
    ThreadPool::instance().resize(1);
    const Outputs alone = forward(p.attention());
    const Gradients alone_gradients = backward(p, dy);
    for (int threads : {2, 3}) {
      ThreadPool::instance().resize(threads);
      const Outputs together = forward(p.attention());
      const Gradients gradients = backward(p, dy);
      EXPECT_EQ(together.y, alone.y);
      EXPECT_EQ(together.log_sum, alone.log_sum);
      for (int m = 0; m < 3; ++m)
        EXPECT_EQ(gradients.*kGradients[m], alone_gradients.*kGradients[m]) << kNames[m];
    }
  }
  ThreadPool::instance().resize(before);
}

TEST(Rotary, MatchesReferenceAtAnyPosition) {
  for (int64_t head_dim : {2, 4, 6, 8, 16, 18, 20, 64, 128, 256}) {
    for (int64_t first : {int64_t(0), int64_t(1000), int64_t(100'000), int64_t(1) << 24}) {
      for (bool inverse : {false, true}) {
        const int64_t B = 2, T = 5, heads = 3, width = heads * head_dim, x_stride = width + 3,
                      y_stride = width + 1;
        const std::vector<int64_t> positions = {first, first + 17};
        Random random(uint64_t(head_dim + first));
        const Doubles drawn = draw(random, B * T * x_stride, 1);
        const Floats x(drawn.begin(), drawn.end());
        for_every_target([&] {
          Floats y(B * T * y_stride, 7.0f);
          rotary(B, T, heads, head_dim, positions.data(), 10000.0f, inverse, x.data(), x_stride, y.data(),
                 y_stride);
          for (int64_t row = 0; row < B * T; ++row) {
            const int64_t position = positions[row / T] + row % T;
            // Angles are right to some head_dim roundings of a double of their size; sine and cosine to a
            // float's.
            const double allowed =
                4 * kEpsilon + double(position) * double(head_dim) * std::numeric_limits<double>::epsilon();
            for (int64_t h = 0; h < heads; ++h) {
              Doubles truth(drawn.begin() + row * x_stride + h * head_dim,
                            drawn.begin() + row * x_stride + (h + 1) * head_dim);
              reference::rotary(head_dim, position, 10000.0, inverse, truth.data());
              for (int64_t i = 0; i < head_dim; ++i)
                ASSERT_NEAR(y[row * y_stride + h * head_dim + i], truth[i], allowed)
                    << "position " << position;
            }
            ASSERT_EQ(y[row * y_stride + width], 7.0f);  // what lies between rows stays
          }
          Floats in_place = x;
          rotary(B, T, heads, head_dim, positions.data(), 10000.0f, inverse, in_place.data(), x_stride,
                 in_place.data(), x_stride);
          for (int64_t i = 0; i < B * T * width; ++i)
            ASSERT_EQ(in_place[i / width * x_stride + i % width], y[i / width * y_stride + i % width]);
        });
        if (testing::Test::HasFatalFailure()) return;
      }
    }
  }
}

TEST(Rotary, PositionAloneDecides) {
  const int64_t T = 40, width = 2 * 32;
  Random random(3);
  const Doubles drawn = draw(random, T * width, 1);
  const Floats x(drawn.begin(), drawn.end());
  Floats whole(x.size()), stepwise(x.size());
  const int64_t start = 123;
  rotary(1, T, 2, 32, &start, 10000.0f, false, x.data(), width, whole.data(), width);
  for (int64_t t = 0; t < T; ++t) {
    const int64_t position = start + t;
    rotary(1, 1, 2, 32, &position, 10000.0f, false, x.data() + t * width, width, stepwise.data() + t * width,
           width);
  }
  EXPECT_EQ(stepwise, whole);
}

}  // namespace
}  // namespace brood::kernels
