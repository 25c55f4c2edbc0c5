// How large errors usually are: a running distribution of their sizes, which answers "how rare is an error as
// large as this?" and "how wide must an interval be?" without assuming a shape.
#pragma once

#include <array>
#include <cstdint>

#include "brood/base/archive.h"

namespace brood {

// Sizes fall into bins that are an eighth of a doubling wide; older ones fade. Not thread-safe.
class ErrorDistribution {
 public:
  explicit ErrorDistribution(double forgetting = 0.9995) : forgetting_(forgetting) {}

  void add(double size);  // 0 or above, finite
  // Of an error being as large as this or larger, as a share of those that came; never 0: one more than were
  // seen might be as large.
  double tail(double size) const;
  // The size that this share of the errors stay below.
  double quantile(double share) const;
  double total() const { return total_; }  // errors seen, as far as they are not faded
  void archive(Archive& archive);

 private:
  static constexpr int kPerDoubling = 8, kDoublings = 128, kBins = kPerDoubling * kDoublings;
  static int bin_of(double size);
  static double lower_edge(int bin);

  double forgetting_;
  double weight_ = 1, total_ = 0;  // weight_: of the next error; it grows instead of all others fading
  std::array<double, kBins> bins_{};
};

// An interval that holds a given share of what comes, whatever comes: adaptive conformal inference (Gibbs and
// Candès, NeurIPS 2021). The share asked of past errors, 1 − α_t, moves with every miss:
//
//   α_{t+1} = α_t + γ (α − [missed])
//
// so that over time misses are a share α of all, also when the stream changes.
class ConformalInterval {
 public:
  explicit ConformalInterval(double coverage) : miss_(1 - coverage), alpha_(miss_) {}

  double half_width() const;  // around the prediction; 0 while nothing is known
  // An error came, for which this half-width had been given.
  void learn(double size, double half_width);
  void archive(Archive& archive);

 private:
  double miss_, alpha_;
  ErrorDistribution errors_;
};

}  // namespace brood
