// The rows of a table as pieces of its bytes: where each begins and ends, and what its fields are.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "brood/base/archive.h"

namespace brood {

// Cuts a stream into rows: at every line end, but, once quotes() was called, not inside quotes. Not thread-safe.
class RowCutter {
 public:
  // From now on fields may be quoted; they stand between these, 0: any of "," ";" and tab.
  void quotes(char separator) {
    quotes_ = true;
    separator_ = separator;
  }
  void feed(std::span<const uint8_t> bytes);
  void finish() { finished_ = true; }

  enum class Cut { kRow, kTooLong, kNotYet };
  // The next row without its line end, valid until the next call of feed(). Too long: longer than kMostRowBytes,
  // or a quote that is not closed for so long; `row` then is its first line, or what there is of it, and the
  // stream goes on after that.
  Cut next(std::string_view& row, int64_t& line);
  // The first bytes, for a look at what they are.
  std::string_view front() const { return std::string_view(bytes_).substr(begin_); }
  void skip(size_t n);

  // Where it is, with the bytes that no row was given of yet: at most a feed more than kMostRowBytes. What is read
  // goes on there, also after finish().
  void archive(Archive& archive);

 private:
  bool separates(char c) const;
  Cut give(size_t end, size_t next, std::string_view& row, int64_t& line);
  Cut give_up(std::string_view& row, int64_t& line);

  std::string bytes_;
  size_t begin_ = 0, at_ = 0;  // of the row, and how far it was looked through
  char separator_ = 0;
  bool quotes_ = false, open_ = false, field_begins_ = true, finished_ = false, skipping_ = false;
  int64_t line_ = 1;
};

// Splits a row of CSV. Keeps its memory from row to row.
class FieldSplitter {
 public:
  // Null when all is well, else what is wrong: "a quote that is not closed". The fields are views into the row
  // or into memory of this.
  const char* split(std::string_view row, char separator);
  std::span<const std::string_view> fields() const { return fields_; }

 private:
  struct Piece {
    size_t begin, length;
    bool unquoted;  // in text_
  };
  std::vector<Piece> pieces_;
  std::vector<std::string_view> fields_;
  std::string text_;  // of fields that had quotes
};

// The most frequent of "," ";" and tab outside quotes; a comma when there is none. Commas between digits may be decimal
// ones and do not count where there are others.
char guess_separator(std::string_view header);

}  // namespace brood
