#include "brood/autograd/selected.h"

#include <cstring>

#include "brood/base/threads.h"
#include "brood/kernels/activation.h"

namespace brood {

using kernels::Order;

namespace {

// Everything forward and backward know. Plain data: it is captured by the tape.
struct Selected {
  Tape* tape;
  NeuronSpace* space;
  const NeuronTiling* tiling;
  Neurons X;
  Var x, y;
  Parameter *up, *down;
  NeuronWeights wu, wd;
  float* U;  // x W_up: dense [rows, n], or at the entries of X
  int64_t rows, D, n;

  void forward();
  void backward() const;

 private:
  template <class T>
  void forward_dense();
  void forward_lists();
  template <class T>
  void backward_dense(float* dWu, float* dWd) const;
  void backward_lists(float* dWu, float* dWd) const;
  // Where the entries of a tile, all rows together, lie in X.
  int64_t first_entry(int64_t t) const { return X.offset[t * (rows + 1)]; }
  int64_t entries(int64_t t) const { return X.offset[t * (rows + 1) + rows] - first_entry(t); }
  // work(tile, sum) for the tiles of a group, sum [rows, D] of the group; then all sums into (or onto) out.
  template <class Work>
  void over_tiles(float* partial, bool accumulate, float* out, const Work& work) const;
};

template <class Work>
void Selected::over_tiles(float* partial, bool accumulate, float* out, const Work& work) const {
  auto task = [&](int64_t g) {
    float* sum = partial + g * rows * D;
    std::memset(sum, 0, size_t(rows * D) * sizeof(float));
    for (int64_t t = tiling->group[size_t(g)]; t < tiling->group[size_t(g) + 1]; ++t) work(t, sum);
  };
  parallel(tiling->groups(), task);
  if (out) sum_groups(tiling->groups(), rows * D, partial, accumulate, out);
}

void Selected::forward() {
  U = space->lasting(*tape).floats(X.values.size() + kernels::kListSlack);
  if (!X.dense)
    forward_lists();
  else if (wu.half())
    forward_dense<Bf16>();
  else
    forward_dense<float>();
}

template <class T>
void Selected::forward_dense() {
  Arena& scratch = space->scratch();
  const T* factor = product_operand<T>(x.size(), x.value(), scratch);
  float* Z = scratch.floats(rows * n);
  kernels::matmul(Order::kPlain, Order::kTransposed, rows, n, D, factor, D, wu.row<T>(0), D, false, U, n);
  kernels::mul(rows * n, X.values.value(), U, Z);
  kernels::matmul(Order::kPlain, Order::kPlain, rows, D, n, product_operand<T>(rows * n, Z, scratch), n,
                  wd.row<T>(0), D, false, y.value(), D);
}

void Selected::forward_lists() {
  Arena& scratch = space->scratch();
  float* Z = scratch.floats(X.values.size() + kernels::kListSlack);
  over_tiles(scratch.floats(tiling->groups() * rows * D), false, y.value(), [&](int64_t t, float* sum) {
    const kernels::RowLists lists = X.tile(t);
    const int64_t first = first_entry(t);
    wu.dot(lists, x.value(), D, U);
    kernels::mul(entries(t), X.values.value() + first, U + first, Z + first);
    wd.accumulate(lists, Z, sum);
  });
}

void Selected::backward() const {
  float* dWu = tape->sink().gradient(*up);
  float* dWd = tape->sink().gradient(*down);
  if (!X.dense)
    backward_lists(dWu, dWd);
  else if (wu.half())
    backward_dense<Bf16>(dWu, dWd);
  else
    backward_dense<float>(dWu, dWd);
  tape->sink().finished(*up);
  tape->sink().finished(*down);
}

template <class T>
void Selected::backward_dense(float* dWu, float* dWd) const {
  Arena& scratch = space->scratch();
  const int64_t size = rows * n;
  const float* X_ = X.values.value();
  const T* dy = product_operand<T>(y.size(), tape->gradient(y), scratch);
  const T* factor = product_operand<T>(x.size(), x.value(), scratch);
  float *Z = scratch.floats(size), *dZ = scratch.floats(size);
  kernels::matmul(Order::kPlain, Order::kTransposed, rows, n, D, dy, D, wd.row<T>(0), D, false, dZ, n);
  kernels::mul(size, X_, U, Z);
  kernels::matmul(Order::kTransposed, Order::kPlain, n, D, rows, product_operand<T>(size, Z, scratch), n, dy,
                  D, true, dWd, D);
  kernels::mul_backward(size, X_, U, dZ, tape->gradient(X.values), nullptr);
  kernels::mul(size, dZ, X_, Z);  // dU
  const T* dU = product_operand<T>(size, Z, scratch);
  kernels::matmul(Order::kTransposed, Order::kPlain, n, D, rows, dU, n, factor, D, true, dWu, D);
  if (!x.needs_gradient()) return;
  bool fresh = false;
  float* dx = tape->gradient_slot(x, fresh);
  kernels::matmul(Order::kPlain, Order::kPlain, rows, D, n, dU, n, wu.row<T>(0), D, !fresh, dx, D);
}

void Selected::backward_lists(float* dWu, float* dWd) const {
  Arena& scratch = space->scratch();
  const int64_t size = X.values.size() + kernels::kListSlack;
  float *Z = scratch.floats(size), *dZ = scratch.floats(size);
  const float *X_ = X.values.value(), *dy = tape->gradient(y);
  float* dX = tape->gradient(X.values);
  bool fresh = false;
  float* dx = x.needs_gradient() ? tape->gradient_slot(x, fresh) : nullptr;
  over_tiles(scratch.floats(tiling->groups() * rows * D), !fresh, dx, [&](int64_t t, float* sum) {
    const kernels::RowLists lists = X.tile(t);
    const int64_t first = first_entry(t), count = entries(t);
    kernels::mul(count, X_ + first, U + first, Z + first);
    kernels::scatter_rows(lists, Z, dy, D, D, dWd, D);
    wd.dot(lists, dy, D, dZ);
    kernels::mul_backward(count, X_ + first, U + first, dZ + first, dX + first, nullptr);
    kernels::mul(count, dZ + first, X_ + first, Z + first);  // dU
    kernels::scatter_rows(lists, Z, x.value(), D, D, dWu, D);
    if (dx) wu.accumulate(lists, Z, sum);
  });
}

}  // namespace

Var selected_sum(Tape& tape, NeuronSpace& space, const Neurons& X, Var x, Parameter& up, Parameter& down) {
  const int64_t n = space.neurons(), D = space.d_model;
  BROOD_ASSERT(space.heads == 1 && x.contiguous() && x.rows() == X.rows && x.cols() == D &&
               up.value.shape() == Shape({n, D}) && down.value.shape() == Shape({n, D}));
  Selected selected{.tape = &tape,
                    .space = &space,
                    .tiling = &space.tiling(X.rows),
                    .X = X,
                    .x = x,
                    .y = tape.make(X.rows, D, true),
                    .up = &up,
                    .down = &down,
                    .wu = NeuronWeights(up, tape.precision()),
                    .wd = NeuronWeights(down, tape.precision()),
                    .U = nullptr,
                    .rows = X.rows,
                    .D = D,
                    .n = n};
  selected.forward();
  tape.use(up);
  tape.use(down);
  tape.record(selected.y, [selected] { selected.backward(); });
  return selected.y;
}

}  // namespace brood
