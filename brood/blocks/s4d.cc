// S4D (Gu, Gupta, Goel and Ré, "On the Parameterization and Initialization of Diagonal State Space Models",
// 2022). Shapes and names as in the public state-spaces/s4 repository; docs/s4d.md has equation ↔ line.
//
//   a = −e^{log_A_real} + i A_imag,   Δ = e^{log_dt}                 per channel: N = d_state/2 complex modes
//   Ā = e^{Δa},  B̄ = (Ā − 1)/a                                      zero-order hold, or the bilinear rule
//   h_t = Ā h_{t−1} + B̄ x_t,   y_t = 2 Re(Σ_n C_n h_t) + D x_t      a filter: it does not look at what passes
//   out = GLU( W gelu(y) + bias )                                    GLU(p, q) = p ∘ σ(q)
//
// The modes begin where those of HiPPO do (the optimal memory of the past in Legendre polynomials), or by one
// of two simpler laws: key "init".
//
// State per stream: h, N complex numbers a channel; for real-time recurrent learning the traces ∂h/∂Ā and ∂h/∂B̄, too,
// through which a, and with it Δ, learns from all of the stream (docs/rtrl.md).
#include "brood/autograd/complex_scan.h"
#include "brood/autograd/discretise.h"
#include "brood/autograd/scalar_scan.h"
#include "brood/blocks/hippo.h"
#include "brood/blocks/initialise.h"
#include "brood/blocks/registry.h"

namespace brood {

namespace {

// Of "inv" and "legs", whose fastest mode has a frequency near d_state²/π: with Δ up to 0.38, four times the most
// that it begins with, angles stay below 8000 (kernels/discretise.h).
constexpr int64_t kMostSquare = 256;

struct Shapes {
  int64_t d_model, N;
  std::string init;
  Discretisation method;
};

Shapes read_shapes(Settings& settings, int64_t d_model) {
  Shapes s;
  s.d_model = d_model;
  const int64_t d_state = settings.integer("d_state", 64, 2, 1024);
  if (d_state % 2 != 0)
    fail("{}: d_state {} is odd, but modes come in pairs of conjugates", settings.context(), d_state);
  s.N = d_state / 2;
  s.init = settings.choice("init", "lin", {"lin", "inv", "legs"});
  if (s.init != "lin" && d_state > kMostSquare)
    fail(
        "{}: d_state {} is too many for init \"{}\", whose frequencies grow with its square; the most are "
        "{}, "
        "or choose \"lin\"",
        settings.context(), d_state, s.init, kMostSquare);
  s.method = settings.choice("discretisation", "zoh", {"zoh", "bilinear"}) == "zoh"
                 ? Discretisation::kZeroOrderHold
                 : Discretisation::kBilinear;
  return s;
}

// Layers that begin alike look for their frequencies once.
struct Beginning {
  std::string init;
  std::vector<double> frequency;
};
const std::vector<double>& frequencies(const Shapes& s, const Place& place) {
  auto known = std::static_pointer_cast<Beginning>(place.shared);
  if (!known || known->init != s.init || int64_t(known->frequency.size()) != s.N)
    place.shared = known = std::make_shared<Beginning>(Beginning{s.init, hippo_frequencies(s.init, s.N)});
  return known->frequency;
}

class S4d final : public Block {
 public:
  S4d(const Shapes& s, const Place& place, ParameterStore& store, Random& random)
      : shapes_(s),
        log_dt_(store.add(place.prefix + "kernel.log_dt", {s.d_model})),
        log_real_(store.add(place.prefix + "kernel.log_A_real", {s.d_model, s.N})),
        imag_(store.add(place.prefix + "kernel.A_imag", {s.d_model, s.N})),
        c_(store.add(place.prefix + "kernel.C", {s.d_model, s.N, 2})),
        d_(store.add(place.prefix + "D", {s.d_model})),
        out_(store.add(place.prefix + "output_linear.0.weight", {2 * s.d_model, s.d_model})),
        out_bias_(store.add(place.prefix + "output_linear.0.bias", {2 * s.d_model})) {
    out_.file_shape = {2 * s.d_model, s.d_model, 1};
    for (Parameter* p : {&log_dt_, &log_real_, &imag_, &c_, &d_}) p->scan = true;
    for (Parameter* p : {&log_dt_, &log_real_, &imag_, &d_, &out_bias_}) p->decays = false;
    random.fill_uniform(log_dt_.value.f32(), s.d_model, std::log(1e-3f), std::log(1e-1f));
    initialise_constant(log_real_, std::log(0.5f));
    const std::vector<double>& frequency = frequencies(s, place);
    for (int64_t c = 0; c < s.d_model; ++c)
      std::copy(frequency.begin(), frequency.end(), imag_.value.f32() + c * s.N);
    initialise_normal(c_, random, std::sqrt(0.5));  // complex numbers of variance 1
    initialise_normal(d_, random, 1.0);
    initialise_uniform(out_, s.d_model, random);
    initialise_uniform(out_bias_, s.d_model, random);
  }

  std::vector<StateSpec> state() const override {
    return {{"modes", {shapes_.N, 2, shapes_.d_model}},
            {.name = "modes_traces", .shape = {2 * shapes_.N, 2, shapes_.d_model}, .trace = true}};
  }

  Var forward(BlockContext& context, Var x) override {
    Tape& tape = context.tape;
    const int64_t d = shapes_.d_model;
    const Discrete m = modes(tape);
    Var y = complex_scan(tape, x, m.A, m.B, m.C, d_, context.chunk, context.state[0], &context.state[1]);
    y = linear(tape, gelu(tape, y), out_, out_bias_);
    return mul(tape, contiguous(tape, tape.columns(y, 0, d)),
               sigmoid(tape, contiguous(tape, tape.columns(y, d, 2 * d))));
  }

 private:
  struct Discrete {
    Var A, B, C;  // [2·N, d_model] each
  };

  Discrete discrete(Tape& tape) {
    const DiscreteModes m =
        discretise(tape, as_row(tape, log_dt_), turned(tape, log_real_), turned(tape, imag_), shapes_.method);
    return {m.A, m.input, turned(tape, c_)};
  }

  // Where nothing is learnt they are kept until a parameter changes.
  Discrete modes(Tape& tape) {
    if (tape.recording()) return discrete(tape);
    const int64_t rows = 2 * shapes_.N, d = shapes_.d_model, size = rows * d;
    const uint64_t version = log_dt_.version + log_real_.version + imag_.version + c_.version;
    if (kept_version_ != version) {
      if (kept_.empty()) kept_ = Tensor::uninitialized({3, rows, d});
      const Discrete now = discrete(tape);
      float* to = kept_.f32();
      for (Var v : {now.A, now.B, now.C}) to = std::copy_n(v.value(), size, to);
      kept_version_ = version;
    }
    float* at = kept_.f32();
    return {tape.leaf(at, rows, d), tape.leaf(at + size, rows, d), tape.leaf(at + 2 * size, rows, d)};
  }

  const Shapes shapes_;
  Parameter &log_dt_, &log_real_, &imag_, &c_, &d_, &out_, &out_bias_;
  Tensor kept_;
  uint64_t kept_version_ = 0;
};

}  // namespace

std::unique_ptr<Block> make_s4d(Settings& settings, const Place& place, ParameterStore& store,
                                Random& random) {
  return std::make_unique<S4d>(read_shapes(settings, place.d_model), place, store, random);
}

}  // namespace brood
