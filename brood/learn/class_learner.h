// ClassLearner: rows of numbers, the class of each, predicted before it is known. Labels may come late: that of
// a row is learnt `delay` rows after it and tells nothing before.
//
// Logistic regression on the softmax, p(k | z) ∝ exp(w_k z), by AdaGrad (Duchi, Hazan, Singer, JMLR 2011; the
// diagonal form):
//
//   g = (p − y) zᵀ,  G += g∘g,  W −= η g / √G
//
// The inputs z, each brought to mean 0 and deviation 1 as it runs: of every column the value, its change since
// the row before and since a season ago, and how far it is from the mean of its last values; the last three
// labels that are known, their shares of late, and the one a season ago.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "brood/base/archive.h"
#include "brood/learn/series_column.h"

namespace brood {

struct ClassSettings {
  int64_t delay = 1;    // rows after which a label is known, at least 1
  int64_t season = 0;   // rows after which things repeat; 0: not known
  int64_t window = 48;  // last values and labels that means are taken of
  double rate = 0.1;    // η
};

struct ClassScore {
  int64_t rows = 0;      // with a label
  int64_t right = 0;     // predicted
  int64_t repeated = 0;  // the last label that was known then
  int64_t beyond = 0;    // of more classes than kMostClasses, and so not to be predicted
  double nats = 0;       // −ln p of the labels

  void archive(Archive& archive);
};

// Not thread-safe. Memory does not grow with the stream.
class ClassLearner {
 public:
  static constexpr int64_t kMostClasses = 256;
  static constexpr size_t kMostNameBytes = 64;

  ClassLearner(int64_t columns, const ClassSettings& settings);

  // The next row and its label, which is scored now and learnt later; empty: it will never be known. A class is
  // made when its first label is seen; labels of more than kMostClasses classes count as predicted wrongly, and are not
  // learnt.
  void observe(std::span<const double> values, std::string_view label);

  // What was predicted for that row, before its label counted: index of the class, −1 while there is none.
  int64_t predicted() const { return predicted_; }
  std::span<const double> probabilities() const { return {probabilities_.data(), names_.size()}; }
  const std::vector<std::string>& names() const { return names_; }
  const ClassScore& score() const { return score_; }
  void begin_scores() { score_ = {}; }
  int64_t rows() const { return rows_; }
  void archive(Archive& archive);
  // What that writes at least, of a learner that has learnt nothing: to be known before one is made.
  static double least_bytes(int64_t columns, const ClassSettings& settings);

 private:
  static constexpr int64_t kFirstClasses = 16;  // there is room for so many, then for twice as many each time

  static int64_t input_count(int64_t columns, int64_t room);
  int64_t input_count() const { return input_count(columns_, room_); }
  void make_room(int64_t classes);
  void fill_inputs(std::span<double> z);
  void predict(std::span<const double> z, std::span<double> probabilities) const;
  void learn_late_label();
  int64_t class_of(std::string_view label);
  int64_t label_at(int64_t row) const;  // −1: not known

  ClassSettings settings_;
  int64_t columns_, room_ = kFirstClasses, rows_ = 0, predicted_ = -1;
  SeriesHistory history_;
  std::vector<RunningScale> scales_;
  std::vector<double> inputs_;   // of the rows whose labels are to come: a ring of [delay + 1, inputs]
  std::vector<int64_t> labels_;  // of all rows that inputs look back to: a ring
  std::vector<double> weights_, squares_, probabilities_, errors_;
  std::vector<std::string> names_;
  ClassScore score_;
};

}  // namespace brood
