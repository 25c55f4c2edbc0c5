// The selective scan against its double-precision reference: values, every gradient by finite differences of
// the reference, and the promises of the header (any chunking, any number of threads, every SIMD target).
#include "brood/kernels/selective_scan.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "brood/base/random.h"
#include "brood/base/threads.h"
#include "tests/kernels/central_difference.h"
#include "tests/kernels/scan_check.h"
#include "tests/reference/selective_scan.h"

namespace brood::kernels {
namespace {

constexpr double kEpsilon = std::numeric_limits<float>::epsilon();
using Doubles = Numbers;

reference::SelectiveScan draw_problem(uint64_t seed, int64_t B, int64_t T, int64_t C, int64_t N, bool gate) {
  Random random(seed);
  return {B,
          T,
          C,
          N,
          gate,
          draw(random, B * T * C, -1, 1),
          draw(random, B * T * C, -3, 1),
          draw(random, C, -1, 1),
          draw(random, N * C, -3, -0.05),
          draw(random, B * T * N, -1, 1),
          draw(random, B * T * N, -1, 1),
          draw(random, C, -1, 1),
          draw(random, B * T * C, -2, 2),
          draw(random, B * N * C, -1, 1)};
}

// The same problem as the kernels want it: B_t, C_t and z are columns of wider rows, as the projections leave
// them.
struct Problem {
  int64_t B, T, C, N;
  bool gate;
  Floats x, delta, delta_bias, A, bc, D, z, h;
  int64_t bc_stride, z_stride;

  explicit Problem(const reference::SelectiveScan& r)
      : B(r.B), T(r.T), C(r.C), N(r.N), gate(r.gate), bc_stride(3 + 2 * r.N), z_stride(2 * r.C + 1) {
    x.assign(r.x.begin(), r.x.end());
    delta.assign(r.delta.begin(), r.delta.end());
    delta_bias.assign(r.delta_bias.begin(), r.delta_bias.end());
    A.assign(r.A.begin(), r.A.end());
    D.assign(r.D.begin(), r.D.end());
    h.assign(r.h.begin(), r.h.end());
    bc.assign(size_t(B * T * bc_stride), NAN);
    z.assign(size_t(B * T * z_stride), NAN);
    for (int64_t row = 0; row < B * T; ++row) {
      for (int64_t n = 0; n < N; ++n) {
        bc[row * bc_stride + 3 + n] = float(r.input[row * N + n]);
        bc[row * bc_stride + 3 + N + n] = float(r.output[row * N + n]);
      }
      for (int64_t c = 0; c < C; ++c) z[row * z_stride + C + c] = float(r.z[row * C + c]);
    }
  }

  SelectiveScan scan() const {
    return {B,
            T,
            C,
            N,
            x.data(),
            delta.data(),
            delta_bias.data(),
            A.data(),
            bc.data() + 3,
            bc.data() + 3 + N,
            bc_stride,
            D.data(),
            gate ? z.data() + C : nullptr,
            z_stride,
            h.data()};
  }
};

struct Outputs {
  Floats y, h, checkpoints;
};

Outputs forward(const SelectiveScan& scan, bool recording) {
  Outputs out{Floats(scan.B * scan.T * scan.C, NAN), Floats(scan.B * scan.N * scan.C, NAN), {}};
  if (recording) out.checkpoints.assign(selective_scan_checkpoint_size(scan), NAN);
  selective_scan_forward(scan, out.y.data(), out.h.data(), recording ? out.checkpoints.data() : nullptr);
  return out;
}

// Gradients by name, in the layout of the reference's inputs.
struct Gradients {
  Doubles x, delta, delta_bias, A, input, output, D, z, h;
  std::vector<Doubles*> all() { return {&x, &delta, &delta_bias, &A, &input, &output, &D, &z, &h}; }
};
const char* const kNames[] = {"x", "delta", "delta_bias", "A", "input", "output", "D", "z", "h_in"};

// Starts every gradient at `before`, since the kernel adds to what is there, and takes it off again.
Gradients backward(const Problem& p, const Floats& checkpoints, const Floats& dy, const float* dh_out) {
  const float before = 0.25f;
  const SelectiveScan scan = p.scan();
  Floats x(p.x.size(), before), delta(p.x.size(), before), bias(p.C, before), A(p.A.size(), before),
      bc(p.bc.size(), before), D(p.C, before), z(p.z.size(), before), h(p.h.size(), before);
  const SelectiveScanGradients g{x.data(),    delta.data(),  bias.data(),
                                 A.data(),    bc.data() + 3, bc.data() + 3 + p.N,
                                 p.bc_stride, D.data(),      p.gate ? z.data() + p.C : nullptr,
                                 p.z_stride,  h.data()};
  Floats scratch(selective_scan_backward_scratch(scan), NAN);
  selective_scan_backward(scan, checkpoints.data(), dy.data(), dh_out, g, scratch.data());
  auto took = [&](const Floats& from) {
    Doubles to(from.begin(), from.end());
    for (double& v : to) v -= before;
    return to;
  };
  Gradients out{
      took(x), took(delta),         took(bias), took(A), Doubles(p.B * p.T * p.N), Doubles(p.B * p.T * p.N),
      took(D), Doubles(p.x.size()), took(h)};
  for (int64_t row = 0; row < p.B * p.T; ++row) {
    for (int64_t n = 0; n < p.N; ++n) {
      out.input[row * p.N + n] = bc[row * p.bc_stride + 3 + n] - before;
      out.output[row * p.N + n] = bc[row * p.bc_stride + 3 + p.N + n] - before;
    }
    for (int64_t c = 0; c < p.C; ++c) out.z[row * p.C + c] = z[row * p.z_stride + p.C + c] - before;
  }
  return out;
}

// Each step adds rounding errors of a few units of its own size to the state, the decay forgets, and y sums N
// terms.
double value_tolerance(const reference::SelectiveScan& r, const reference::SelectiveScanResult& truth) {
  const double largest_term = std::max({1.0, largest(truth.h), largest(truth.y)});
  return kEpsilon * 4 * double(std::min<int64_t>(r.T, 32) + r.N) * largest_term;
}

void expect_near(const Floats& got, const Doubles& truth, double tolerance, const char* name) {
  ASSERT_EQ(got.size(), truth.size());
  for (size_t i = 0; i < got.size(); ++i) ASSERT_NEAR(got[i], truth[i], tolerance) << name << "[" << i << "]";
}

TEST(SelectiveScan, ForwardMatchesReferenceOnAllSmallShapes) {
  for (int64_t T : {1, 2, 3, 4, 5, 16, 17, 33}) {
    for (int64_t C : {1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 47, 64, 69}) {
      for (int64_t N : {1, 2, 3, 5, 8, 16}) {
        const bool gate = (T + C + N) % 2 == 0;
        reference::SelectiveScan r =
            draw_problem(uint64_t(T * 10000 + C * 100 + N), 1 + T % 2, T, C, N, gate);
        const auto truth = reference::selective_scan(r);
        const Problem p(r);
        SCOPED_TRACE(testing::Message() << "T " << T << " C " << C << " N " << N);
        for_every_target([&] {
          const Outputs out = forward(p.scan(), false);
          expect_near(out.y, truth.y, value_tolerance(r, truth), "y");
          expect_near(out.h, truth.h, value_tolerance(r, truth), "h_out");
        });
        if (testing::Test::HasFatalFailure()) return;
      }
    }
  }
}

struct Loss {
  Doubles dy, dh;
  double operator()(const reference::SelectiveScan& r) const {
    const auto result = reference::selective_scan(r);
    double sum = 0;
    for (size_t i = 0; i < dy.size(); ++i) sum += dy[i] * result.y[i];
    for (size_t i = 0; i < dh.size(); ++i) sum += dh[i] * result.h[i];
    return sum;
  }
};

Loss draw_loss(const reference::SelectiveScan& r, bool with_state) {
  Random random(7);
  return {draw(random, r.B * r.T * r.C, -1, 1), draw(random, with_state ? r.B * r.N * r.C : 0, -1, 1)};
}

Gradients gradients_of_kernel(const reference::SelectiveScan& r, const Loss& loss) {
  const Problem p(r);
  const Outputs out = forward(p.scan(), true);
  const Floats dy(loss.dy.begin(), loss.dy.end()), dh(loss.dh.begin(), loss.dh.end());
  return backward(p, out.checkpoints, dy, dh.empty() ? nullptr : dh.data());
}

Doubles reference::SelectiveScan::*const kMembers[] = {
    &reference::SelectiveScan::x, &reference::SelectiveScan::delta, &reference::SelectiveScan::delta_bias,
    &reference::SelectiveScan::A, &reference::SelectiveScan::input, &reference::SelectiveScan::output,
    &reference::SelectiveScan::D, &reference::SelectiveScan::z,     &reference::SelectiveScan::h};

// A gradient is a sum of at most B·T·max(N, C) terms, each with the rounding errors of the states it comes
// from.
double gradient_tolerance(const reference::SelectiveScan& r, Gradients& truth) {
  double most = 1;
  for (Doubles* g : truth.all()) most = std::max(most, largest(*g));
  return kEpsilon * 4 * double(std::min<int64_t>(r.T, 32) + r.N + r.B) * most;
}

TEST(SelectiveScan, EveryGradientMatchesFiniteDifferences) {
  for (int64_t T : {1, 2, 3, 5}) {
    for (int64_t C : {1, 2, 3, 5}) {
      for (int64_t N : {1, 2, 3, 4}) {
        for (int variant = 0; variant < 4; ++variant) {
          const bool gate = variant % 2 == 1, with_state = variant >= 2;
          const reference::SelectiveScan r =
              draw_problem(uint64_t(1000 * T + 100 * C + 10 * N + variant), 1 + N % 2, T, C, N, gate);
          const Loss loss = draw_loss(r, with_state);
          SCOPED_TRACE(testing::Message() << "T " << T << " C " << C << " N " << N << " variant " << variant);
          Gradients truth;
          for (size_t m = 0; m < std::size(kMembers); ++m) {
            const size_t size = (r.*kMembers[m]).size();
            for (size_t i = 0; i < size; ++i) {
              Doubles direction(size, 0.0);
              direction[i] = 1;
              truth.all()[m]->push_back(central_difference(r, kMembers[m], direction, loss));
            }
          }
          const double tolerance = gradient_tolerance(r, truth);
          for_every_target([&] {
            Gradients got = gradients_of_kernel(r, loss);
            for (size_t m = 0; m < std::size(kMembers); ++m)
              for (size_t i = 0; i < truth.all()[m]->size(); ++i)
                ASSERT_NEAR((*got.all()[m])[i], (*truth.all()[m])[i], tolerance)
                    << kNames[m] << "[" << i << "]";
          });
          if (testing::Test::HasFatalFailure()) return;
        }
      }
    }
  }
}

// Larger shapes, past checkpoints, blocks and tasks: derivatives along random directions of signs.
TEST(SelectiveScan, GradientsOfLargerShapesAlongRandomDirections) {
  const int64_t shapes[][4] = {{1, 16, 16, 16}, {1, 17, 21, 5}, {2, 33, 32, 3},   {1, 70, 67, 16},
                               {3, 5, 133, 9},  {1, 40, 8, 64}, {1, 19, 20, 256}, {2, 1, 48, 16},
                               {1, 2, 129, 1},  {1, 65, 36, 7}};
  for (const auto& [B, T, C, N] : shapes) {
    const reference::SelectiveScan r = draw_problem(uint64_t(B + T + C + N), B, T, C, N, true);
    const Loss loss = draw_loss(r, true);
    SCOPED_TRACE(testing::Message() << "B " << B << " T " << T << " C " << C << " N " << N);
    Random random(3);
    std::vector<Doubles> directions;
    Doubles truth;
    for (auto member : kMembers) {
      Doubles& direction = directions.emplace_back((r.*member).size());
      for (double& v : direction) v = random.below(2) == 0 ? -1 : 1;
      truth.push_back(central_difference(r, member, direction, loss));
    }
    for_every_target([&] {
      Gradients got = gradients_of_kernel(r, loss);
      for (size_t m = 0; m < std::size(kMembers); ++m) {
        double along = 0, squares = 0;
        for (size_t i = 0; i < directions[m].size(); ++i) {
          along += (*got.all()[m])[i] * directions[m][i];
          squares += (*got.all()[m])[i] * (*got.all()[m])[i];
        }
        // Each element's error is random in sign: theirs add up as their squares do.
        const double tolerance = kEpsilon * 8 * double(std::min<int64_t>(T, 32) + N) *
                                 std::sqrt(squares + double(directions[m].size()));
        ASSERT_NEAR(along, truth[m], tolerance) << kNames[m];
      }
    });
    if (testing::Test::HasFatalFailure()) return;
  }
}

// Rows [from, from + steps) of a one-stream problem.
SelectiveScan chunk_of(const Problem& p, int64_t from, int64_t steps, const float* h) {
  SelectiveScan s = p.scan();
  s.T = steps;
  s.x += from * p.C;
  s.delta += from * p.C;
  s.input += from * p.bc_stride;
  s.output += from * p.bc_stride;
  if (s.z != nullptr) s.z += from * p.z_stride;
  s.h_in = h;
  return s;
}

TEST(SelectiveScan, AnyChunkingGivesTheSameBits) {
  for (int64_t C : {21, 64, 96}) {
    const Problem p(draw_problem(5, 1, 100, C, 16, true));
    for_every_target([&] {
      const Outputs whole = forward(p.scan(), true);
      for (int64_t chunk : {1, 2, 7, 16, 64}) {
        Floats y(whole.y.size()), h = p.h;
        for (int64_t t = 0; t < p.T; t += chunk) {
          const SelectiveScan s = chunk_of(p, t, std::min(chunk, p.T - t), h.data());
          selective_scan_forward(s, y.data() + t * C, h.data(), nullptr);  // the state is replaced in place
        }
        ASSERT_EQ(y, whole.y) << "chunks of " << chunk;
        ASSERT_EQ(h, whole.h) << "chunks of " << chunk;
      }
    });
  }
}

// Backward through two chunks, handing the state's gradient over, is backward through the whole.
TEST(SelectiveScan, StateGradientJoinsChunks) {
  const reference::SelectiveScan r = draw_problem(11, 1, 50, 24, 6, true);
  const Loss loss = draw_loss(r, true);
  const Problem p(r);
  const Floats dy(loss.dy.begin(), loss.dy.end()), dh(loss.dh.begin(), loss.dh.end());
  const int64_t cut = 23;
  Gradients whole = gradients_of_kernel(r, loss);

  const Outputs first = forward(chunk_of(p, 0, cut, p.h.data()), true);
  auto state_gradient = [&](const SelectiveScan& s, const Floats& checkpoints, const float* dy_rows,
                            const float* dh_out) {
    SelectiveScanGradients g{};
    Floats h(p.h.size(), 0.0f), scratch(selective_scan_backward_scratch(s));
    g.h_in = h.data();
    selective_scan_backward(s, checkpoints.data(), dy_rows, dh_out, g, scratch.data());
    return h;
  };
  const SelectiveScan tail = chunk_of(p, cut, p.T - cut, first.h.data());
  const Floats between =
      state_gradient(tail, forward(tail, true).checkpoints, dy.data() + cut * p.C, dh.data());
  const Floats at_start =
      state_gradient(chunk_of(p, 0, cut, p.h.data()), first.checkpoints, dy.data(), between.data());
  expect_near(at_start, whole.h, gradient_tolerance(r, whole), "h_in");
}

TEST(SelectiveScan, ThreadsDoNotChangeABit) {
  const reference::SelectiveScan r = draw_problem(13, 2, 70, 200, 16, true);
  const Loss loss = draw_loss(r, true);
  const Problem p(r);
  expect_same_for_threads([&] {
    const Outputs out = forward(p.scan(), true);
    Gradients gradients = gradients_of_kernel(r, loss);
    Floats all = out.y;
    for (const Floats* more : {&out.h, &out.checkpoints}) all.insert(all.end(), more->begin(), more->end());
    for (const Doubles* g : gradients.all()) all.insert(all.end(), g->begin(), g->end());
    return all;
  });
}

// Steps so long that the decay vanishes, and a step of nothing at all.
TEST(SelectiveScan, ExtremeSteps) {
  reference::SelectiveScan r = draw_problem(17, 1, 6, 40, 4, false);
  for (size_t i = 0; i < r.delta.size(); ++i) r.delta[i] = i % 3 == 0 ? 900.0 : i % 3 == 1 ? -90.0 : 21.0;
  for (size_t i = 0; i < r.A.size(); ++i) r.A[i] = i % 2 == 0 ? -16.0 : -0.001;
  const auto truth = reference::selective_scan(r);
  const Problem p(r);
  for_every_target([&] {
    const Outputs out = forward(p.scan(), true);
    // exp(ΔA) carries the rounding of its argument, at most 900·0.001 here where it is not negligible.
    const double tolerance = value_tolerance(r, truth);
    expect_near(out.y, truth.y, tolerance, "y");
    expect_near(out.h, truth.h, tolerance, "h_out");
    for (float v : out.h) EXPECT_TRUE(std::isfinite(v));
  });
}

}  // namespace
}  // namespace brood::kernels
