#include "brood/autograd/discretise.h"

#include "brood/base/error.h"
#include "brood/kernels/activation.h"
#include "brood/kernels/turn.h"

namespace brood {

DiscreteModes discretise(Tape& tape, Var log_dt, Var log_real, Var imag, Discretisation method) {
  const int64_t N = log_real.rows(), C = log_real.cols();
  BROOD_ASSERT(log_dt.contiguous() && log_real.contiguous() && imag.contiguous());
  BROOD_ASSERT(log_dt.size() == C && imag.rows() == N && imag.cols() == C);
  const kernels::ContinuousModes modes{
      .C = C, .N = N, .log_dt = log_dt.value(), .log_real = log_real.value(), .imag = imag.value()};
  Var A = tape.make(2 * N, C, true), input = tape.make(2 * N, C, true);
  kernels::discretise(modes, method, A.value(), input.value());
  tape.record(A, input, [&tape, modes, method, log_dt, log_real, imag, A, input] {
    kernels::discretise_backward(
        modes, method, A.value(), input.value(), tape.gradient(A), tape.gradient(input),
        {.log_dt = tape.gradient(log_dt), .log_real = tape.gradient(log_real), .imag = tape.gradient(imag)});
  });
  return {A, input};
}

Var turned(Tape& tape, Parameter& parameter) {
  const int64_t rows = parameter.value.shape()[0], cols = parameter.size() / rows;
  Var y = tape.make(cols, rows, true);
  kernels::turn(cols, rows, parameter.value.f32(), cols, y.value(), rows);
  tape.use(parameter);
  tape.record(y, [&tape, &parameter, y, rows, cols] {
    float* back = tape.arena().floats(y.size());
    kernels::turn(rows, cols, tape.gradient(y), rows, back, cols);
    kernels::add_to(y.size(), back, tape.sink().gradient(parameter));
    tape.sink().finished(parameter);
  });
  return y;
}

}  // namespace brood
