#include "brood/learn/class_learner.h"

#include <algorithm>
#include <cmath>
#include <type_traits>

#include "brood/base/error.h"
#include "brood/kernels/least_squares.h"

namespace brood {
namespace {

constexpr int64_t kOfEachColumn = 4, kOfEachClass = 5, kLastLabels = 3;
constexpr double kMostInput = 8;  // deviations
constexpr double kLeastShare = 1e-12;

}  // namespace

ClassLearner::ClassLearner(int64_t columns, const ClassSettings& settings)
    : settings_(settings),
      columns_(columns),
      history_(columns, std::max(settings.window, settings.season) + 2),
      scales_(size_t(input_count())),
      inputs_(size_t((settings.delay + 1) * input_count())),
      labels_(size_t(settings.delay + std::max(settings.window, settings.season) + kLastLabels), -1),
      weights_(size_t(room_ * input_count())),
      squares_(weights_.size()),
      probabilities_(size_t(room_)),
      errors_(size_t(room_)) {
  BROOD_ASSERT(columns > 0 && settings.delay > 0 && settings.window > 0 && settings.season >= 0);
}

int64_t ClassLearner::input_count(int64_t columns, int64_t room) {
  return 1 + kOfEachColumn * columns + kOfEachClass * room;
}

// Inputs of a class stand side by side for each of the kOfEachClass things that are told of it: all of them move.
void ClassLearner::make_room(int64_t classes) {
  const int64_t before = room_, inputs = input_count(), others = 1 + kOfEachColumn * columns_;
  while (room_ < classes) room_ *= 2;
  if (room_ == before) return;
  const int64_t wider = input_count();
  const auto widen = [&](auto& numbers, int64_t rows, int64_t rows_then) {
    std::remove_reference_t<decltype(numbers)> old(size_t(rows_then * wider));
    old.swap(numbers);
    for (int64_t row = 0; row < rows; ++row)
      for (int64_t i = 0; i < inputs; ++i) {
        const int64_t of_class = i - others, moved = of_class < 0 ? 0 : of_class / before * (room_ - before);
        numbers[size_t(row * wider + i + moved)] = old[size_t(row * inputs + i)];
      }
  };
  widen(scales_, 1, 1);
  widen(inputs_, settings_.delay + 1, settings_.delay + 1);
  widen(weights_, before, room_);
  widen(squares_, before, room_);
  probabilities_.resize(size_t(room_));
  errors_.resize(size_t(room_));
}

int64_t ClassLearner::label_at(int64_t row) const {
  return row < 0 ? -1 : labels_[size_t(row) % labels_.size()];
}

// Of row rows_ − 1, the newest; its own label and those of the rows less than `delay` before it are not known.
void ClassLearner::fill_inputs(std::span<double> z) {
  const int64_t oldest = history_.rows() - 1, newest = rows_ - 1;
  size_t at = 0;
  z[at++] = 1;
  for (int64_t column = 0; column < columns_; ++column) {
    const double value = history_.at(column, 0);
    const int64_t count = std::min(settings_.window, history_.rows());
    double sum = 0;
    for (int64_t ago = 0; ago < count; ++ago) sum += history_.at(column, ago);
    z[at++] = value;
    z[at++] = value - history_.at(column, std::min<int64_t>(1, oldest));
    z[at++] = value - sum / double(count);
    z[at++] = value - history_.at(column, std::min(settings_.season, oldest));
  }
  const auto shares = z.subspan(at, size_t(kOfEachClass * room_));
  std::fill(shares.begin(), shares.end(), 0.0);
  const auto mark = [&](int64_t place, int64_t label, double much) {
    if (label >= 0) shares[size_t(place * room_ + label)] += much;
  };
  const int64_t known = newest - settings_.delay;
  for (int64_t i = 0; i < kLastLabels; ++i) mark(i, label_at(known - i), 1);
  for (int64_t i = 0; i < settings_.window; ++i)
    mark(kLastLabels, label_at(known - i), 1 / double(settings_.window));
  if (settings_.season >= settings_.delay) mark(kLastLabels + 1, label_at(newest - settings_.season), 1);
  for (size_t i = 1; i < z.size(); ++i) {
    scales_[i].add(z[i]);
    z[i] = std::clamp((z[i] - scales_[i].mean()) / scales_[i].deviation(), -kMostInput, kMostInput);
  }
}

void ClassLearner::predict(std::span<const double> z, std::span<double> probabilities) const {
  const size_t classes = names_.size();
  double most = 0, total = 0;
  for (size_t k = 0; k < classes; ++k) {
    probabilities[k] = kernels::dot(int64_t(z.size()), &weights_[k * z.size()], z.data());
    most = k == 0 ? probabilities[k] : std::max(most, probabilities[k]);
  }
  for (size_t k = 0; k < classes; ++k) total += probabilities[k] = std::exp(probabilities[k] - most);
  for (size_t k = 0; k < classes; ++k) probabilities[k] /= total;
}

void ClassLearner::learn_late_label() {
  const int64_t row = rows_ - 1 - settings_.delay, label = label_at(row);
  if (label < 0) return;
  const size_t inputs = size_t(input_count());
  const std::span<const double> z(&inputs_[size_t(row % (settings_.delay + 1)) * inputs], inputs);
  predict(z, errors_);
  for (size_t k = 0; k < names_.size(); ++k) {
    const double error = errors_[k] - (k == size_t(label) ? 1 : 0);
    double* w = &weights_[k * inputs];
    double* square = &squares_[k * inputs];
    for (size_t i = 0; i < inputs; ++i) {
      const double gradient = error * z[i];
      square[i] += gradient * gradient;
      if (square[i] > 0) w[i] -= settings_.rate * gradient / std::sqrt(square[i]);
    }
  }
}

int64_t ClassLearner::class_of(std::string_view label) {
  if (label.empty()) return -1;
  const std::string_view name = label.substr(0, kMostNameBytes);
  const auto at = std::find(names_.begin(), names_.end(), name);
  if (at != names_.end()) return at - names_.begin();
  if (int64_t(names_.size()) == kMostClasses) return -1;
  names_.emplace_back(name);
  make_room(int64_t(names_.size()));
  return int64_t(names_.size()) - 1;
}

void ClassLearner::observe(std::span<const double> values, std::string_view label) {
  history_.push(values, 0);
  ++rows_;
  learn_late_label();
  const size_t inputs = size_t(input_count());
  const std::span z(&inputs_[size_t((rows_ - 1) % (settings_.delay + 1)) * inputs], inputs);
  fill_inputs(z);
  predict(z, probabilities_);
  const auto likely =
      std::max_element(probabilities_.begin(), probabilities_.begin() + int64_t(names_.size()));
  predicted_ = names_.empty() ? -1 : likely - probabilities_.begin();
  const int64_t known = label_at(rows_ - 1 - settings_.delay), truth = class_of(label);
  labels_[size_t(rows_ - 1) % labels_.size()] = truth;
  if (label.empty()) return;
  ++score_.rows;
  if (truth < 0) {
    ++score_.beyond;
    score_.nats -= std::log(kLeastShare);
    return;
  }
  score_.right += predicted_ == truth;
  score_.repeated += known == truth;
  // A class that was never seen had no probability.
  score_.nats -= std::log(std::max(probabilities_[size_t(truth)], kLeastShare));
}

double ClassLearner::least_bytes(int64_t columns, const ClassSettings& settings) {
  const int64_t back = std::max(settings.window, settings.season);
  const double inputs = double(input_count(columns, kFirstClasses));
  return 8 * (2 + inputs * (double(settings.delay) + 1 + 2 * double(kFirstClasses)) +
              double(settings.delay + back + kLastLabels)) +
         SeriesHistory::archived_bytes(columns, back + 2) + inputs * archived_bytes(RunningScale()) +
         archived_bytes(ClassScore());
}

void ClassScore::archive(Archive& archive) {
  for (int64_t* count : {&rows, &right, &repeated, &beyond}) archive.whole(*count, 0, int64_t(1) << 60);
  archive.number(nats);
}

void ClassLearner::archive(Archive& archive) {
  archive.whole(rows_, 0, int64_t(1) << 60);
  int64_t classes = int64_t(names_.size());
  archive.whole(classes, 0, kMostClasses);
  names_.resize(size_t(classes));
  for (std::string& name : names_) archive.text(name, kMostNameBytes);
  if (archive.reading()) {
    const double rows = double(settings_.delay) + 1 + 2 * double(classes);
    archive.expect(8 * rows * double(input_count(columns_, classes)));
    make_room(classes);
  }
  history_.archive(archive);
  for (RunningScale& scale : scales_) scale.archive(archive);
  for (std::vector<double>* numbers : {&inputs_, &weights_, &squares_}) archive.numbers(*numbers);
  for (int64_t& label : labels_) archive.whole(label, -1, classes - 1);
  score_.archive(archive);
  for (double square : squares_)
    if (archive.reading() && square < 0) archive.refuse("a sum of squares in it is negative");
}

}  // namespace brood
