#include "brood/learn/closed_form.h"

#include <cmath>

#include "brood/base/error.h"
#include "brood/kernels/least_squares.h"

namespace brood {
namespace {

// L of A = L Lᵀ in the lower triangle, in place. False when A is not positive definite.
bool factor(int64_t n, std::vector<double>& a) {
  for (int64_t i = 0; i < n; ++i) {
    double* row = &a[size_t(i * n)];
    for (int64_t j = 0; j <= i; ++j) {
      const double* other = &a[size_t(j * n)];
      const double left = row[j] - kernels::dot(j, row, other);
      if (j < i)
        row[j] = left / other[j];
      else if (!(left > 0) || !std::isfinite(left))
        return false;
      else
        row[i] = std::sqrt(left);
    }
  }
  return true;
}

// x = (L Lᵀ)⁻¹ x.
void substitute(int64_t n, const std::vector<double>& l, double* x) {
  for (int64_t i = 0; i < n; ++i)
    x[i] = (x[i] - kernels::dot(i, &l[size_t(i * n)], x)) / l[size_t(i * n + i)];
  for (int64_t i = n - 1; i >= 0; --i) {
    x[i] /= l[size_t(i * n + i)];
    kernels::add_scaled(i, -x[i], &l[size_t(i * n)], x);
  }
}

// With forgetting, P of an input that never moves grows as λ^-n. Beyond this many times the prior nothing is
// known of it any more, and doubles would soon be out of digits.
constexpr double kMostDoubt = 1e6;

}  // namespace

RecursiveLeastSquares::RecursiveLeastSquares(int64_t inputs, int64_t outputs, double forgetting, double ridge)
    : inputs_(inputs), outputs_(outputs), forgetting_(forgetting), ridge_(ridge) {
  BROOD_ASSERT(inputs > 0 && outputs > 0 && forgetting > 0 && forgetting <= 1 && ridge > 0);
  p_.resize(size_t(inputs * inputs));
  weights_.resize(size_t(outputs * inputs));
  g_.resize(size_t(inputs));
  forget_all();
}

void RecursiveLeastSquares::forget_all() {
  std::fill(weights_.begin(), weights_.end(), 0.0);
  std::fill(p_.begin(), p_.end(), 0.0);
  for (int64_t i = 0; i < inputs_; ++i) p_[size_t(i * inputs_ + i)] = 1 / ridge_;
}

void RecursiveLeastSquares::predict(std::span<const double> z, std::span<double> y) const {
  for (int64_t k = 0; k < outputs_; ++k)
    y[size_t(k)] = kernels::dot(inputs_, &weights_[size_t(k * inputs_)], z.data());
}

void RecursiveLeastSquares::learn(std::span<const double> z, std::span<const double> y) {
  const double spread = kernels::symmetric_product(inputs_, p_.data(), z.data(), g_.data());
  const double denominator = forgetting_ + spread;
  // Rounding has eaten the matrix, or the example is out of all bounds.
  if (!(spread >= 0) || !std::isfinite(denominator)) return forget_all();
  for (int64_t k = 0; k < outputs_; ++k) {
    double* w = &weights_[size_t(k * inputs_)];
    const double error = y[size_t(k)] - kernels::dot(inputs_, w, z.data());
    if (std::isfinite(error)) kernels::add_scaled(inputs_, error / denominator, g_.data(), w);
  }
  const double root = 1 / std::sqrt(denominator);
  for (double& g : g_) g *= root;
  kernels::symmetric_downdate(inputs_, g_.data(), 1 / forgetting_, p_.data());
  if (forgetting_ < 1) limit_doubt();
}

// D P D with a diagonal D is as symmetric and positive as P was.
void RecursiveLeastSquares::limit_doubt() {
  const double most = kMostDoubt / ridge_;
  for (int64_t i = 0; i < inputs_; ++i) {
    const double doubt = p_[size_t(i * inputs_ + i)];
    if (doubt <= most) continue;
    const double share = std::sqrt(most / doubt);
    for (int64_t j = 0; j < inputs_; ++j) {
      p_[size_t(i * inputs_ + j)] *= share;
      p_[size_t(j * inputs_ + i)] *= share;
    }
  }
}

// z' = T z, so W' = output_scale · W T⁻¹, and P = A⁻¹ becomes T⁻ᵀ P T⁻¹. T is diagonal but for its first column.
void RecursiveLeastSquares::change_units(std::span<const double> scale, std::span<const double> shift,
                                         double output_scale) {
  const auto times_inverse = [&](double* row, int64_t step) {
    for (int64_t i = 1; i < inputs_; ++i) {
      row[i * step] /= scale[size_t(i)];
      row[0] -= row[i * step] * shift[size_t(i)];
    }
  };
  for (int64_t k = 0; k < outputs_; ++k) {
    double* w = &weights_[size_t(k * inputs_)];
    times_inverse(w, 1);
    for (int64_t i = 0; i < inputs_; ++i) w[i] *= output_scale;
  }
  for (int64_t i = 0; i < inputs_; ++i) times_inverse(&p_[size_t(i * inputs_)], 1);
  for (int64_t j = 0; j < inputs_; ++j) times_inverse(&p_[size_t(j)], inputs_);
  for (int64_t i = 0; i < inputs_; ++i)
    for (int64_t j = 0; j < i; ++j) p_[size_t(i * inputs_ + j)] = p_[size_t(j * inputs_ + i)];
}

void RecursiveLeastSquares::archive(Archive& archive) {
  archive.numbers(p_);
  archive.numbers(weights_);
}

RidgeStatistics::RidgeStatistics(int64_t inputs, int64_t outputs) : inputs_(inputs), outputs_(outputs) {
  BROOD_ASSERT(inputs > 0 && outputs > 0);
  a_.resize(size_t(inputs * inputs));
  b_.resize(size_t(outputs * inputs));
}

void RidgeStatistics::add(std::span<const double> z, std::span<const double> y) {
  kernels::symmetric_update(inputs_, z.data(), a_.data());
  for (int64_t k = 0; k < outputs_; ++k)
    kernels::add_scaled(inputs_, y[size_t(k)], z.data(), &b_[size_t(k * inputs_)]);
  ++examples_;
}

void RidgeStatistics::require_same_shape(const RidgeStatistics& other, const char* doing) const {
  if (inputs_ != other.inputs_ || outputs_ != other.outputs_) {
    fail("{} statistics: {} inputs and {} outputs do not go with {} and {}", doing, other.inputs_,
         other.outputs_, inputs_, outputs_);
  }
}

void RidgeStatistics::merge(const RidgeStatistics& other) {
  require_same_shape(other, "merging");
  kernels::add_scaled(int64_t(a_.size()), 1, other.a_.data(), a_.data());
  kernels::add_scaled(int64_t(b_.size()), 1, other.b_.data(), b_.data());
  examples_ += other.examples_;
}

void RidgeStatistics::withdraw(const RidgeStatistics& other) {
  require_same_shape(other, "withdrawing");
  kernels::add_scaled(int64_t(a_.size()), -1, other.a_.data(), a_.data());
  kernels::add_scaled(int64_t(b_.size()), -1, other.b_.data(), b_.data());
  examples_ -= other.examples_;
}

std::vector<double> RidgeStatistics::solve(double ridge) const {
  std::vector<double> l = a_, weights = b_;
  for (int64_t i = 0; i < inputs_; ++i) l[size_t(i * inputs_ + i)] += ridge;
  if (!factor(inputs_, l))
    fail("solving for weights: the statistics of {} examples are not positive definite", examples_);
  for (int64_t k = 0; k < outputs_; ++k) substitute(inputs_, l, &weights[size_t(k * inputs_)]);
  return weights;
}

}  // namespace brood
