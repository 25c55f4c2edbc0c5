// Tables as streams: rows of CSV (RFC 4180: quotes, separators "," ";" or tab) or of JSON Lines, one after the
// other as their bytes come, from a file or from a pipe that never ends. What kind it is, its first bytes say.
//
// Nobody vouches for the bytes. A row that is not as it should be is handed to the caller with the reason, and
// the stream goes on with the next one; only a table without the columns that were asked for, or with two of a name, ends
// it. Where ";" or tab separates, numbers may have a decimal comma. Memory is bounded by kMostRowBytes and kMostColumns, whatever comes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "brood/base/archive.h"

namespace brood {

constexpr size_t kMostRowBytes = size_t(1) << 20;
constexpr size_t kMostColumns = 4096;
constexpr double kLargestValue = 1e100;  // what is beyond is no measurement

struct TableSettings {
  // The columns to read as numbers; empty: all that hold a number in the first row or nothing, but those below. One of
  // these whose first value then is no number is left out: its values are all missing.
  std::vector<std::string> columns;
  // When each row was; empty: the first column when its name says so or its first value is a date, else none.
  std::string time;
  std::string label;  // the class of each row; empty: none
};

// What is read of a row. The views are of the reader's own memory and hold until its next call.
struct TableRow {
  int64_t line = 0;            // on which it begins, from 1
  double time = 0;             // as parse_time (senses/timestamp.h) gives it; NaN without a column of time
  std::string_view time_text;  // as it stands there
  std::span<const double> values;  // one for each of columns(); NaN: missing
  std::string_view label;          // empty: not known
};

struct RejectedRow {
  int64_t line;
  std::string_view reason;  // "8 fields where the header has 7"
  std::string_view text;    // the row, its first kilobyte when it is longer
};

// Not thread-safe.
class TableReader {
 public:
  using Rejected = std::function<void(const RejectedRow&)>;
  using Told =
      std::function<void(const std::string&)>;  // a sentence for people: which columns are read, and how
  TableReader(TableSettings settings, Rejected rejected, Told told = {});
  TableReader(TableReader&&) noexcept;
  ~TableReader();

  // The next bytes of the table, any number of them; take the rows that they complete before giving more.
  void feed(std::span<const uint8_t> bytes);
  void finish();  // no more bytes will come: a last row need not end in a line end
  // The next row; false: it is not all there yet, or there is none any more. Throws Error when the table does
  // not have the columns that were asked for.
  bool next(TableRow& row);

  // Known after the first row. The names of the numbers, in the order of TableRow::values.
  const std::vector<std::string>& columns() const;
  const std::string& time_column() const;  // empty: none

  // Where it is, to go on there to the bit, also after finish() when more has come. Who reads one has been made with the
  // same settings. Blocks fed must not be longer than kMostRowBytes.
  void archive(Archive& archive);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace brood
