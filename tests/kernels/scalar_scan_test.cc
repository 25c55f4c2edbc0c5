// The scalar scan against its double-precision reference in both forms, and the promises of the header (any
// cut, any number of threads, every SIMD target).
#include "brood/tensor/arena.h"
#include "tests/kernels/scalar_scan_problem.h"
#include "tests/kernels/targets.h"

namespace brood::kernels {
namespace {

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

// States of whole tiles that begin where vectors do are worked on as they lie; the others are copied.
TEST(ScalarScan, WhereAStateLiesChangesNoBit) {
  const Problem p(draw_problem(19, {2, 150, 4, 2, 32, 48}));
  const int64_t size = int64_t(p.state.size());
  Arena arena;
  float *in = arena.floats(size + 1), *out = arena.floats(size + 1);
  for_every_target([&] {
    Outputs at[2];
    for (int64_t offset : {0, 1}) {
      ScalarScan s = p.scan();
      std::copy(p.state.begin(), p.state.end(), in + offset);
      s.state_in = in + offset;
      Outputs& to = at[offset] = forward(s);
      Floats scratch(size_t(scalar_scan_scratch(s))), y(to.y.size());
      scalar_scan_forward(s, y.data(), out + offset, to.checkpoints.data(), scratch.data());
      ASSERT_EQ(y, to.y);
      ASSERT_EQ(Floats(out + offset, out + offset + size), to.state);
      scalar_scan_forward(s, y.data(), in + offset, nullptr, scratch.data());  // in place
      ASSERT_EQ(y, to.y);
      ASSERT_EQ(Floats(in + offset, in + offset + size), to.state);
    }
    ASSERT_EQ(at[0].y, at[1].y);
    ASSERT_EQ(at[0].state, at[1].state);
    ASSERT_EQ(at[0].checkpoints, at[1].checkpoints);
  });
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

// The trapezoid of Mamba-3 as the header says it is to be made: row 0 is the last step before the chunk.
TEST(ScalarScan, TheTrapezoidIsAScanOverOneMoreRow) {
  const int64_t T = 20, P = 3, N = 4;
  reference::ScalarScan r = draw_problem(29, {1, T + 1, 1, 1, P, N});
  Random random(31);
  const Numbers beta = draw(random, T + 2, 0, 1), gamma = draw(random, T + 1, 0, 1);
  const double D = 0.5;
  const auto key = [&](int64_t t, int64_t n) { return r.k[size_t(t * N + n)]; };
  Numbers state = r.state, y;
  for (int64_t t = 1; t <= T; ++t) {
    for (int64_t p = 0; p < P; ++p) {
      double sum = D * r.v[size_t(t * P + p)];
      for (int64_t n = 0; n < N; ++n) {
        double& s = state[size_t(n * P + p)];
        s += beta[size_t(t)] * key(t - 1, n) * r.v[size_t((t - 1) * P + p)];
        s = std::exp(r.log_decay[size_t(t)]) * s + gamma[size_t(t)] * key(t, n) * r.v[size_t(t * P + p)];
        sum += s * r.q[size_t(t * N + n)];
      }
      y.push_back(sum);
    }
  }
  r.log_decay[0] = 0;
  for (int64_t t = 0; t <= T; ++t) {
    const double next = t < T ? beta[size_t(t + 1)] : 0;
    double product = 0;
    for (int64_t n = 0; n < N; ++n) product += key(t, n) * r.q[size_t(t * N + n)];
    r.weight[size_t(t)] = (t > 0 ? gamma[size_t(t)] : 0) + next;
    r.skip[size_t(t)] = D - next * product;
  }
  const Outputs out = forward(Problem(r).scan());
  const double tolerance = value_tolerance(r, {y, state});
  expect_close("y", Floats(out.y.begin() + P, out.y.end()), y, [&](size_t) { return tolerance; });
  expect_close("state", out.state, state, [&](size_t) { return tolerance; });
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
