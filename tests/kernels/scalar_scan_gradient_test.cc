// Every gradient of the scalar scan by finite differences of its double-precision reference.
#include "tests/kernels/central_difference.h"
#include "tests/kernels/scalar_scan_problem.h"
#include "tests/kernels/targets.h"

namespace brood::kernels {
namespace {

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

}  // namespace
}  // namespace brood::kernels
