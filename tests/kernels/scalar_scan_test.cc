// The scalar scan against its double-precision reference: both forms, every gradient by finite differences of
// the reference, and the promises of the header (any cut, any number of threads, every SIMD target).
#include "brood/kernels/scalar_scan.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "tests/kernels/compare.h"
#include "tests/kernels/targets.h"
#include "tests/reference/scalar_scan.h"

namespace brood::kernels {
namespace {

constexpr double kEpsilon = std::numeric_limits<float>::epsilon();
using reference::ScalarScanResult;

// Random numbers that a float holds exactly, so that both sides see the same problem.
Numbers draw(Random& random, int64_t n, double low, double high) {
  Numbers x(static_cast<size_t>(n));
  for (double& v : x) v = double(float(random.uniform(low, high)));
  return x;
}

struct Shape {
  int64_t B, T, heads, groups, P, N;
};

std::ostream& operator<<(std::ostream& out, const Shape& s) {
  return out << "B " << s.B << " T " << s.T << " heads " << s.heads << " groups " << s.groups << " P " << s.P
             << " N " << s.N;
}

reference::ScalarScan draw_problem(uint64_t seed, const Shape& z) {
  Random random(seed);
  const int64_t rows = z.B * z.T;
  return {z.B,
          z.T,
          z.heads,
          z.groups,
          z.P,
          z.N,
          draw(random, rows * z.heads * z.P, -1, 1),
          draw(random, rows * z.groups * z.N, -1, 1),
          draw(random, rows * z.groups * z.N, -1, 1),
          draw(random, rows * z.heads, -2, -0.001),
          draw(random, rows * z.heads, 0, 1),
          draw(random, rows * z.heads, -1, 1),
          draw(random, z.B * z.heads * z.N * z.P, -1, 1)};
}

// The same problem as the kernels want it: v, k and q are columns of wider rows, as the projections leave
// them.
struct Problem {
  Shape z;
  int64_t wide;
  Floats vkq, log_decay, weight, skip, state;
  int64_t chunk = kScalarScanChunk;

  explicit Problem(const reference::ScalarScan& r)
      : z{r.B, r.T, r.heads, r.groups, r.P, r.N},
        wide(3 + r.heads * r.P + 2 * r.groups * r.N),
        vkq(size_t(r.B * r.T * wide), NAN),
        log_decay(r.log_decay.begin(), r.log_decay.end()),
        weight(r.weight.begin(), r.weight.end()),
        skip(r.skip.begin(), r.skip.end()),
        state(r.state.begin(), r.state.end()) {
    for (int64_t row = 0; row < r.B * r.T; ++row) {
      std::copy_n(r.v.data() + row * values(), values(), vkq.data() + row * wide + 3);
      std::copy_n(r.k.data() + row * keys(), keys(), vkq.data() + row * wide + key_column());
      std::copy_n(r.q.data() + row * keys(), keys(), vkq.data() + row * wide + query_column());
    }
  }
  int64_t values() const { return z.heads * z.P; }
  int64_t keys() const { return z.groups * z.N; }
  int64_t key_column() const { return 3 + values(); }
  int64_t query_column() const { return key_column() + keys(); }

  ScalarScan scan() const {
    return {.B = z.B,
            .T = z.T,
            .heads = z.heads,
            .groups = z.groups,
            .P = z.P,
            .N = z.N,
            .v = vkq.data() + 3,
            .v_stride = wide,
            .k = vkq.data() + key_column(),
            .k_stride = wide,
            .q = vkq.data() + query_column(),
            .q_stride = wide,
            .log_decay = log_decay.data(),
            .log_decay_stride = z.heads,
            .weight = weight.data(),
            .weight_stride = z.heads,
            .skip = skip.data(),
            .skip_stride = z.heads,
            .state_in = state.data(),
            .chunk = chunk};
  }
};

// Rows [from, from + steps) of a one-stream problem.
ScalarScan part_of(const Problem& p, int64_t from, int64_t steps, const float* state) {
  ScalarScan s = p.scan();
  s.T = steps;
  s.v += from * p.wide;
  s.k += from * p.wide;
  s.q += from * p.wide;
  s.log_decay += from * s.log_decay_stride;
  s.weight += from * s.weight_stride;
  s.skip += from * s.skip_stride;
  s.state_in = state;
  return s;
}

struct Outputs {
  Floats y, state, checkpoints;
};

Outputs forward(const ScalarScan& s) {
  Outputs out{Floats(size_t(s.B * s.T * s.heads * s.P), NAN), Floats(size_t(s.B * s.heads * s.N * s.P), NAN),
              Floats(size_t(scalar_scan_checkpoint_size(s)), NAN)};
  Floats scratch(size_t(scalar_scan_scratch(s)), NAN);
  scalar_scan_forward(s, out.y.data(), out.state.data(), out.checkpoints.data(), scratch.data());
  return out;
}

Outputs recurrence(const ScalarScan& s) {
  Outputs out{
      Floats(size_t(s.B * s.T * s.heads * s.P), NAN), Floats(size_t(s.B * s.heads * s.N * s.P), NAN), {}};
  scalar_scan_recurrence(s, out.y.data(), out.state.data());
  return out;
}

double largest(const Numbers& x) {
  double most = 0;
  for (double v : x) most = std::max(most, std::abs(v));
  return most;
}

// A state is a sum of at most T terms, each decayed by a product that one exponential (or T of them) makes: a
// few units each of the largest there is. y sums N of them, of random sign.
double value_tolerance(const reference::ScalarScan& r, const ScalarScanResult& truth) {
  const double terms = double(std::min<int64_t>(r.T, 64)) + std::sqrt(double(r.N)) * 2 + 8;
  return kEpsilon * terms * std::max({1.0, largest(truth.state), largest(truth.y)});
}

void expect_outputs(const Outputs& got, const ScalarScanResult& truth, double tolerance) {
  expect_close("y", got.y, truth.y, [&](size_t) { return tolerance; });
  expect_close("state_out", got.state, truth.state, [&](size_t) { return tolerance; });
}

void check_forward(const Shape& shape, const std::vector<int64_t>& chunks) {
  SCOPED_TRACE(testing::Message() << shape);
  const uint64_t seed = uint64_t(shape.T * 1000 + shape.P * 37 + shape.N);
  const reference::ScalarScan r = draw_problem(seed, shape);
  const ScalarScanResult truth = reference::scalar_scan(r);
  Problem p(r);
  for_every_target([&] {
    expect_outputs(recurrence(p.scan()), truth, value_tolerance(r, truth));
    for (int64_t chunk : chunks) {
      p.chunk = chunk;
      SCOPED_TRACE(testing::Message() << "chunk " << chunk);
      expect_outputs(forward(p.scan()), truth, value_tolerance(r, truth));
    }
  });
}

TEST(ScalarScan, BothFormsMatchTheReferenceOnAllSmallShapes) {
  for (int64_t T : {1, 2, 3, 4, 5, 8, 15, 16, 17, 33})
    for (int64_t P : {1, 2, 3, 4, 5, 8, 15, 16, 17, 33})
      for (int64_t N : {1, 2, 3, 7, 8, 9, 16, 17}) {
        const int64_t heads = 1 + (T + P + N) % 4, groups = heads == 4 ? 2 : heads == 3 ? 1 : heads;
        check_forward({1 + T % 2, T, heads, groups, P, N}, {16});
        if (testing::Test::HasFatalFailure()) return;
      }
}

TEST(ScalarScan, BothFormsMatchTheReferenceOnLargerShapes) {
  const Shape shapes[] = {{1, 200, 6, 1, 64, 128},
                          {2, 97, 4, 2, 80, 64},
                          {1, 130, 2, 2, 200, 24},
                          {3, 64, 3, 3, 31, 256},
                          {1, 300, 1, 1, 7, 5}};
  for (const Shape& shape : shapes) {
    check_forward(shape, {16, 32, 48, 64});
    if (testing::Test::HasFatalFailure()) return;
  }
}

// The inputs by name, so that loops can go over them.
Numbers reference::ScalarScan::*const kMembers[] = {
    &reference::ScalarScan::v,         &reference::ScalarScan::k,      &reference::ScalarScan::q,
    &reference::ScalarScan::log_decay, &reference::ScalarScan::weight, &reference::ScalarScan::skip,
    &reference::ScalarScan::state};
const char* const kNames[] = {"v", "k", "q", "log_decay", "weight", "skip", "state_in"};
constexpr size_t kInputs = std::size(kMembers);

struct Loss {
  Numbers dy, dstate;
  double operator()(const reference::ScalarScan& r) const {
    const ScalarScanResult result = reference::scalar_scan(r);
    return dot(dy, result.y) + (dstate.empty() ? 0 : dot(dstate, result.state));
  }
};

Loss draw_loss(const reference::ScalarScan& r, bool with_state) {
  Random random(7);
  return {draw(random, int64_t(r.v.size()), -1, 1),
          draw(random, with_state ? int64_t(r.state.size()) : 0, -1, 1)};
}

// Every gradient, in the order of kMembers. They start at `before`, since the kernel adds to what is there,
// which is taken off again.
std::vector<Floats> gradients_of(const Problem& p, const Loss& loss) {
  const float before = 0.25f;
  const ScalarScan s = p.scan();
  const Outputs out = forward(s);
  const Floats dy(loss.dy.begin(), loss.dy.end()), dstate(loss.dstate.begin(), loss.dstate.end());
  Floats vkq(p.vkq.size(), before), log_decay(p.log_decay.size(), before), weight(p.weight.size(), before),
      skip(p.skip.size(), before), state(p.state.size(), before);
  const ScalarScanGradients g{.v = vkq.data() + 3,
                              .v_stride = p.wide,
                              .k = vkq.data() + p.key_column(),
                              .k_stride = p.wide,
                              .q = vkq.data() + p.query_column(),
                              .q_stride = p.wide,
                              .log_decay = log_decay.data(),
                              .log_decay_stride = s.heads,
                              .weight = weight.data(),
                              .weight_stride = s.heads,
                              .skip = skip.data(),
                              .skip_stride = s.heads,
                              .state_in = state.data()};
  Floats scratch(size_t(scalar_scan_backward_scratch(s)), NAN);
  scalar_scan_backward(s, out.y.data(), out.state.data(), out.checkpoints.data(), dy.data(),
                       dstate.empty() ? nullptr : dstate.data(), g, scratch.data());
  auto columns = [&](int64_t begin, int64_t width) {
    Floats x;
    for (int64_t row = 0; row < s.B * s.T; ++row)
      x.insert(x.end(), vkq.begin() + row * p.wide + begin, vkq.begin() + row * p.wide + begin + width);
    return x;
  };
  std::vector<Floats> all = {columns(3, p.values()),
                             columns(p.key_column(), p.keys()),
                             columns(p.query_column(), p.keys()),
                             log_decay,
                             weight,
                             skip,
                             state};
  for (Floats& x : all)
    for (float& v : x) v -= before;
  return all;
}

constexpr double kStep = 1e-5;

double central_difference(reference::ScalarScan r, Numbers reference::ScalarScan::*member,
                          const Numbers& direction, const Loss& loss) {
  const Numbers at = r.*member;
  double value[2];
  for (int side = 0; side < 2; ++side) {
    for (size_t i = 0; i < at.size(); ++i)
      (r.*member)[i] = at[i] + (side == 0 ? kStep : -kStep) * direction[i];
    value[side] = loss(r);
  }
  return (value[0] - value[1]) / (2 * kStep);
}

// A gradient sums products of states, keys and values over P, N or the heads of a group; that of a decay also
// over the steps after it.
double gradient_tolerance(const reference::ScalarScan& r, double most) {
  return kEpsilon * (32 + 4 * double(std::min<int64_t>(r.T, 64) + r.N + r.P + r.heads)) * std::max(1.0, most);
}

TEST(ScalarScan, EveryGradientMatchesFiniteDifferences) {
  for (int64_t T : {1, 2, 3, 5, 18}) {
    for (int64_t P : {1, 2, 5}) {
      for (int64_t N : {1, 3, 4}) {
        for (const auto& [heads, groups] : {std::pair<int64_t, int64_t>{1, 1}, {2, 2}, {6, 1}}) {
          for (bool with_state : {false, true}) {
            if (T == 18 && (P == 5 || heads == 6)) continue;
            const Shape shape{1 + N % 2, T, heads, groups, P, N};
            const reference::ScalarScan r = draw_problem(uint64_t(100 * T + 10 * P + N + heads), shape);
            const Loss loss = draw_loss(r, with_state);
            SCOPED_TRACE(testing::Message() << shape << (with_state ? ", with a final state" : ""));
            std::vector<Numbers> truth(kInputs);
            double most = 0;
            for (size_t m = 0; m < kInputs; ++m) {
              const size_t size = (r.*kMembers[m]).size();
              for (size_t i = 0; i < size; ++i) {
                Numbers direction(size, 0.0);
                direction[i] = 1;
                truth[m].push_back(central_difference(r, kMembers[m], direction, loss));
              }
              most = std::max(most, largest(truth[m]));
            }
            Problem p(r);
            p.chunk = 16;
            // The difference quotient itself is good to its second order and to the loss's rounding.
            const double tolerance = gradient_tolerance(r, most) + 1e-8;
            for_every_target([&] {
              const std::vector<Floats> got = gradients_of(p, loss);
              for (size_t m = 0; m < kInputs; ++m)
                expect_close(kNames[m], got[m], truth[m], [&](size_t) { return tolerance; });
            });
            if (testing::Test::HasFatalFailure()) return;
          }
        }
      }
    }
  }
}

// Larger shapes, past chunks, tiles and tasks: derivatives along random directions of signs.
TEST(ScalarScan, GradientsOfLargerShapesAlongRandomDirections) {
  const Shape shapes[] = {
      {1, 70, 10, 1, 17, 20}, {2, 33, 6, 3, 64, 32}, {1, 100, 2, 2, 40, 128}, {2, 3, 4, 2, 5, 9}};
  for (const Shape& shape : shapes) {
    const reference::ScalarScan r = draw_problem(uint64_t(shape.T), shape);
    const Loss loss = draw_loss(r, true);
    SCOPED_TRACE(testing::Message() << shape);
    Random random(3);
    std::vector<Numbers> directions;
    Numbers truth;
    for (auto member : kMembers) {
      Numbers& direction = directions.emplace_back((r.*member).size());
      for (double& v : direction) v = random.below(2) == 0 ? -1 : 1;
      truth.push_back(central_difference(r, member, direction, loss));
    }
    Problem p(r);
    for_every_target([&] {
      for (int64_t chunk : {16, 48}) {
        p.chunk = chunk;
        const std::vector<Floats> got = gradients_of(p, loss);
        for (size_t m = 0; m < kInputs; ++m) {
          double squares = 0;
          for (float v : got[m]) squares += double(v) * double(v);
          const double norm = std::sqrt(squares + double(got[m].size()));
          // Each element's error is random in sign: theirs add up as their squares do.
          ASSERT_NEAR(dot(widen(got[m]), directions[m]), truth[m], gradient_tolerance(r, 1) * norm)
              << kNames[m] << ", chunk " << chunk;
        }
      }
    });
    if (testing::Test::HasFatalFailure()) return;
  }
}

// One row of decays, weights and skips for all steps; and none at all.
TEST(ScalarScan, ConstantsOfTheHeads) {
  const Shape shape{2, 37, 4, 2, 12, 10};
  reference::ScalarScan r = draw_problem(23, shape);
  for (size_t i = 0; i < r.log_decay.size(); ++i) r.log_decay[i] = r.log_decay[i % 4];
  for (size_t i = 0; i < r.skip.size(); ++i) r.skip[i] = r.skip[i % 4];
  std::fill(r.weight.begin(), r.weight.end(), 1.0);
  const ScalarScanResult truth = reference::scalar_scan(r);
  const Loss loss = draw_loss(r, false);
  Problem p(r);
  const std::vector<Floats> per_step = gradients_of(p, loss);
  ScalarScan s = p.scan();
  s.log_decay_stride = s.skip_stride = 0;
  s.weight = nullptr;
  const Outputs out = forward(s);
  expect_outputs(out, truth, value_tolerance(r, truth));
  ScalarScanGradients g{};
  Floats dlog_decay(4), dskip(4), scratch(size_t(scalar_scan_backward_scratch(s)));
  const Floats dy(loss.dy.begin(), loss.dy.end());
  g.log_decay = dlog_decay.data();
  g.skip = dskip.data();
  scalar_scan_backward(s, out.y.data(), out.state.data(), out.checkpoints.data(), dy.data(), nullptr, g,
                       scratch.data());
  for (size_t h = 0; h < 4; ++h) {
    double log_decay = 0, skip = 0;
    for (size_t i = h; i < r.skip.size(); i += 4) {
      log_decay += double(per_step[3][i]);
      skip += double(per_step[5][i]);
    }
    EXPECT_NEAR(dlog_decay[h], log_decay, 1e-5 * (1 + std::abs(log_decay)));
    EXPECT_NEAR(dskip[h], skip, 1e-5 * (1 + std::abs(skip)));
  }
  r.skip.assign(r.skip.size(), 0);
  s.skip = nullptr;
  const ScalarScanResult without = reference::scalar_scan(r);
  expect_outputs(forward(s), without, value_tolerance(r, without));
}

// The recurrence gives the same bits however it is cut; so does the chunk form, cut between its chunks.
TEST(ScalarScan, CutsThatChangeNoBit) {
  for (int64_t P : {16, 21}) {
    const Problem p(draw_problem(5, {1, 96, 3, 1, P, 10}));
    for_every_target([&] {
      const Outputs steps = recurrence(p.scan()), chunks = forward(p.scan());
      for (int64_t cut : {1, 2, 7, 32, 64}) {
        Floats y(steps.y.size()), state = p.state, by_chunks(y.size()), chunk_state = p.state;
        for (int64_t t = 0; t < p.z.T; t += cut) {
          const int64_t steps_of_part = std::min(cut, p.z.T - t), at = t * p.values();
          // The state is replaced in place.
          scalar_scan_recurrence(part_of(p, t, steps_of_part, state.data()), y.data() + at, state.data());
          const ScalarScan part = part_of(p, t, steps_of_part, chunk_state.data());
          Floats scratch(size_t(scalar_scan_scratch(part)));
          scalar_scan_forward(part, by_chunks.data() + at, chunk_state.data(), nullptr, scratch.data());
        }
        ASSERT_EQ(y, steps.y) << "cut " << cut;
        ASSERT_EQ(state, steps.state) << "cut " << cut;
        if (cut % kScalarScanChunk != 0) continue;
        ASSERT_EQ(by_chunks, chunks.y) << "cut " << cut;
        ASSERT_EQ(chunk_state, chunks.state) << "cut " << cut;
      }
    });
  }
}

// Backward through two parts, handing the state's gradient over, is backward through the whole.
TEST(ScalarScan, StateGradientJoinsParts) {
  const reference::ScalarScan r = draw_problem(11, {1, 50, 3, 1, 24, 6});
  const Loss loss = draw_loss(r, true);
  const Problem p(r);
  const Floats dy(loss.dy.begin(), loss.dy.end()), dstate(loss.dstate.begin(), loss.dstate.end());
  const int64_t cut = 23;
  const Floats whole = gradients_of(p, loss)[6];
  auto state_gradient = [&](const ScalarScan& s, const float* dy_rows, const float* dstate_out) {
    const Outputs out = forward(s);
    ScalarScanGradients g{};
    Floats state(p.state.size(), 0.0f), scratch(size_t(scalar_scan_backward_scratch(s)));
    g.state_in = state.data();
    scalar_scan_backward(s, out.y.data(), out.state.data(), out.checkpoints.data(), dy_rows, dstate_out, g,
                         scratch.data());
    return state;
  };
  const ScalarScan head = part_of(p, 0, cut, p.state.data());
  const Outputs first = forward(head);
  const Floats between = state_gradient(part_of(p, cut, p.z.T - cut, first.state.data()),
                                        dy.data() + cut * p.values(), dstate.data());
  const Floats at_start = state_gradient(head, dy.data(), between.data());
  const double tolerance = gradient_tolerance(r, largest(widen(whole)));
  expect_close("state_in", at_start, widen(whole), [&](size_t) { return tolerance; });
}

TEST(ScalarScan, ThreadsDoNotChangeABit) {
  const reference::ScalarScan r = draw_problem(13, {2, 70, 10, 2, 40, 48});
  const Loss loss = draw_loss(r, true);
  const Problem p(r);
  expect_same_for_threads([&] {
    Floats all;
    const Outputs out = forward(p.scan()), steps = recurrence(p.scan());
    for (const Floats* x : {&out.y, &out.state, &out.checkpoints, &steps.y, &steps.state})
      all.insert(all.end(), x->begin(), x->end());
    for (const Floats& x : gradients_of(p, loss)) all.insert(all.end(), x.begin(), x.end());
    return all;
  });
}

// Decays whose products underflow, −∞ to begin a new document, and none at all.
TEST(ScalarScan, ExtremeDecays) {
  reference::ScalarScan r = draw_problem(17, {1, 60, 2, 1, 20, 6});
  for (size_t i = 0; i < r.log_decay.size(); ++i)
    r.log_decay[i] = i % 7 == 0 ? -150 : i % 11 == 0 ? 0 : i == 33 || i == 62 ? -INFINITY : -1e-4;
  const ScalarScanResult truth = reference::scalar_scan(r);
  const Loss loss = draw_loss(r, true);
  Problem p(r);
  for_every_target([&] {
    for (int64_t chunk : {16, 64}) {
      p.chunk = chunk;
      expect_outputs(forward(p.scan()), truth, value_tolerance(r, truth));
      expect_outputs(recurrence(p.scan()), truth, value_tolerance(r, truth));
      for (const Floats& gradient : gradients_of(p, loss))
        for (float v : gradient) ASSERT_TRUE(std::isfinite(v));
    }
  });
}

}  // namespace
}  // namespace brood::kernels
