#include "brood/learn/spring.h"

#include <cmath>
#include <complex>
#include <span>

#include "brood/autograd/complex_scan.h"
#include "brood/base/error.h"
#include "brood/base/memory.h"
#include "brood/base/random.h"
#include "brood/learn/optimiser.h"

namespace brood {
namespace {

using Complex = std::complex<double>;

// Where learning begins, times dt: the strongest damping that still swings a little, so that the mode hears
// forces of every frequency and finds the one that answers.
constexpr double kFirstDamping = 0.5, kFirstFrequency = 0.5;

// Force and place as they are and scaled, and on the tape force, place and loss with what flows back.
constexpr double kBytesPerSample = 10 * sizeof(float);

double root_mean_square(std::span<const float> x) {
  double squares = 0;
  for (const float each : x) squares += double(each) * double(each);
  return std::sqrt(squares / double(x.size()));
}

// The place and speed of a spring under a force that is held for dt: the swing about the force's own rest.
struct Swing {
  double a, b, stiffness;
  double place = 0, speed = 0;
  void hold(double force, double dt) {
    const double rest = force / stiffness, from = place - rest, rise = (speed - a * from) / b;
    const double fade = std::exp(a * dt), c = std::cos(b * dt), s = std::sin(b * dt);
    const double swing = fade * (from * c + rise * s);
    place = rest + swing;
    speed = a * swing + fade * b * (rise * c - from * s);
  }
};

void check(const Spring& spring, const SpringExperiment& experiment) {
  if (!(spring.mass > 0 && spring.damping > 0 && spring.stiffness > 0)) {
    fail("spring: mass {}, damping {} and stiffness {} must be above 0", spring.mass, spring.damping,
         spring.stiffness);
  }
  if (spring.damping * spring.damping >= 4 * spring.stiffness * spring.mass) {
    fail("spring: with damping {} it creeps and does not swing; it must be below {:.4g}", spring.damping,
         2 * std::sqrt(spring.stiffness * spring.mass));
  }
  if (!(experiment.dt > 0) || experiment.recordings < 1 || experiment.samples < 2) {
    fail("spring: {} recordings of {} samples every {} s are none", experiment.recordings, experiment.samples,
         experiment.dt);
  }
  const double samples = double(experiment.recordings) * double(experiment.samples);
  require_memory(
      samples * kBytesPerSample,
      fmt::format("spring: {} recordings of {} samples", experiment.recordings, experiment.samples),
      "give fewer or shorter ones");
}

// The mode being learnt, in units of dt: log(−a), log b, Re C, Im C.
class Mode {
 public:
  Mode() : numbers_(store_.add("mode", {4})), through_(fixed_.add("D", {1})) {
    float* x = numbers_.value.f32();
    x[0] = float(std::log(kFirstDamping));
    x[1] = float(std::log(kFirstFrequency));
  }
  ParameterStore& parameters() { return store_; }
  Complex lambda() const { return {-std::exp(double(at(0))), std::exp(double(at(1)))}; }
  Complex output() const { return {at(2), at(3)}; }

  // The places that the forces [recordings·samples, 1] lead to.
  Var places(Tape& tape, Var force, const Chunk& chunk) {
    const Complex l = lambda(), A = std::exp(l), one = 1;
    Var decay = of_lambda(tape, A, A);
    Var input = of_lambda(tape, (A - one) / l, (A * l - A + one) / (l * l));
    Var rest = tape.make(chunk.B, 2, false);
    std::fill_n(rest.value(), rest.size(), 0.0f);
    StateVar state{rest, rest};
    // Nothing goes through without delay: D is 0 and stays so.
    through_.gradient_open = false;
    return complex_scan(tape, force, decay, input, output_var(tape), through_, chunk, state);
  }

 private:
  float at(size_t i) const { return numbers_.value.f32()[i]; }

  static Var on_tape(Tape& tape, Complex value) {
    Var v = tape.make(2, 1, true);
    v.value()[0] = float(value.real());
    v.value()[1] = float(value.imag());
    return v;
  }
  // A function of λ, holomorphic: with gradients written ∂/∂Re + i ∂/∂Im they pass through it as a product
  // with its conjugate slope.
  Var of_lambda(Tape& tape, Complex value, Complex slope) {
    Var v = on_tape(tape, value);
    tape.use(numbers_);
    tape.record(v, [this, &tape, v, slope, l = lambda()] {
      const float* g = tape.gradient(v);
      const Complex dl = std::conj(slope) * Complex(g[0], g[1]);
      float* d = tape.sink().gradient(numbers_);
      d[0] += float(dl.real() * l.real());
      d[1] += float(dl.imag() * l.imag());
      tape.sink().finished(numbers_);
    });
    return v;
  }
  Var output_var(Tape& tape) {
    Var v = on_tape(tape, output());
    tape.use(numbers_);
    tape.record(v, [this, &tape, v] {
      const float* g = tape.gradient(v);
      float* d = tape.sink().gradient(numbers_);
      d[2] += g[0];
      d[3] += g[1];
      tape.sink().finished(numbers_);
    });
    return v;
  }

  ParameterStore store_, fixed_;
  Parameter &numbers_, &through_;
};

// (y − seen)², row by row.
Var squared_error(Tape& tape, Var y, std::span<const float> seen) {
  Var loss = tape.make(y.rows(), 1, true);
  for (int64_t t = 0; t < y.rows(); ++t) {
    const float error = y.value()[t] - seen[size_t(t)];
    loss.value()[t] = error * error;
  }
  tape.record(loss, [&tape, y, seen, loss] {
    float* dy = tape.gradient(y);
    const float* d = tape.gradient(loss);
    for (int64_t t = 0; t < y.rows(); ++t) dy[t] += 2 * (y.value()[t] - seen[size_t(t)]) * d[t];
  });
  return loss;
}

std::vector<float> scaled(std::span<const float> x, double scale) {
  std::vector<float> result(x.begin(), x.end());
  for (float& each : result) each = float(double(each) * scale);
  return result;
}

}  // namespace

SpringRecordings record_spring(const Spring& spring, const SpringExperiment& experiment) {
  check(spring, experiment);
  SpringRecordings result{.dt = experiment.dt,
                          .recordings = experiment.recordings,
                          .samples = experiment.samples,
                          .force = {},
                          .place = {}};
  const double a = -spring.damping / (2 * spring.mass);
  const double b = std::sqrt(spring.stiffness / spring.mass - a * a);
  Random random(experiment.seed);
  for (int64_t r = 0; r < experiment.recordings; ++r) {
    Swing swing{.a = a, .b = b, .stiffness = spring.stiffness};
    for (int64_t t = 0; t < experiment.samples; ++t) {
      const auto force = float(random.normal());
      swing.hold(force, experiment.dt);
      result.force.push_back(force);
      result.place.push_back(float(swing.place));
    }
  }
  const double noise = experiment.noise * root_mean_square(result.place);
  for (float& place : result.place) place += float(noise * random.normal());
  return result;
}

IdentifiedSpring identify_spring(const SpringRecordings& recordings, const SpringLearning& learning) {
  const double force_scale = root_mean_square(recordings.force);
  const double place_scale = root_mean_square(recordings.place);
  if (!(force_scale > 0 && place_scale > 0))
    fail("spring: nothing pushes or nothing moves in the recordings");
  std::vector<float> force = scaled(recordings.force, 1 / force_scale);
  const std::vector<float> place = scaled(recordings.place, 1 / place_scale);
  const Chunk chunk{.B = recordings.recordings, .T = recordings.samples};

  Mode mode;
  Tape tape;
  Optimiser optimiser(mode.parameters(), {.beta2 = 0.99, .weight_decay = 0});
  const Schedule schedule{
      .peak = learning.learning_rate, .floor = 0.01, .warmup = 0, .total = learning.steps};
  IdentifiedSpring result;
  bool stopped = false;
  while (result.steps < learning.steps && !(stopped = learning.stop && learning.stop())) {
    tape.start(true);
    Var u = tape.leaf(force.data(), chunk.rows(), 1);
    Var loss = squared_error(tape, mode.places(tape, u, chunk), place);
    double sum = 0;
    for (int64_t t = 0; t < loss.rows(); ++t) sum += double(loss.value()[t]);
    result.unexplained = sum / double(loss.rows());
    tape.backward(loss, 1.0f / float(loss.rows()));
    optimiser.step(schedule.at(result.steps++));
    if (learning.stepped) learning.stepped(result.steps, result.unexplained);
  }

  const Complex lambda = mode.lambda() / recordings.dt;
  const Complex output = mode.output() * (place_scale / (force_scale * recordings.dt));
  result.found = output.imag() < 0;
  if (!result.found && stopped) return result;
  if (!result.found) fail("spring: no spring explains these recordings; give more of them, or more steps");
  result.spring.mass = -1 / (2 * lambda.imag() * output.imag());
  result.spring.damping = -2 * lambda.real() * result.spring.mass;
  result.spring.stiffness = std::norm(lambda) * result.spring.mass;
  return result;
}

}  // namespace brood
