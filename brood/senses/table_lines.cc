#include "brood/senses/table_lines.h"

#include <algorithm>
#include <utility>

#include "brood/senses/table.h"

namespace brood {

void RowCutter::feed(std::span<const uint8_t> bytes) {
  if (begin_ > 0) {
    bytes_.erase(0, begin_);
    at_ -= begin_;
    begin_ = 0;
  }
  bytes_.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
}

bool RowCutter::separates(char c) const {
  return separator_ != 0 ? c == separator_ : c == ',' || c == ';' || c == '\t';
}

RowCutter::Cut RowCutter::give(size_t end, size_t next, std::string_view& row, int64_t& line) {
  row = std::string_view(bytes_).substr(begin_, end - begin_);
  if (!row.empty() && row.back() == '\r') row.remove_suffix(1);
  line = line_;
  line_ += std::count(bytes_.begin() + int64_t(begin_), bytes_.begin() + int64_t(next), '\n');
  begin_ = at_ = next;
  open_ = false;
  field_begins_ = true;
  return Cut::kRow;
}

// A quote that somebody forgot would take the rest of the stream with it: go on after the first line. A line
// without end is thrown away as it comes.
// In what was looked through only: how the bytes come must not matter.
RowCutter::Cut RowCutter::give_up(std::string_view& row, int64_t& line) {
  const size_t end = std::min(std::string_view(bytes_).substr(0, at_).find('\n', begin_), at_);
  skipping_ = end == at_;
  give(end, skipping_ ? end : end + 1, row, line);
  return Cut::kTooLong;
}

RowCutter::Cut RowCutter::next(std::string_view& row, int64_t& line) {
  if (skipping_) {
    const size_t end = bytes_.find('\n', begin_);
    begin_ = at_ = end == std::string::npos ? bytes_.size() : end + 1;
    if (end == std::string::npos) return Cut::kNotYet;
    skipping_ = false;
    ++line_;
  }
  for (; at_ < bytes_.size(); ++at_) {
    const char c = bytes_[at_];
    if (at_ - begin_ > kMostRowBytes) return give_up(row, line);
    if (c == '"' && quotes_ && (open_ || field_begins_)) open_ = !open_;
    if (c == '\n' && !open_) return give(at_, at_ + 1, row, line);
    // A quote that follows a closed one at once stands for itself and opens the field again.
    field_begins_ = c == '"' || separates(c);
  }
  if (!finished_ || begin_ == bytes_.size()) return Cut::kNotYet;
  if (open_ && bytes_.find('\n', begin_) != std::string::npos) return give_up(row, line);
  return give(bytes_.size(), bytes_.size(), row, line);
}

void RowCutter::skip(size_t n) {
  line_ += std::count(bytes_.begin() + int64_t(begin_), bytes_.begin() + int64_t(begin_ + n), '\n');
  at_ = begin_ += n;
}

void RowCutter::archive(Archive& archive) {
  std::string rest(front());
  int64_t skipping = skipping_;
  archive.whole(line_, 1, int64_t(1) << 60);
  archive.whole(skipping, 0, 1);
  archive.text(rest, 2 * kMostRowBytes);
  if (!archive.reading()) return;
  skipping_ = skipping != 0;
  bytes_ = std::move(rest);
  begin_ = at_ = 0;
  open_ = finished_ = false;
  field_begins_ = true;
}

const char* FieldSplitter::split(std::string_view row, char separator) {
  pieces_.clear();
  text_.clear();
  size_t at = 0;
  for (;;) {
    if (pieces_.size() == kMostColumns) return "more fields than any table has";
    if (at < row.size() && row[at] == '"') {
      const size_t begin = text_.size();
      for (++at;; ++at) {
        if (at == row.size()) return "a quote that is not closed";
        if (row[at] == '"' && (++at == row.size() || row[at] != '"')) break;
        text_ += row[at];
      }
      if (at < row.size() && row[at] != separator) return "something after a closed quote";
      pieces_.push_back({begin, text_.size() - begin, true});
    } else {
      const size_t end = std::min(row.find(separator, at), row.size());
      pieces_.push_back({at, end - at, false});
      at = end;
    }
    if (at == row.size()) break;
    ++at;
  }
  fields_.clear();
  for (const Piece& piece : pieces_)
    fields_.push_back((piece.unquoted ? std::string_view(text_) : row).substr(piece.begin, piece.length));
  return nullptr;
}

char guess_separator(std::string_view header) {
  constexpr char kSeparators[] = {',', ';', '\t'};
  int64_t counts[3] = {}, decimal = 0;
  bool quoted = false;
  const auto is_digit = [&](size_t i) { return i < header.size() && header[i] >= '0' && header[i] <= '9'; };
  for (size_t i = 0; i < header.size(); ++i) {
    if (header[i] == '"') quoted = !quoted;
    for (size_t which = 0; which < 3 && !quoted; ++which) counts[which] += header[i] == kSeparators[which];
    decimal += !quoted && header[i] == ',' && i > 0 && is_digit(i - 1) && is_digit(i + 1);
  }
  if (counts[1] + counts[2] > 0) counts[0] -= decimal;
  return kSeparators[std::max_element(counts, counts + 3) - counts];
}

}  // namespace brood
