#include "brood/autograd/experts.h"

#include <algorithm>
#include <cstring>

#include "brood/base/threads.h"
#include "brood/kernels/activation.h"
#include "brood/kernels/blocks.h"
#include "brood/kernels/few_rows.h"
#include "brood/kernels/matmul.h"

namespace brood {

using kernels::Order;

namespace {

// Rows of a block: their products keep a core busy for longer than reading the expert's weights takes, and a
// batch of a thousand rows still gives every core several.
constexpr int64_t kBlockRows = 64;
// Fewer routed rows than this are bound by reading weights: blocks go one after the other and each product is
// shared out among the threads instead.
constexpr int64_t kFewRouted = 16;
// Below this much work one thread is done before others could be of use (20 µs).
constexpr int64_t kThreadedFlops = 3'000'000;
// Up to a product of this size backward takes the experts side by side, each on one thread: forks of such products
// would come too often. Above, an expert has work for all threads, however uneven the loads are.
constexpr int64_t kSharedFlops = 4 * kThreadedFlops;

struct Block {
  int64_t expert, first, count;  // places
};

// A matrix with a row for each place, and its bf16 copy where products want one.
struct Rows {
  float* data = nullptr;
  Bf16* half = nullptr;
  int64_t cols = 0;
  float* row(int64_t place) const { return data + place * cols; }
};

// Everything forward and backward know. Plain data: it is captured by the tape.
struct Routed {
  Tape* tape;
  const ExpertSet* set;
  Var x, y;
  int64_t rows, d, width, n, k;
  bool half;

  float *z, *score, *weight;  // [rows, n], [rows, n], [rows, k]
  int32_t *chosen, *choice, *place;
  int64_t* begin;
  Rows in, gate, up, hidden, out;  // by place; gate also holds max(W_up x, 0)

  int64_t places() const { return rows * k; }
  int64_t row_of(int64_t at) const { return choice[at] / k; }
  float weight_at(int64_t at) const { return weight[choice[at]]; }

  void allocate();
  void choose();
  int64_t cut(Block* blocks) const;
  void compute(const Block& block) const;
  void combine() const;
  void forward();
  void backward() const;

 private:
  Rows allocate_rows(int64_t cols, bool half_too) const;
  void product(const Block& block, const Rows& from, Parameter& w, const Rows& to) const;
  void activate(const Block& block) const;
  void activate_backward(int64_t e, const float* dhidden, float* dgate, float* dup) const;
  void spread(const float* dy, float* dout, float* dweight) const;
  void backward_experts(const float* dout, float* din) const;
  void backward_expert(int64_t e, const float* dout, float* din, Arena& scratch) const;
};

Rows Routed::allocate_rows(int64_t cols, bool half_too) const {
  Arena& arena = tape->arena();
  return {arena.floats(places() * cols), half_too ? arena.allocate_array<Bf16>(places() * cols) : nullptr,
          cols};
}

void Routed::allocate() {
  Arena& arena = tape->arena();
  z = arena.floats(rows * n);
  score = arena.floats(rows * n);
  weight = arena.floats(places());
  chosen = arena.allocate_array<int32_t>(places());
  choice = arena.allocate_array<int32_t>(places());
  place = arena.allocate_array<int32_t>(places());
  begin = arena.allocate_array<int64_t>(n + 1);
  in = allocate_rows(d, half);
  gate = allocate_rows(width, false);
  up = allocate_rows(width, false);
  hidden = allocate_rows(width, half);
  out = allocate_rows(d, false);
}

void Routed::choose() {
  kernels::matmul(Order::kPlain, Order::kTransposed, rows, n, d, x.value(), d, set->router->value.f32(), d,
                  false, z, n);
  kernels::route(set->routing, rows, z, set->bias ? set->bias->value.f32() : nullptr, score, chosen, weight);
}

// The blocks of all experts; with null only their number.
int64_t Routed::cut(Block* blocks) const {
  int64_t count = 0;
  for (int64_t e = 0; e < n; ++e)
    for (int64_t first = begin[e]; first < begin[e + 1]; first += kBlockRows, ++count)
      if (blocks) blocks[count] = {e, first, std::min(kBlockRows, begin[e + 1] - first)};
  return count;
}

// to = from Wᵀ
void Routed::product(const Block& block, const Rows& from, Parameter& w, const Rows& to) const {
  const int64_t at = block.first * from.cols;
  if (half)
    kernels::matmul(Order::kPlain, Order::kTransposed, block.count, to.cols, from.cols, from.half + at,
                    from.cols, w.half.bf16(), from.cols, false, to.row(block.first), to.cols);
  else
    kernels::matmul(Order::kPlain, Order::kTransposed, block.count, to.cols, from.cols, from.data + at,
                    from.cols, w.value.f32(), from.cols, false, to.row(block.first), to.cols);
}

void Routed::activate(const Block& block) const {
  const int64_t size = block.count * width;
  float *g = gate.row(block.first), *u = up.row(block.first), *h = hidden.row(block.first);
  if (set->experts[size_t(block.expert)].gate) {
    kernels::swiglu(size, g, u, h);
  } else {
    kernels::relu(size, u, g);
    kernels::mul(size, g, g, h);
  }
  if (half) kernels::convert_range(size, h, hidden.half + block.first * width);
}

void Routed::compute(const Block& block) const {
  const Expert& expert = set->experts[size_t(block.expert)];
  for (int64_t at = block.first; at < block.first + block.count; ++at)
    std::memcpy(in.row(at), x.value() + row_of(at) * d, size_t(d) * sizeof(float));
  if (half) kernels::convert_range(block.count * d, in.row(block.first), in.half + block.first * d);
  if (expert.gate) product(block, in, *expert.gate, gate);
  product(block, in, *expert.up, up);
  activate(block);
  product(block, hidden, *expert.down, out);
}

// y_r = Σ w·E(x), over the row's choices in their order.
void Routed::combine() const {
  kernels::parallel_rows(rows, k * d, [&](int64_t first, int64_t last) {
    for (int64_t c = first * k; c < last * k; ++c)
      kernels::few_rows_axpy(1, d, 1, weight + c, 1, 1, out.row(place[c]), d, c % k != 0,
                             y.value() + c / k * d, d);
  });
}

void Routed::forward() {
  allocate();
  choose();
  Arena& arena = tape->arena();
  Block* blocks;
  int64_t count;
  if (rows == 1 && !tape->recording()) {
    // Decoding. Nothing to sort: each of the chosen is a block of one row.
    blocks = arena.allocate_array<Block>(count = k);
    for (int64_t c = 0; c < k; ++c) {
      choice[c] = place[c] = int32_t(c);
      blocks[c] = {chosen[c], c, 1};
    }
  } else {
    kernels::sort_choices(set->routing, rows, chosen, begin, choice, place);
    blocks = arena.allocate_array<Block>(count = cut(nullptr));
    cut(blocks);
  }
  for (int64_t i = 0; i < count; ++i) {
    const Expert& expert = set->experts[size_t(blocks[i].expert)];
    for (Parameter* w : {expert.gate, expert.up, expert.down}) {
      if (!w) continue;
      if (half) w->half_value();
      if (i == 0 || blocks[i].expert != blocks[i - 1].expert) tape->use(*w);
    }
  }
  auto task = [&](int64_t i) { compute(blocks[i]); };
  if (places() >= kFewRouted && 6 * places() * width * d >= kThreadedFlops) {
    parallel(count, task);
  } else {
    for (int64_t i = 0; i < count; ++i) task(i);
  }
  combine();
}

// What y's gradient is to the experts' outputs and to the weights.
void Routed::spread(const float* dy, float* dout, float* dweight) const {
  kernels::parallel_rows(rows, 2 * k * d, [&](int64_t first, int64_t last) {
    for (int64_t c = first * k; c < last * k; ++c) {
      const float* own = dy + c / k * d;
      kernels::few_rows_axpy(1, d, 1, weight + c, 1, 1, own, d, false, dout + place[c] * d, d);
      kernels::few_rows_dot(1, 1, d, own, d, out.row(place[c]), d, false, dweight + c, 1);
    }
  });
}

// dgate and dup are written whole.
void Routed::activate_backward(int64_t e, const float* dhidden, float* dgate, float* dup) const {
  const int64_t first = begin[e], size = (begin[e + 1] - first) * width;
  const float *g = gate.row(first), *u = up.row(first);
  std::memset(dgate, 0, size_t(size) * sizeof(float));
  std::memset(dup, 0, size_t(size) * sizeof(float));
  if (set->experts[size_t(e)].gate) {
    kernels::swiglu_backward(size, g, u, dhidden, dgate, dup);
  } else {
    kernels::mul_backward(size, g, g, dhidden, dgate, dgate);
    kernels::relu_backward(size, u, dgate, dup);
  }
}

// din receives rows of places.
void Routed::backward_expert(int64_t e, const float* dout, float* din, Arena& scratch) const {
  const int64_t first = begin[e], count = begin[e + 1] - first;
  const Expert& expert = set->experts[size_t(e)];
  float *dhidden = scratch.floats(count * width), *dgate = scratch.floats(count * width),
        *dup = scratch.floats(count * width);
  const auto back = [&](Parameter& w, const float* dy, const Rows& from, float* dx, bool accumulate) {
    const int64_t out_cols = w.value.shape()[0];
    tape->sink().linear(w, count, dy, out_cols, from.row(first), from.cols, dx, from.cols, accumulate,
                        tape->precision(), scratch);
  };
  back(*expert.down, dout + first * d, hidden, dhidden, false);
  activate_backward(e, dhidden, dgate, dup);
  back(*expert.up, dup, in, din + first * d, false);
  if (expert.gate) back(*expert.gate, dgate, in, din + first * d, true);
}

void Routed::backward_experts(const float* dout, float* din) const {
  int64_t used = 0, busiest = 0;
  int64_t* experts = tape->arena().allocate_array<int64_t>(n);
  for (int64_t e = 0; e < n; ++e) {
    if (begin[e + 1] == begin[e]) continue;
    experts[used++] = e;
    busiest = std::max(busiest, begin[e + 1] - begin[e]);
  }
  auto task = [&](int64_t i) {
    thread_local Arena scratch;  // the next expert takes the same memory, still in the cache
    scratch.reset();
    backward_expert(experts[i], dout, din, scratch);
  };
  if (2 * busiest * width * d < kSharedFlops && 12 * places() * width * d >= kThreadedFlops) {
    parallel(used, task);
  } else {
    for (int64_t i = 0; i < used; ++i) task(i);
  }
}

void Routed::backward() const {
  Arena& arena = tape->arena();
  GradientSink& sink = tape->sink();
  float *dout = arena.floats(places() * d), *din = arena.floats(places() * d);
  float* dweight = arena.floats(places());
  spread(tape->gradient(y), dout, dweight);

  backward_experts(dout, din);

  float* dz = arena.floats(rows * n);
  kernels::route_backward(set->routing, rows, z, score, chosen, begin, dweight, dz);
  bool fresh = false;
  float* dx = x.needs_gradient() ? tape->gradient_slot(x, fresh) : nullptr;
  sink.linear(*set->router, rows, dz, n, x.value(), d, dx, d, !fresh, Precision::kF32, arena);
  if (dx)
    kernels::parallel_rows(rows, k * d, [&](int64_t first, int64_t last) {
      for (int64_t c = first * k; c < last * k; ++c) kernels::add_to(d, din + place[c] * d, dx + c / k * d);
    });
  if (!set->bias) return;
  float* load = sink.gradient(*set->bias);
  for (int64_t e = 0; e < n; ++e) load[e] += float(begin[e + 1] - begin[e]) - float(places()) / float(n);
  sink.finished(*set->bias);
}

}  // namespace

Var routed_feed(Tape& tape, Var x, const ExpertSet& set, int64_t* rows_of_expert) {
  const Parameter& up = *set.experts[0].up;
  Routed routed{};
  routed.tape = &tape;
  routed.set = &set;
  routed.rows = x.rows();
  routed.d = x.cols();
  routed.width = up.value.shape()[0];
  routed.n = set.routing.n_expert;
  routed.k = set.routing.top_k;
  routed.half = tape.precision() == Precision::kBf16;
  BROOD_ASSERT(x.contiguous() && routed.n == int64_t(set.experts.size()) && routed.k <= routed.n &&
               up.value.shape()[1] == x.cols());
  routed.x = x;
  routed.y = tape.make(routed.rows, routed.d, true);
  routed.forward();
  if (rows_of_expert)
    for (int64_t c = 0; c < routed.places(); ++c) ++rows_of_expert[routed.chosen[c]];
  tape.use(*set.router);
  if (set.bias) tape.use(*set.bias);
  tape.record(routed.y, [routed] { routed.backward(); });
  return routed.y;
}

}  // namespace brood
