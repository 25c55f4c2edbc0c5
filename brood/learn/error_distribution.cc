#include "brood/learn/error_distribution.h"

#include <algorithm>
#include <cmath>

namespace brood {
namespace {

constexpr double kRate = 0.01;  // γ: forgets a run of misses in some hundred rows
constexpr double kHeaviest = 1e100;

}  // namespace

int ErrorDistribution::bin_of(double size) {
  if (!(size > 0)) return 0;
  return std::clamp(int(std::floor(std::log2(size) * kPerDoubling)) + kBins / 2, 0, kBins - 1);
}

double ErrorDistribution::lower_edge(int bin) { return std::exp2(double(bin - kBins / 2) / kPerDoubling); }

void ErrorDistribution::add(double size) {
  bins_[size_t(bin_of(size))] += weight_;
  total_ = total_ * forgetting_ + 1;
  weight_ /= forgetting_;
  if (weight_ < kHeaviest) return;
  for (double& bin : bins_) bin /= weight_;
  weight_ = 1;
}

double ErrorDistribution::tail(double size) const {
  double above = 0;
  for (int bin = bin_of(size); bin < kBins; ++bin) above += bins_[size_t(bin)];
  // total_ is in units of the newest error, which weighed weight_ · forgetting_.
  return (above / (weight_ * forgetting_) + 1) / (total_ + 1);
}

double ErrorDistribution::quantile(double share) const {
  double left = std::clamp(share, 0.0, 1.0) * total_ * weight_ * forgetting_;
  int last = -1;
  for (int bin = 0; bin < kBins; ++bin) {
    const double here = bins_[size_t(bin)];
    if (here <= 0) continue;
    last = bin;
    if (left <= here) {
      const double low = bin == 0 ? 0 : lower_edge(bin);
      return low + (lower_edge(bin + 1) - low) * left / here;
    }
    left -= here;
  }
  return last < 0 ? 0 : lower_edge(last + 1);
}

void ErrorDistribution::archive(Archive& archive) {
  archive.number(weight_);
  archive.number(total_);
  archive.numbers(bins_);
}

double ConformalInterval::half_width() const {
  const double width = errors_.quantile(1 - alpha_);
  // Asked for more than ever came: wider than that, by as much as is missing.
  return alpha_ < 0 ? width * (1 - 10 * alpha_) : width;
}

void ConformalInterval::learn(double size, double half_width) {
  if (errors_.total() > 0)
    alpha_ = std::clamp(alpha_ + kRate * (miss_ - (size > half_width ? 1 : 0)), -1.0, 1.0);
  errors_.add(size);
}

void ConformalInterval::archive(Archive& archive) {
  archive.number(alpha_);
  errors_.archive(archive);
}

}  // namespace brood
