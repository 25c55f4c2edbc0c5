// Decays, keys and bonus of RWKV-7 against their definitions, and their gradients against differences of these.
#include "brood/kernels/delta_rule.h"

#include <gtest/gtest.h>

#include "tests/kernels/compare.h"
#include "tests/kernels/targets.h"
#include "tests/reference/delta_rule.h"

namespace brood::kernels {
namespace {

// Gradients come back in f32, after sums of a head's N terms and of as many rows as there are: some tens of
// roundings of terms that are not much larger than 1.
void expect_near(const char* what, const Floats& got, const Numbers& expected, double terms) {
  expect_close(what, got, expected,
               [&](size_t i) { return (40 + 4 * terms) * kRoundoff * (1 + std::abs(expected[i])); });
}

// d loss / d x by central differences.
template <class Loss>
Numbers slopes(Numbers x, const Loss& loss) {
  constexpr double kStep = 1e-4;
  Numbers slope(x.size());
  for (size_t i = 0; i < x.size(); ++i) {
    const double here = x[i];
    const auto at = [&](double step) {
      x[i] = here + step;
      return loss(x);
    };
    slope[i] = (8 * (at(kStep) - at(-kStep)) - (at(2 * kStep) - at(-2 * kStep))) / (12 * kStep);
    x[i] = here;
  }
  return slope;
}

struct Case {
  int64_t rows, heads, N, C = heads * N, n = rows * C;
  Floats a = normals(n, 1), b = normals(n, 2), c = normals(n, 3), d = normals(n, 4), p = normals(C, 5),
         q = normals(C, 6), g = normals(n, 7), g2 = normals(n, 8), g3 = normals(n, 9);
  double terms() const { return double(rows + N); }
};

void check_decay(const Case& t) {
  Floats w(t.a.size()), dz(t.a.size()), dbias(t.p.size());
  bounded_decay(t.rows, t.C, t.a.data(), t.p.data(), w.data());
  const Numbers z = widen(t.a), bias = widen(t.p), g = widen(t.g);
  expect_near("w", w, reference::bounded_decay(t.C, z, bias), 1);
  bounded_decay_backward(t.rows, t.C, t.a.data(), t.p.data(), w.data(), t.g.data(), dz.data(), dbias.data());
  expect_near("dz", dz,
              slopes(z, [&](const Numbers& at) { return dot(g, reference::bounded_decay(t.C, at, bias)); }),
              1);
  expect_near("dbias", dbias,
              slopes(bias, [&](const Numbers& at) { return dot(g, reference::bounded_decay(t.C, z, at)); }),
              double(t.rows));
}

void check_keys(const Case& t) {
  const DeltaRuleKeys in{t.rows, t.heads, t.N, {t.a.data(), t.C}, {t.b.data(), t.C}, t.p.data(), t.q.data()};
  Floats all(size_t(3 * t.n)), inverse(size_t(t.rows * t.heads));
  const auto part = [&](Floats& x, int64_t i) { return Rows{x.data() + i * t.C, 3 * t.C}; };
  delta_keys(in, {part(all, 0), part(all, 1), part(all, 2)}, inverse.data());
  const Numbers k = widen(t.a), a = widen(t.b), k_k = widen(t.p), k_a = widen(t.q);
  const reference::DeltaRuleKeys expected = reference::delta_keys(t.heads, t.N, k, a, k_k, k_a);
  Floats key(t.a.size()), erased(t.a.size()), replaced(t.a.size()), gradient(all.size());
  for (int64_t i = 0; i < t.n; ++i) {
    const auto at = size_t(i / t.C * 3 * t.C + i % t.C);
    key[size_t(i)] = all[at], erased[size_t(i)] = all[at + size_t(t.C)],
    replaced[size_t(i)] = all[at + size_t(2 * t.C)];
    gradient[at] = t.g[size_t(i)], gradient[at + size_t(t.C)] = t.g2[size_t(i)],
    gradient[at + size_t(2 * t.C)] = t.g3[size_t(i)];
  }
  expect_near("key", key, expected.key, t.terms());
  expect_near("erased", erased, expected.erased, t.terms());
  expect_near("replaced", replaced, expected.replaced, t.terms());

  Floats dk(t.a.size()), da(t.a.size()), dk_k(t.p.size()), dk_a(t.p.size());
  const auto of = [&](const Floats& x, int64_t i) { return ConstRows{x.data() + i * t.C, 3 * t.C}; };
  delta_keys_backward(in, inverse.data(), of(all, 1), of(gradient, 0), of(gradient, 1), of(gradient, 2),
                      {{dk.data(), t.C}, {da.data(), t.C}, dk_k.data(), dk_a.data()});
  const auto loss = [&](const Numbers& k, const Numbers& a, const Numbers& k_k, const Numbers& k_a) {
    const reference::DeltaRuleKeys y = reference::delta_keys(t.heads, t.N, k, a, k_k, k_a);
    return dot(widen(t.g), y.key) + dot(widen(t.g2), y.erased) + dot(widen(t.g3), y.replaced);
  };
  if (t.N == 1) return;  // a single number's direction is its sign, which bends where differences are taken
  // A short key has a steep direction: what is lost counts 1/|u| times.
  double steepest = 1;
  for (const float over : inverse) steepest = std::max(steepest, double(over));
  const double terms = t.terms() * steepest * 4;
  expect_near("dk", dk, slopes(k, [&](const Numbers& x) { return loss(x, a, k_k, k_a); }), terms);
  expect_near("da", da, slopes(a, [&](const Numbers& x) { return loss(k, x, k_k, k_a); }), terms);
  expect_near("dk_k", dk_k, slopes(k_k, [&](const Numbers& x) { return loss(k, a, x, k_a); }), terms);
  expect_near("dk_a", dk_a, slopes(k_a, [&](const Numbers& x) { return loss(k, a, k_k, x); }), terms);
}

void check_bonus(const Case& t) {
  const StepBonus in{
      t.rows,    t.heads, t.N, {t.a.data(), t.C}, {t.b.data(), t.C}, {t.c.data(), t.C}, {t.d.data(), t.C},
      t.p.data()};
  Floats y(t.a.size()), s(size_t(t.rows * t.heads));
  step_bonus(in, y.data(), s.data());
  const Numbers o = widen(t.a), r = widen(t.b), k = widen(t.c), v = widen(t.d), r_k = widen(t.p),
                g = widen(t.g);
  const auto loss = [&](const Numbers& o, const Numbers& r, const Numbers& k, const Numbers& v,
                        const Numbers& r_k) {
    return dot(g, reference::step_bonus(t.heads, t.N, o, r, k, v, r_k));
  };
  const double terms = 8 * t.terms();
  expect_near("y", y, reference::step_bonus(t.heads, t.N, o, r, k, v, r_k), terms);
  Floats d_o(t.a.size()), dr(t.a.size()), dk(t.a.size()), dv(t.a.size()), dr_k(t.p.size());
  step_bonus_backward(in, s.data(), t.g.data(),
                      {{d_o.data(), t.C}, {dr.data(), t.C}, {dk.data(), t.C}, {dv.data(), t.C}, dr_k.data()});
  expect_near("do", d_o, slopes(o, [&](const Numbers& x) { return loss(x, r, k, v, r_k); }), terms);
  expect_near("dr", dr, slopes(r, [&](const Numbers& x) { return loss(o, x, k, v, r_k); }), terms);
  expect_near("dk", dk, slopes(k, [&](const Numbers& x) { return loss(o, r, x, v, r_k); }), terms);
  expect_near("dv", dv, slopes(v, [&](const Numbers& x) { return loss(o, r, k, x, r_k); }), terms);
  expect_near("dr_k", dr_k, slopes(r_k, [&](const Numbers& x) { return loss(o, r, k, v, x); }), terms);
}

TEST(DeltaRule, EveryShape) {
  for_every_target([] {
    for (int64_t rows : {1, 3})
      for (int64_t heads : {1, 2})
        for (int64_t N : {1, 2, 3, 7, 8, 9, 16, 21}) {
          SCOPED_TRACE(std::to_string(rows) + " x " + std::to_string(heads) + " x " + std::to_string(N));
          const Case t{rows, heads, N};
          check_decay(t);
          check_keys(t);
          check_bonus(t);
          if (testing::Test::HasFatalFailure()) return;
        }
  });
}

TEST(DeltaRule, AKeyOfZeroHasNoDirection) {
  const Floats zero(4), ones(4, 1.0f);
  Floats out(12);
  delta_keys({1, 1, 4, {zero.data(), 4}, {ones.data(), 4}, ones.data(), ones.data()},
             {{out.data(), 4}, {out.data() + 4, 4}, {out.data() + 8, 4}}, nullptr);
  for (const float x : out) EXPECT_EQ(x, 0.0f);
}

TEST(DeltaRule, AKeyOfZeroHasNoGradientThroughItsDirection) {
  constexpr int64_t N = 5;
  const Floats k(N), a = normals(N, 1), k_k = normals(N, 2), k_a = normals(N, 3), g = normals(N, 4);
  const DeltaRuleKeys in{1, 1, N, {k.data(), N}, {a.data(), N}, k_k.data(), k_a.data()};
  Floats key(N), erased(N), replaced(N), inverse(1), dk(N), da(N), dk_k(N), dk_a(N);
  delta_keys(in, {{key.data(), N}, {erased.data(), N}, {replaced.data(), N}}, inverse.data());
  delta_keys_backward(in, inverse.data(), {erased.data(), N}, {g.data(), N}, {g.data(), N}, {g.data(), N},
                      {{dk.data(), N}, {da.data(), N}, dk_k.data(), dk_a.data()});
  Numbers through_key;
  for (size_t i = 0; i < size_t(N); ++i)
    through_key.push_back(double(g[i]) * (1 + (double(a[i]) - 1) * double(k_a[i])));
  for (const Floats* zero : {&key, &erased, &replaced, &inverse, &da, &dk_k, &dk_a})
    for (const float v : *zero) EXPECT_EQ(v, 0);
  expect_near("dk", dk, through_key, 1);
}

TEST(DeltaRule, SameForAnyThreads) {
  const Case t{130, 3, 64};
  expect_same_for_threads([&] {
    Floats all(size_t(12 * t.n)), small(size_t(t.rows * t.heads));
    int64_t used = 0;
    const auto next = [&] { return all.data() + t.n * used++; };
    const auto rows = [&] { return Rows{next(), t.C}; };
    float* w = next();
    bounded_decay(t.rows, t.C, t.a.data(), t.p.data(), w);
    float* dz = next();
    bounded_decay_backward(t.rows, t.C, t.a.data(), t.p.data(), w, t.g.data(), dz, next());
    const DeltaRuleKeys keys{t.rows,     t.heads,   t.N, {t.a.data(), t.C}, {t.b.data(), t.C},
                             t.p.data(), t.q.data()};
    const DeltaRuleKeyRows made{rows(), rows(), rows()};
    delta_keys(keys, made, small.data());
    const Rows dk = rows(), da = rows();
    float* dp = next();
    delta_keys_backward(keys, small.data(), {made.erased.data, t.C}, {t.g.data(), t.C}, {t.g2.data(), t.C},
                        {t.g3.data(), t.C}, {dk, da, dp, dp + t.C});
    const StepBonus bonus{
        t.rows,    t.heads, t.N, {t.a.data(), t.C}, {t.b.data(), t.C}, {t.c.data(), t.C}, {t.d.data(), t.C},
        t.p.data()};
    step_bonus(bonus, next(), small.data());
    step_bonus_backward(bonus, small.data(), t.g.data(), {rows(), dk, da, made.key, dp + 2 * t.C});
    return all;
  });
}

}  // namespace
}  // namespace brood::kernels
