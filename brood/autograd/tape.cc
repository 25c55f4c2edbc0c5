#include "brood/autograd/tape.h"

#include <algorithm>

#include "brood/base/threads.h"
#include "brood/kernels/activation.h"
#include "brood/kernels/matmul.h"

namespace brood {

using kernels::Order;

namespace {

// The rows of a strided matrix as contiguous bf16.
const Bf16* half_rows(Arena& arena, const float* x, int64_t rows, int64_t cols, int64_t stride) {
  Bf16* y = arena.allocate_array<Bf16>(rows * cols);
  if (stride == cols) {
    kernels::convert(rows * cols, x, y);
  } else {
    for (int64_t r = 0; r < rows; ++r) kernels::convert(cols, x + r * stride, y + r * cols);
  }
  return y;
}

// By all threads: gradients of large matrices come from memory.
void clear(int64_t n, float* x) {
  constexpr int64_t kPiece = 1 << 16;
  parallel((n + kPiece - 1) / kPiece, [&](int64_t i) {
    std::memset(x + i * kPiece, 0, size_t(std::min(kPiece, n - i * kPiece)) * sizeof(float));
  });
}

}  // namespace

// ---- GradientSink -----------------------------------------------------------------------------------------

void GradientSink::linear(Parameter& w, int64_t T, const float* dy, int64_t ldy, const float* x, int64_t ldx,
                          float* dx, int64_t lddx, bool accumulate, Precision precision, Arena& scratch) {
  const int64_t out = w.value.shape()[0], in = w.value.shape()[1];
  const bool first = !w.gradient_open;
  if (w.gradient.empty()) w.gradient = Tensor::uninitialized(w.value.shape());
  w.gradient_open = true;
  if (precision == Precision::kBf16) {
    const Bf16* dy_half = half_rows(scratch, dy, T, out, ldy);
    const Bf16* x_half = half_rows(scratch, x, T, in, ldx);
    kernels::matmul(Order::kTransposed, Order::kPlain, out, in, T, dy_half, out, x_half, in, !first,
                    w.gradient.f32(), in);
    if (dx)
      kernels::matmul(Order::kPlain, Order::kPlain, T, in, out, dy_half, out, w.half_value(), in, accumulate,
                      dx, lddx);
  } else {
    kernels::matmul(Order::kTransposed, Order::kPlain, out, in, T, dy, ldy, x, ldx, !first, w.gradient.f32(),
                    in);
    if (dx)
      kernels::matmul(Order::kPlain, Order::kPlain, T, in, out, dy, ldy, w.value.f32(), in, accumulate, dx,
                      lddx);
  }
  finished(w);
}

void GradientSink::rows(Parameter& table, int64_t n, const int32_t* tokens, const float* dy) {
  const int64_t d = table.value.shape()[1];
  float* g = gradient(table);
  for (int64_t r = 0; r < n; ++r) kernels::add_to(d, dy + r * d, g + tokens[r] * d);
  finished(table);
}

float* GradientSink::gradient(Parameter& w) {
  if (w.gradient.empty()) w.gradient = Tensor::uninitialized(w.value.shape());
  if (!w.gradient_open) {
    clear(w.size(), w.gradient.f32());
    w.gradient_open = true;
  }
  return w.gradient.f32();
}

void GradientSink::finished(Parameter& w) { --w.open_uses; }

void GradientSink::step_done(std::vector<Parameter*>& used) {
  for (Parameter* w : used) w->open_uses = 0;
}

// ---- Tape -------------------------------------------------------------------------------------------------

Tape::Tape() = default;

void Tape::start(bool recording, Precision precision, GradientSink* sink) {
  finish();
  for (Parameter* w : used_) w->open_uses = 0;  // a recorded step whose backward never ran
  used_.clear();
  records_.clear();
  arena_.reset();
  recording_ = recording;
  precision_ = precision;
  sink_ = sink ? sink : &default_sink_;
}

Var Tape::make(int64_t rows, int64_t cols, bool needs_gradient) {
  return leaf(arena_.floats(rows * cols), rows, cols, needs_gradient && recording_);
}

Var Tape::leaf(float* value, int64_t rows, int64_t cols, bool needs_gradient) {
  Node* node = arena_.allocate_array<Node>(1);
  return Var(new (node) Node{value, nullptr, nullptr, 0, rows, cols, cols, needs_gradient});
}

Var Tape::columns(Var x, int64_t begin, int64_t end) {
  BROOD_ASSERT(0 <= begin && begin < end && end <= x.cols());
  Node* whole = x.node()->whole ? x.node()->whole : x.node();
  Node* node = arena_.allocate_array<Node>(1);
  return Var(new (node) Node{x.value() + begin, nullptr, whole, x.node()->offset + begin, x.rows(),
                             end - begin, whole->stride, x.needs_gradient()});
}

Var Tape::folded(Var x, int64_t cols) {
  BROOD_ASSERT(x.contiguous() && x.size() % cols == 0);
  Node* whole = x.node()->whole ? x.node()->whole : x.node();
  Node* node = arena_.allocate_array<Node>(1);
  return Var(new (node) Node{x.value(), nullptr, whole, x.node()->offset, x.size() / cols, cols, cols,
                             x.needs_gradient()});
}

void Tape::use(Parameter& w) {
  if (!recording_) return;
  if (w.open_uses++ == 0) used_.push_back(&w);
}

bool Tape::has_gradient(Var v) const {
  const Node* node = v.node()->whole ? v.node()->whole : v.node();
  return node->gradient != nullptr;
}

float* Tape::gradient(Var v) {
  Node* node = v.node()->whole ? v.node()->whole : v.node();
  if (!node->gradient) node->gradient = arena_.zeros(node->rows * node->stride);
  return node->gradient + v.node()->offset;
}

float* Tape::gradient_slot(Var v, bool& fresh) {
  Node* node = v.node();
  fresh = !node->whole && !node->gradient;
  if (!fresh) return gradient(v);
  node->gradient = arena_.floats(node->rows * node->stride);
  return node->gradient;
}

void Tape::backward(Var loss, float seed) {
  BROOD_ASSERT(recording_);
  float* g = gradient(loss);
  for (int64_t i = 0; i < loss.size(); ++i) g[i] = seed;
  for (size_t i = records_.size(); i-- > 0;) {
    const Record& r = records_[i];
    if (has_gradient(Var(r.node)) || (r.second && r.second->gradient)) r.run(r.closure);
  }
  records_.clear();
  sink_->step_done(used_);
  used_.clear();
  finish();
}

void Tape::finish() {
  for (const Record& r : ends_) r.run(r.closure);
  ends_.clear();
}

}  // namespace brood
