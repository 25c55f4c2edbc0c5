#include "brood/autograd/delta_rule.h"

#include "brood/autograd/kernel_rows.h"
#include "brood/base/error.h"
#include "brood/kernels/delta_rule.h"

namespace brood {

namespace {

kernels::Rows to_rows(Var x) { return {x.value(), x.stride()}; }
kernels::ConstRows gradient_of(Tape& tape, Var x) { return {tape.gradient(x), x.stride()}; }

}  // namespace

Var bounded_decay(Tape& tape, Var z, Parameter& bias) {
  BROOD_ASSERT(z.contiguous() && bias.size() == z.cols());
  Var w = tape.make(z.rows(), z.cols(), true);
  kernels::bounded_decay(z.rows(), z.cols(), z.value(), bias.value.f32(), w.value());
  tape.use(bias);
  tape.record(w, [&tape, &bias, z, w] {
    BROOD_ASSERT(z.needs_gradient());
    kernels::bounded_decay_backward(z.rows(), z.cols(), z.value(), bias.value.f32(), w.value(),
                                    tape.gradient(w), tape.gradient(z), tape.sink().gradient(bias));
    tape.sink().finished(bias);
  });
  return w;
}

DeltaKeyVars delta_keys(Tape& tape, Var k, Var a, Parameter& k_k, Parameter& k_a, int64_t heads) {
  const int64_t rows = k.rows(), C = k.cols();
  BROOD_ASSERT(a.rows() == rows && a.cols() == C && C % heads == 0);
  BROOD_ASSERT(k_k.size() == C && k_a.size() == C);
  Var all = tape.make(rows, 3 * C, true);
  const DeltaKeyVars keys{tape.columns(all, 0, C), tape.columns(all, C, 2 * C),
                          tape.columns(all, 2 * C, 3 * C)};
  const kernels::DeltaRuleKeys in{.rows = rows,
                                  .heads = heads,
                                  .N = C / heads,
                                  .k = rows_of(k),
                                  .a = rows_of(a),
                                  .k_k = k_k.value.f32(),
                                  .k_a = k_a.value.f32()};
  float* inverse = tape.recording() ? tape.arena().floats(rows * heads) : nullptr;
  kernels::delta_keys(in, {to_rows(keys.key), to_rows(keys.erased), to_rows(keys.replaced)}, inverse);
  for (Parameter* p : {&k_k, &k_a}) tape.use(*p);
  tape.record(all, [&tape, &k_k, &k_a, k, a, keys, in, inverse] {
    BROOD_ASSERT(k.needs_gradient() && a.needs_gradient());
    kernels::delta_keys_backward(in, inverse, rows_of(keys.erased), gradient_of(tape, keys.key),
                                 gradient_of(tape, keys.erased), gradient_of(tape, keys.replaced),
                                 {.k = gradient_rows(tape, k),
                                  .a = gradient_rows(tape, a),
                                  .k_k = tape.sink().gradient(k_k),
                                  .k_a = tape.sink().gradient(k_a)});
    for (Parameter* p : {&k_k, &k_a}) tape.sink().finished(*p);
  });
  return keys;
}

Var step_bonus(Tape& tape, Var o, Var r, Var k, Var v, Parameter& r_k, int64_t heads) {
  const int64_t rows = o.rows(), C = o.cols();
  for (Var x : {r, k, v}) BROOD_ASSERT(x.rows() == rows && x.cols() == C);
  BROOD_ASSERT(C % heads == 0 && r_k.size() == C);
  Var y = tape.make(rows, C, true);
  const kernels::StepBonus in{.rows = rows,
                              .heads = heads,
                              .N = C / heads,
                              .o = rows_of(o),
                              .r = rows_of(r),
                              .k = rows_of(k),
                              .v = rows_of(v),
                              .r_k = r_k.value.f32()};
  float* s = tape.recording() ? tape.arena().floats(rows * heads) : nullptr;
  kernels::step_bonus(in, y.value(), s);
  tape.use(r_k);
  tape.record(y, [&tape, &r_k, o, r, k, v, y, in, s] {
    for (Var x : {o, r, k, v}) BROOD_ASSERT(x.needs_gradient());
    kernels::step_bonus_backward(in, s, tape.gradient(y),
                                 {.o = gradient_rows(tape, o),
                                  .r = gradient_rows(tape, r),
                                  .k = gradient_rows(tape, k),
                                  .v = gradient_rows(tape, v),
                                  .r_k = tape.sink().gradient(r_k)});
    tape.sink().finished(r_k);
  });
  return y;
}

}  // namespace brood
