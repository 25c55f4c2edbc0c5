#include "brood/learn/novelty.h"

#include <algorithm>
#include <cmath>

namespace brood {
namespace {

constexpr double kEnvelopeWeight = 0.15, kErrorWeight = 0.15;
constexpr int64_t kBeginValues = 20, kBeginErrors = 60;  // rows after which a distance means something

}  // namespace

Prototypes::Prototypes(int64_t dimensions) : dimensions_(dimensions) {
  points_.reserve(size_t(kMost * dimensions));
  low_.assign(size_t(dimensions), 0.0);
  high_ = low_;
  scale_.assign(size_t(dimensions), 1.0);
}

double Prototypes::distance_up_to(std::span<const double> point, double enough) const {
  double nearest = kFarthest;
  for (size_t at = 0; at < points_.size() && nearest > enough; at += size_t(dimensions_)) {
    double farthest = 0;
    for (size_t i = 0; i < size_t(dimensions_); ++i)
      farthest = std::max(farthest, std::abs(point[i] - points_[at + i]) * scale_[i]);
    nearest = std::min(nearest, farthest);
  }
  return nearest;
}

double Prototypes::distance(std::span<const double> point) const {
  return points_.empty() ? 0 : distance_up_to(point, 0);
}

void Prototypes::learn(std::span<const double> point) {
  for (size_t i = 0; i < size_t(dimensions_); ++i) {
    low_[i] = points_.empty() ? point[i] : std::min(low_[i], point[i]);
    high_[i] = points_.empty() ? point[i] : std::max(high_[i], point[i]);
    // Where nothing ever changed, a change by a billionth is rounding.
    const double size = std::max(std::abs(low_[i]), std::abs(high_[i]));
    scale_[i] = 1 / std::max({high_[i] - low_[i], 1e-9 * size, 1e-200});
  }
  if (!points_.empty() && distance_up_to(point, radius_) <= radius_) return;
  if (count() == kMost) thin();
  points_.insert(points_.end(), point.begin(), point.end());
}

// Since the first prototypes the range has grown, and what was far apart is near. Where that is not so, the
// radius grows.
void Prototypes::thin() {
  const std::vector<double> all = points_;
  while (count() > kMost / 2) {
    points_.clear();
    for (size_t at = 0; at < all.size(); at += size_t(dimensions_)) {
      const std::span point(&all[at], size_t(dimensions_));
      if (points_.empty() || distance_up_to(point, radius_) > radius_)
        points_.insert(points_.end(), point.begin(), point.end());
    }
    if (count() > kMost / 2) radius_ *= 1.5;
  }
}

void Prototypes::archive(Archive& archive) {
  archive.number(radius_);
  if (archive.reading() && !(radius_ > 0)) archive.refuse("a radius in it is not above 0");
  archive.list(points_, size_t(kMost * dimensions_));
  if (points_.size() % size_t(dimensions_) != 0) archive.refuse("a list in it has the wrong length");
  archive.numbers(low_);
  archive.numbers(high_);
  archive.numbers(scale_);
}

Novelty::Novelty()
    : window_(size_t(kWindow)), scores_(size_t(kQuiet)), values_(1), means_(1), envelopes_(2), errors_(1) {}

int64_t Novelty::prototypes() const {
  return values_.count() + means_.count() + envelopes_.count() + errors_.count();
}

double Novelty::look(Prototypes& memory, std::span<const double> point, int64_t begin) {
  const double score = rows_ >= begin ? memory.distance(point) : 0;
  if (rows_ >= begin / 2) memory.learn(point);
  return score;
}

double Novelty::observe(double value, double error) {
  window_[size_t(rows_ % kWindow)] = value;
  const auto last = std::span(window_).first(size_t(std::min(rows_ + 1, kWindow)));
  double sum = 0, highest = value, lowest = value;
  for (const double x : last) {
    sum += x;
    highest = std::max(highest, x);
    lowest = std::min(lowest, x);
  }
  const double mean = sum / double(last.size()), envelope[] = {highest, lowest};
  double score = look(values_, {&value, 1}, kBeginValues) + look(means_, {&mean, 1}, kWindow) +
                 kEnvelopeWeight * look(envelopes_, envelope, kBeginValues);
  if (std::isfinite(error)) score += kErrorWeight * look(errors_, {&error, 1}, kBeginErrors);
  score = news(score);
  ++rows_;
  return score;
}

double Novelty::news(double score) {
  const double most = *std::max_element(scores_.begin(), scores_.end());
  scores_[size_t(rows_ % kQuiet)] = score;
  return score > most ? score : 0;
}

void Novelty::archive(Archive& archive) {
  archive.whole(rows_, 0, int64_t(1) << 60);
  archive.numbers(window_);
  archive.numbers(scores_);
  for (Prototypes* memory : {&values_, &means_, &envelopes_, &errors_}) memory->archive(archive);
}

}  // namespace brood
