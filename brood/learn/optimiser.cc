#include "brood/learn/optimiser.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "brood/kernels/optimiser.h"

namespace brood {

kernels::AdamW adamw_step(const OptimiserSettings& settings, const Parameter& w, double learning_rate,
                          int64_t step) {
  return {.lr = float(learning_rate),
          .beta1 = float(settings.beta1),
          .beta2 = float(settings.beta2),
          .eps = float(settings.eps),
          .decay = w.decays ? float(settings.weight_decay) : 0.0f,
          .correct1 = float(1.0 / (1.0 - std::pow(settings.beta1, double(step)))),
          .correct2 = float(1.0 / (1.0 - std::pow(settings.beta2, double(step))))};
}

void ensure_moments(Parameter& w) {
  for (Tensor* moment : {&w.moment1, &w.moment2})
    if (moment->empty()) *moment = Tensor::zeros(w.value.shape());
}

void forget_moments(ParameterStore& parameters) {
  for (Parameter& w : parameters.all()) w.moment1 = w.moment2 = Tensor();
}

void balance(Parameter& w) {
  float* b = w.value.f32();
  const float* load = w.gradient.f32();
  double mean = 0;
  for (int64_t i = 0; i < w.size(); ++i) {
    if (load[i] != 0) b[i] -= std::copysign(w.balance_rate, load[i]);
    mean += double(b[i]);
  }
  mean /= double(w.size());
  for (int64_t i = 0; i < w.size(); ++i) b[i] = float(double(b[i]) - mean);
  w.gradient_open = false;
  ++w.version;
}

Optimiser::Optimiser(ParameterStore& parameters, const OptimiserSettings& settings)
    : parameters_(parameters), settings_(settings) {}

double Optimiser::step(double learning_rate) {
  ++steps_;
  double squares = 0;
  for (const Parameter& w : parameters_.all())
    if (w.gradient_open && w.balance_rate == 0) squares += kernels::squared_norm(w.size(), w.gradient.f32());
  const double norm = std::sqrt(squares);
  const float scale = settings_.clip > 0 && norm > settings_.clip ? float(settings_.clip / norm) : 1.0f;
  for (Parameter& w : parameters_.all()) {
    if (!w.gradient_open) continue;
    if (w.balance_rate > 0) {
      balance(w);
      continue;
    }
    if (settings_.kind == OptimiserSettings::Kind::kAdamW) {
      ensure_moments(w);
      kernels::adamw(w.size(), adamw_step(settings_, w, learning_rate, steps_), w.gradient.f32(), scale,
                     w.value.f32(), w.moment1.f32(), w.moment2.f32(), nullptr);
    } else {
      kernels::sgd(w.size(), float(learning_rate), w.decays ? float(settings_.weight_decay) : 0.0f,
                   w.gradient.f32(), scale, w.value.f32(), nullptr);
    }
    w.gradient_open = false;
    ++w.version;
  }
  return norm;
}

double Schedule::at(int64_t step) const {
  if (step < warmup) return peak * double(step + 1) / double(warmup);
  if (shape == Shape::kConstant || total <= warmup) return peak;
  const double done = std::min(1.0, double(step - warmup) / double(total - warmup));
  const double left = shape == Shape::kCosine ? 0.5 * (1.0 + std::cos(std::numbers::pi * done)) : 1.0 - done;
  return peak * (floor + (1.0 - floor) * left);
}

}  // namespace brood
