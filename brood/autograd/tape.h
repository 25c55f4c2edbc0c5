// Tape: reverse-mode differentiation over coarse operations.
//
// Forward functions (autograd/ops.h) compute at once into the tape's arena and, when recording, leave a plain
// closure that adds to the gradients of their inputs. backward() runs the closures in reverse. start() takes
// the whole step's memory back. Once warm a step allocates nothing.
//
// A Var is a [rows, cols] matrix of f32 with a row stride; a view of some columns shares memory and gradient
// with the whole. Vars die at the next start(). One tape serves one thread; the kernels inside use the pool.
#pragma once

#include <cstdint>
#include <cstring>
#include <new>
#include <type_traits>
#include <utility>
#include <vector>

#include "brood/autograd/parameter.h"
#include "brood/tensor/arena.h"

namespace brood {

enum class Precision : uint8_t { kF32, kBf16 };

struct Node {
  float* value;
  float* gradient;  // null until the first contribution in backward
  Node* whole;      // for a view of columns: the node that it looks into, else null
  int64_t offset;   // a view's first column
  int64_t rows, cols, stride;
  bool needs_gradient;
};

class Var {
 public:
  Var() = default;
  explicit Var(Node* node) : node_(node) {}
  int64_t rows() const { return node_->rows; }
  int64_t cols() const { return node_->cols; }
  int64_t stride() const { return node_->stride; }
  bool contiguous() const { return node_->stride == node_->cols; }
  int64_t size() const { return node_->rows * node_->cols; }
  float* value() const { return node_->value; }
  bool needs_gradient() const { return node_->needs_gradient; }
  Node* node() const { return node_; }
  explicit operator bool() const { return node_ != nullptr; }

 private:
  Node* node_ = nullptr;
};

// What becomes of the gradient of a parameter. The default adds it up in Parameter::gradient; live learning
// (learn/riding.h) updates the weights on the spot instead.
class GradientSink {
 public:
  virtual ~GradientSink() = default;

  // Backward of y[T,out] = x[T,in] Wᵀ for the whole parameter W [out,in]: takes care of dW = dyᵀx, and, when
  // dx is not null, of dx (+)= dy·W with W as it was in forward. Row strides ldy, ldx, lddx. The last use in
  // this step when w.open_uses is 1 on entry; lowers it. Several threads may call it at once, each for a weight
  // and with a scratch of its own.
  virtual void linear(Parameter& w, int64_t T, const float* dy, int64_t ldy, const float* x, int64_t ldx,
                      float* dx, int64_t lddx, bool accumulate, Precision precision, Arena& scratch);

  // Backward of looking up n rows of table [vocab, d]: row tokens[r] gets dy[r] (contiguous). Lowers
  // open_uses.
  virtual void rows(Parameter& table, int64_t n, const int32_t* tokens, const float* dy);

  // A zero-initialised (on first call of a step) buffer of w's size to add to; then call finished(w) once per
  // use.
  virtual float* gradient(Parameter& w);
  virtual void finished(Parameter& w);  // lowers open_uses

  // Called by Tape::backward at the end with every parameter used (some uses may have had no gradient).
  virtual void step_done(std::vector<Parameter*>& used);
};

class Tape {
 public:
  Tape();
  Tape(const Tape&) = delete;
  Tape& operator=(const Tape&) = delete;

  // Begins a step: the old step's Vars die. Not recording: no closures, no saved intermediates.
  void start(bool recording, Precision precision = Precision::kF32, GradientSink* sink = nullptr);
  bool recording() const { return recording_; }
  Precision precision() const { return precision_; }
  GradientSink& sink() { return *sink_; }
  Arena& arena() { return arena_; }

  Var make(int64_t rows, int64_t cols, bool needs_gradient);                        // uninitialised
  Var leaf(float* value, int64_t rows, int64_t cols, bool needs_gradient = false);  // memory of the caller's
  Var columns(Var x, int64_t begin, int64_t end);                                   // a view
  // Another view: the same numbers, which must be contiguous, in rows of `cols`: head by head, for example,
  // and back.
  Var folded(Var x, int64_t cols);

  // Declares that a recorded operation uses w: call once per operation when recording.
  void use(Parameter& w);

  // Adds an operation's backward. It runs only if y received a gradient. The closure is copied into the
  // arena; it must be trivially destructible (capture pointers, numbers and Vars).
  template <class Backward>
  void record(Var y, Backward backward) {
    record(y, Var(), std::move(backward));
  }
  // For an operation with a second output (a final state), which may be empty: runs if either received a
  // gradient.
  template <class Backward>
  void record(Var y, Var second, Backward backward) {
    static_assert(std::is_trivially_destructible_v<Backward>);
    if (!recording_ || !y.needs_gradient()) return;
    void* memory = arena_.allocate(sizeof(Backward));
    auto* closure = new (memory) Backward(std::move(backward));
    records_.push_back({y.node(), second.node(), closure, [](void* c) { (*static_cast<Backward*>(c))(); }});
  }

  // Registers something to be done when the step is over: after backward() when it is called, else at the
  // next start() or finish(). Used by states too large to copy, which must not change before backward has
  // read them.
  template <class Action>
  void at_end(Action action) {
    static_assert(std::is_trivially_destructible_v<Action>);
    void* memory = arena_.allocate(sizeof(Action));
    auto* closure = new (memory) Action(std::move(action));
    ends_.push_back({nullptr, nullptr, closure, [](void* c) { (*static_cast<Action*>(c))(); }});
  }

  // The gradient of v, zeroed at its first use; add to it. Row stride: v.stride().
  float* gradient(Var v);
  // The same for an operation that can overwrite: fresh is true when nothing has been added yet, and then the
  // memory is uninitialised and must be written whole. Never fresh for views.
  float* gradient_slot(Var v, bool& fresh);
  bool has_gradient(Var v) const;

  // seed: gradient of the loss with respect to every element of `loss` (1 for a sum).
  void backward(Var loss, float seed = 1.0f);
  void finish();  // runs what at_end() left; called by backward() and start()

 private:
  struct Record {
    Node *node, *second;
    void* closure;
    void (*run)(void*);
  };
  Arena arena_;
  std::vector<Record> records_, ends_;
  std::vector<Parameter*> used_;
  GradientSink default_sink_;
  GradientSink* sink_ = &default_sink_;
  Precision precision_ = Precision::kF32;
  bool recording_ = false;
};

}  // namespace brood
