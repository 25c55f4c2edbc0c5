// The filters of MCSD's sections against sums over the past in double precision; gradients against finite
// differences of these; cuts, threads and targets.
#include "brood/kernels/channel_decay.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "tests/kernels/compare.h"
#include "tests/kernels/targets.h"
#include "tests/reference/channel_decay.h"

namespace brood::kernels {
namespace {

Numbers draw(Random& random, int64_t n, double low, double high) {
  Numbers x(static_cast<size_t>(n));
  for (double& v : x) v = double(float(random.uniform(low, high)));
  return x;
}

// fresh: the state that a stream begins with.
reference::ChannelDecay draw_problem(int64_t B, int64_t T, int64_t C, bool slope, bool fresh = false) {
  Random random(uint64_t(B + 10 * T + 1000 * C));
  reference::ChannelDecay r{B,
                            T,
                            C,
                            slope,
                            draw(random, B * T * C, -1, 1),
                            draw(random, C, 0, 1),
                            draw(random, B * C * (slope ? 2 : 1), 0, 2)};
  r.decay[0] = 1;  // a plain sum, or mean
  r.decay[size_t(C / 2)] = 0;
  if (fresh) std::fill(r.state.begin(), r.state.end(), 0);
  return r;
}

// The same in floats; v are columns of wider rows.
struct Problem {
  int64_t B, T, C, stride;
  bool slope;
  Floats v, decay, state;

  explicit Problem(const reference::ChannelDecay& r)
      : B(r.B),
        T(r.T),
        C(r.C),
        stride(r.C + 3),
        slope(r.slope),
        v(size_t(B * T * stride), NAN),
        decay(r.decay.begin(), r.decay.end()),
        state(r.state.begin(), r.state.end()) {
    for (int64_t row = 0; row < B * T; ++row)
      std::copy_n(r.v.data() + row * C, C, v.data() + row * stride + 2);
  }
  ChannelDecay scan() const { return {B, T, C, v.data() + 2, stride, decay.data(), slope, state.data()}; }
};

struct Outputs {
  Floats c, state, kept;
};

Outputs forward(const ChannelDecay& s) {
  const size_t size = size_t(s.B * s.T * s.C);
  Outputs out{Floats(size, NAN), Floats(size_t(s.B * s.C * (s.slope ? 2 : 1)), NAN), Floats(size, NAN)};
  channel_decay_forward(s, out.c.data(), out.state.data(), s.slope ? out.kept.data() : nullptr);
  return out;
}

// A filter's value carries the rounding of each of its steps, T units of the largest sum there may be.
double tolerance_of(const reference::ChannelDecay& r) {
  return 4 * kRoundoff * double(r.T + 2) * double(r.T + 2);
}

TEST(ChannelDecay, ForwardMatchesTheReference) {
  for (int64_t T : {1, 2, 5, 40}) {
    for (int64_t C : {1, 2, 3, 7, 16, 17, 33, 63, 64, 65, 130}) {
      for (bool slope : {false, true}) {
        for (bool fresh : {false, true}) {
          const reference::ChannelDecay r = draw_problem(1 + C % 2, T, C, slope, fresh);
          const auto truth = reference::channel_decay(r);
          const Problem p(r);
          SCOPED_TRACE(::testing::Message() << "T " << T << " C " << C << (slope ? " slope" : " decay"));
          for_every_target([&] {
            const Outputs out = forward(p.scan());
            const double tolerance = tolerance_of(r);
            expect_close("c", out.c, truth.c, [&](size_t) { return tolerance; });
            expect_close("state", out.state, truth.state, [&](size_t) { return tolerance; });
          });
          if (::testing::Test::HasFatalFailure()) return;
        }
      }
    }
  }
}

struct Gradients {
  Floats v, state;
};

// Gradients start at `before`, since the kernel adds to what is there, which is taken off again.
Gradients gradients_of(const Problem& p, const Numbers& dc, const Numbers& dstate) {
  const float before = 0.25f;
  const Outputs out = forward(p.scan());
  const Floats dc_float(dc.begin(), dc.end()), dstate_float(dstate.begin(), dstate.end());
  Floats dv(p.v.size(), before);
  Gradients g{{}, Floats(p.state.size(), before)};
  channel_decay_backward(p.scan(), out.c.data(), out.kept.data(), dc_float.data(),
                         dstate.empty() ? nullptr : dstate_float.data(), dv.data() + 2, p.stride,
                         g.state.data());
  for (int64_t row = 0; row < p.B * p.T; ++row)
    g.v.insert(g.v.end(), dv.begin() + row * p.stride + 2, dv.begin() + row * p.stride + 2 + p.C);
  for (Floats* x : {&g.v, &g.state})
    for (float& value : *x) value -= before;
  return g;
}

TEST(ChannelDecay, EveryGradientMatchesFiniteDifferences) {
  for (int64_t T : {1, 2, 9}) {
    for (int64_t C : {1, 5, 66}) {
      for (bool slope : {false, true}) {
        for (bool with_state : {false, true}) {
          const reference::ChannelDecay r = draw_problem(2, T, C, slope);
          Random random(3);
          const Numbers dc = draw(random, int64_t(r.v.size()), -1, 1);
          const Numbers dstate = draw(random, with_state ? int64_t(r.state.size()) : 0, -1, 1);
          const auto loss = [&](const reference::ChannelDecay& at) {
            const auto result = reference::channel_decay(at);
            return dot(dc, result.c) + (with_state ? dot(dstate, result.state) : 0);
          };
          const Problem p(r);
          SCOPED_TRACE(::testing::Message() << "T " << T << " C " << C << (slope ? " slope" : " decay"));
          const double tolerance = 2 * tolerance_of(r) + 1e-6;
          for (auto member : {&reference::ChannelDecay::v, &reference::ChannelDecay::state}) {
            Numbers truth;
            // The loss is linear in v and n, and z stays away from 0 where the first decay is not 0.
            constexpr double kStep = 1e-4;
            for (size_t i = 0; i < (r.*member).size(); ++i) {
              reference::ChannelDecay above = r, below = r;
              (above.*member)[i] += kStep;
              (below.*member)[i] -= kStep;
              truth.push_back((loss(above) - loss(below)) / (2 * kStep));
            }
            for_every_target([&] {
              const Gradients got = gradients_of(p, dc, dstate);
              expect_close(member == &reference::ChannelDecay::v ? "v" : "state_in",
                           member == &reference::ChannelDecay::v ? got.v : got.state, truth,
                           [&](size_t) { return tolerance; });
            });
          }
          if (::testing::Test::HasFatalFailure()) return;
        }
      }
    }
  }
}

TEST(ChannelDecay, CutsChangeNoBit) {
  for (bool slope : {false, true}) {
    const Problem p(draw_problem(1, 50, 83, slope));
    for_every_target([&] {
      const Outputs whole = forward(p.scan());
      for (int64_t cut : {1, 3, 17}) {
        Floats c(whole.c.size()), state = p.state;
        for (int64_t t = 0; t < p.T; t += cut) {
          ChannelDecay part = p.scan();
          part.T = std::min(cut, p.T - t);
          part.v += t * p.stride;
          part.state_in = state.data();
          channel_decay_forward(part, c.data() + t * p.C, state.data(), nullptr);  // replaced in place
        }
        ASSERT_EQ(c, whole.c) << "cut " << cut;
        ASSERT_EQ(state, whole.state) << "cut " << cut;
      }
    });
  }
}

TEST(ChannelDecay, ThreadsDoNotChangeABit) {
  for (bool slope : {false, true}) {
    const reference::ChannelDecay r = draw_problem(3, 70, 300, slope);
    const Problem p(r);
    const Numbers dc = widen(normals(int64_t(r.v.size()), 5));
    expect_same_for_threads([&] {
      Floats all;
      const Outputs out = forward(p.scan());
      const Gradients g = gradients_of(p, dc, {});
      for (const Floats* x : {&out.c, &out.state, &g.v, &g.state})
        all.insert(all.end(), x->begin(), x->end());
      return all;
    });
  }
}

}  // namespace
}  // namespace brood::kernels
