// What is said of a series, row by row: as CSV, as JSON Lines, as a page.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "brood/base/file_system.h"
#include "brood/learn/class_learner.h"
#include "brood/learn/series.h"
#include "brood/senses/table.h"

namespace brood::cli {

// Text that grows: a file, or standard output for "-". It begins empty.
class TextFile {
 public:
  explicit TextFile(const std::string& path);
  ~TextFile();
  std::string& text() { return text_; }  // to be added to; written now and then
  void flush();
  void finish();  // all of it is on the disk

 private:
  std::string path_, text_;
  std::unique_ptr<WritableFile> file_;
};

// A field of CSV, quoted where it must be.
void add_field(std::string& text, std::string_view field);

// One row for each row of the series. JSON Lines when the name ends in .jsonl or .ndjson.
class SeriesRows {
 public:
  SeriesRows(const std::string& path, std::vector<std::string> columns);
  void add(const TableRow& row, std::span<const SeriesReport> reports);
  TextFile& file() { return file_; }

 private:
  void add_csv(const TableRow& row, std::span<const SeriesReport> reports);
  void add_json(const TableRow& row, std::span<const SeriesReport> reports);

  bool json_;
  TextFile file_;
  std::vector<std::string> columns_;
  bool begun_ = false;
};

// The same of classes: what was predicted of each row, how sure that was, and the label.
class ClassRows {
 public:
  explicit ClassRows(const std::string& path);
  void add(const TableRow& row, const ClassLearner& learner);
  TextFile& file() { return file_; }

 private:
  bool json_;
  TextFile file_;
};

// Rows that were not as they should be: line, reason, row.
class RejectedRows {
 public:
  explicit RejectedRows(const std::string& path);  // empty: they are only counted
  void add(const RejectedRow& row);
  int64_t count() const { return count_; }
  std::string first() const { return first_; }  // in words
  void flush();
  void finish();

 private:
  std::unique_ptr<TextFile> file_;
  int64_t count_ = 0;
  std::string first_;
};

// Charts of each column: what came, what was expected, the interval, alarms. A long series is thinned, its
// alarms are not (but for the weakest, of more than some thousands).
class SeriesPage {
 public:
  explicit SeriesPage(std::vector<std::string> columns);
  void add(int64_t row, std::span<const double> values, std::span<const SeriesReport> reports);
  std::string html(const std::string& title, const std::string& summary) const;

 private:
  struct Point {
    double row, value, expected, low, high, surprise;
  };
  struct Track {
    std::vector<Point> points;
    std::vector<std::pair<double, double>> alarms;
  };
  std::vector<std::string> columns_;
  std::vector<Track> tracks_;
  int64_t stride_ = 1;
};

}  // namespace brood::cli
