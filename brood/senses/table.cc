#include "brood/senses/table.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>

#include "brood/base/error.h"
#include "brood/base/json.h"
#include "brood/senses/table_lines.h"
#include "brood/senses/timestamp.h"

namespace brood {
namespace {

constexpr double kMissing = std::numeric_limits<double>::quiet_NaN();
constexpr size_t kShownBytes = 1024;  // of a rejected row
constexpr size_t kMostNameBytes = 256;

bool is_missing(std::string_view text) {
  constexpr std::string_view kWords[] = {"", "NA", "N/A", "NaN", "nan", "NULL", "null", "None", "?", "-"};
  return std::find(std::begin(kWords), std::end(kWords), text) != std::end(kWords);
}

bool is_time_name(std::string_view name) {
  std::string low(name);
  std::transform(low.begin(), low.end(), low.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? char(c + 32) : c; });
  constexpr std::string_view kNames[] = {"time", "timestamp", "date", "datetime", "ts", "ds"};
  return std::find(std::begin(kNames), std::end(kNames), low) != std::end(kNames);
}

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

// "1,5" as 1.5; false when it is no such number.
bool parse_decimal_comma(std::string_view text, double& number) {
  constexpr size_t kMostDigits = 64;
  const size_t comma = text.find(',');
  if (comma == std::string_view::npos || text.size() > kMostDigits ||
      text.find('.') != std::string_view::npos)
    return false;
  char copy[kMostDigits];
  std::copy(text.begin(), text.end(), copy);
  copy[comma] = '.';
  return parse_number({copy, text.size()}, number);
}

bool is_time(std::string_view text) {
  double ignored;
  return parse_time(text, ignored);
}

std::string list_of(const std::vector<std::string>& names) {
  constexpr size_t kShown = 12;
  std::string list;
  for (size_t i = 0; i < std::min(names.size(), kShown); ++i)
    list += fmt::format("{}{:.40}", i == 0 ? "" : ", ", names[i]);
  if (names.size() > kShown) list += fmt::format(" and {} more", names.size() - kShown);
  return list;
}

}  // namespace

struct TableReader::Impl {
  Impl(TableSettings asked, Rejected to, Told tell)
      : settings(std::move(asked)), rejected(std::move(to)), told(std::move(tell)) {}

  // What kind of table its first bytes show; false when they have not come yet.
  bool look() {
    constexpr std::string_view kByteOrderMark = "\xef\xbb\xbf";
    if (kind != Kind::kUnknown) return true;
    const std::string_view front = cutter.front();
    if (front.size() < kByteOrderMark.size() && !finished && kByteOrderMark.substr(0, front.size()) == front)
      return false;
    if (front.substr(0, kByteOrderMark.size()) == kByteOrderMark) cutter.skip(kByteOrderMark.size());
    const size_t first = cutter.front().find_first_not_of(" \t\r\n", blank);
    drop_blank_lines(std::min(first, cutter.front().size()));
    if (first == std::string_view::npos && blank <= kMostRowBytes) return false;
    kind = first != std::string_view::npos && cutter.front()[blank] == '{' ? Kind::kJson : Kind::kCsv;
    if (kind == Kind::kCsv) cutter.quotes(0);
    return true;
  }

  // Before the first row; what is blank at its own beginning stays.
  void drop_blank_lines(size_t blanks) {
    const size_t end = cutter.front().substr(0, blanks).rfind('\n');
    const size_t lines = end == std::string_view::npos ? 0 : end + 1;
    cutter.skip(lines);
    blank = blanks - lines;
  }

  void reject(int64_t line, std::string_view reason, std::string_view text) const {
    rejected({line, reason, text.substr(0, kShownBytes)});
  }

  bool next(TableRow& row) {
    std::string_view text;
    while (look()) {
      const RowCutter::Cut cut = cutter.next(text, row.line);
      if (cut == RowCutter::Cut::kNotYet) return false;
      if (cut == RowCutter::Cut::kTooLong)
        reject(row.line, "longer than a megabyte, or a quote that is not closed", text);
      else if (trimmed(text).empty())
        continue;
      else if (kind == Kind::kJson ? take_json(text, row) : take_csv(text, row))
        return true;
    }
    return false;
  }

  // --- CSV ---

  bool take_csv(std::string_view text, TableRow& row) {
    if (!separator) {  // the first row of all
      separator = guess_separator(text);
      cutter.quotes(*separator);
      if (const char* wrong = splitter.split(text, *separator)) fail("reading the table's header: {}", wrong);
      read_header();
      if (!headless) return false;
    } else if (const char* wrong = splitter.split(text, *separator)) {
      reject(row.line, wrong, text);
      return false;
    }
    const auto fields = splitter.fields();
    if (fields.size() != header.size()) {
      reject(row.line, fmt::format("{} fields where the header has {}", fields.size(), header.size()), text);
      return false;
    }
    if (!chosen) choose([&](size_t i) { return trimmed(fields[i]); });
    return read_fields([&](size_t i) { return trimmed(fields[i]); }, text, row);
  }

  // Names, or numbers already: then the columns are called 1, 2, 3.
  void read_header() {
    const auto fields = splitter.fields();
    headless =
        std::any_of(fields.begin(), fields.end(), [&](auto field) { return is_number(trimmed(field)); });
    for (size_t i = 0; i < fields.size(); ++i)
      header.push_back(headless ? std::to_string(i + 1)
                                : std::string(trimmed(fields[i]).substr(0, kMostNameBytes)));
  }

  // --- JSON Lines ---

  bool take_json(std::string_view text, TableRow& row) {
    nlohmann::json object;
    try {
      object = parse_json(text, "row");
    } catch (const Error& error) {
      reject(row.line, error.what(), text);
      return false;
    }
    if (!object.is_object()) {
      reject(row.line, "not a JSON object", text);
      return false;
    }
    if (!chosen) {
      for (const auto& [name, value] : object.items())
        if (header.size() < kMostColumns && !value.is_structured() && name.size() <= kMostNameBytes)
          header.push_back(name);
    }
    if (texts.size() < header.size()) texts.resize(header.size());
    for (size_t i = 0; i < header.size(); ++i) {
      const auto value = object.find(header[i]);
      texts[i] = value == object.end() || value->is_null() ? ""
                 : value->is_string()                      ? value->get<std::string>()
                                                           : value->dump();
    }
    const auto field = [&](size_t i) { return std::string_view(texts[i]); };
    if (!chosen) choose(field);
    return read_fields(field, text, row);
  }

  // --- both ---

  size_t find(const std::string& name) const {
    const auto at = std::find(header.begin(), header.end(), name);
    if (at == header.end()) fail("reading the table: it has no column {}; it has {}", name, list_of(header));
    return size_t(at - header.begin());
  }

  bool number_of(std::string_view text, double& number) {
    if (parse_number(text, number)) return true;
    if (kind != Kind::kCsv || separator == ',' || !parse_decimal_comma(text, number)) return false;
    if (!commas_told) tell(fmt::format("decimal commas: {} is read as {}", text, number));
    commas_told = true;
    return true;
  }
  bool is_number(std::string_view text) {
    double ignored;
    return number_of(text, ignored);
  }
  void tell(const std::string& sentence) const {
    if (told) told(sentence);
  }

  // Which columns are read, by the header and the first row.
  template <class Field>
  void choose(const Field& field) {
    if (!settings.time.empty()) {
      time_at = find(settings.time);
    } else {
      for (size_t i = 0; i < header.size() && !time_at; ++i) {
        const bool named = is_time_name(header[i]) && is_time(field(i));
        if (named || (i == 0 && is_time(field(i)) && !is_number(field(i)))) time_at = i;
      }
    }
    if (!settings.label.empty()) label_at = find(settings.label);
    for (const std::string& name : settings.columns) at.push_back(find(name));
    if (settings.columns.empty()) choose_numbers(field);
    state.resize(at.size(), uint8_t(ColumnState::kNumbers));
    if (at.empty())
      fail("reading the table: no column has a number in its first row; name columns by --columns, of {}",
           list_of(header));
    name_columns();
    require_different_names();
    if (settings.columns.empty())
      tell(fmt::format("columns taken as numbers: {}{}{}", list_of(columns),
                       time_at ? "; times: " + time_name : "", left_out));
    chosen = true;
  }

  template <class Field>
  void choose_numbers(const Field& field) {
    std::vector<std::string> others;
    for (size_t i = 0; i < header.size(); ++i) {
      if (i == time_at || i == label_at) continue;
      const bool missing = is_missing(field(i)), named = !header[i].empty();
      if (is_number(field(i)) || (missing && named)) {
        at.push_back(i);
        state.push_back(uint8_t(missing ? ColumnState::kNothingYet : ColumnState::kNumbers));
      } else if (named) {
        others.push_back(fmt::format("{:.40} (begins with {:.40})", header[i], field(i)));
      }
    }
    left_out = others.empty() ? "" : "; left out: " + list_of(others);
  }

  void name_columns() {
    for (const size_t i : at) columns.push_back(header[i]);
    if (time_at) time_name = header[*time_at];
    values.resize(at.size());
  }

  void require_different_names() const {
    std::vector<std::string_view> names(columns.begin(), columns.end());
    std::sort(names.begin(), names.end());
    const auto twice = std::adjacent_find(names.begin(), names.end());
    if (twice != names.end() && settings.columns.empty())
      fail("reading the table: it has two columns {:.40}; rename one, or name others by --columns", *twice);
    if (twice != names.end()) fail("reading the table: --columns names {:.40} twice", *twice);
    for (const std::string& name : header)
      if (std::binary_search(names.begin(), names.end(), name) &&
          std::count(header.begin(), header.end(), name) > 1)
        fail("reading the table: it has two columns {:.40}; rename one", name);
  }

  template <class Field>
  bool read_fields(const Field& field, std::string_view text, TableRow& row) {
    row.time = kMissing;
    row.time_text = time_at ? field(*time_at) : std::string_view();
    if (time_at && !parse_time(row.time_text, row.time)) {
      reject(row.line, fmt::format("{}: not a time", time_name), text);
      return false;
    }
    for (size_t i = 0; i < at.size(); ++i) {
      if (read_value(i, field(at[i]))) continue;
      const std::string_view comma = parse_decimal_comma(field(at[i]), values[i])
                                         ? "; a decimal comma is read where ; or tab separates"
                                         : "";
      reject(row.line,
             fmt::format("{}: {} is not a number that was measured{}", columns[i], field(at[i]).substr(0, 40),
                         comma),
             text);
      return false;
    }
    row.values = values;
    row.label = label_at ? field(*label_at) : std::string_view();
    if (is_missing(row.label)) row.label = {};
    return true;
  }

  // False when it is no number where there must be one.
  bool read_value(size_t i, std::string_view value) {
    values[i] = kMissing;
    if (state[i] == uint8_t(ColumnState::kText) || is_missing(value)) return true;
    double number = 0;
    const bool is_one = number_of(value, number);
    if (!is_one && state[i] == uint8_t(ColumnState::kNothingYet)) {
      state[i] = uint8_t(ColumnState::kText);
      tell(fmt::format(
          "column {:.40}: its first value is {:.40}, no number; it is left out, as if all were missing",
          columns[i], value));
      return true;
    }
    if (!is_one || std::abs(number) > kLargestValue) return false;
    state[i] = uint8_t(ColumnState::kNumbers);
    values[i] = number;
    return true;
  }

  void archive(Archive& archive) {
    int64_t what = int64_t(kind), between = separator.value_or('\0');
    int64_t flags = (headless ? 1 : 0) | (chosen ? 2 : 0) | (commas_told ? 4 : 0);
    archive.whole(what, 0, int64_t(Kind::kCsv));
    archive.whole(between, 0, ';');
    archive.whole(flags, 0, 7);
    if (between != 0 && between != ',' && between != ';' && between != '\t')
      archive.refuse("what separates its fields does not");
    int64_t names = int64_t(header.size()), numbers = int64_t(at.size());
    archive.whole(names, 0, int64_t(kMostColumns));
    header.resize(size_t(names));
    for (std::string& name : header) archive.text(name, kMostNameBytes);
    archive_place(archive, time_at);
    archive_place(archive, label_at);
    archive.whole(numbers, flags & 2 ? 1 : 0, flags & 2 ? names : 0);
    at.resize(size_t(numbers));
    state.resize(at.size());
    for (size_t& place : at) {
      int64_t i = int64_t(place);
      archive.whole(i, 0, names - 1);
      place = size_t(i);
    }
    archive.bytes(state);
    cutter.archive(archive);
    if (!archive.reading()) return;
    kind = Kind(what);
    if (between != 0) separator = char(between);
    headless = flags & 1, chosen = flags & 2, commas_told = flags & 4;
    for (const uint8_t column : state)
      if (column > uint8_t(ColumnState::kText)) archive.refuse("a column in it is of no known kind");
    if (chosen) name_columns();
    if (kind == Kind::kCsv) cutter.quotes(char(between));
  }

  void archive_place(Archive& archive, std::optional<size_t>& place) const {
    int64_t i = place ? int64_t(*place) : -1;
    archive.whole(i, -1, int64_t(header.size()) - 1);
    if (i >= 0) place = size_t(i);
  }

  enum class Kind { kUnknown, kJson, kCsv };
  enum class ColumnState : uint8_t { kNumbers, kNothingYet, kText };
  TableSettings settings;
  Rejected rejected;
  Told told;
  RowCutter cutter;
  FieldSplitter splitter;
  Kind kind = Kind::kUnknown;
  std::optional<char> separator;
  size_t blank = 0;  // so many bytes at the front of the cutter are
  bool headless = false, chosen = false, finished = false, commas_told = false;
  std::vector<std::string> header, columns, texts;
  std::string time_name, left_out;
  std::optional<size_t> time_at, label_at;
  std::vector<size_t> at;      // of the columns in the header
  std::vector<uint8_t> state;  // of those columns
  std::vector<double> values;
};

TableReader::TableReader(TableSettings settings, Rejected rejected, Told told)
    : impl_(std::make_unique<Impl>(std::move(settings), std::move(rejected), std::move(told))) {}
TableReader::TableReader(TableReader&&) noexcept = default;
TableReader::~TableReader() = default;

void TableReader::feed(std::span<const uint8_t> bytes) { impl_->cutter.feed(bytes); }

void TableReader::finish() {
  impl_->finished = true;
  impl_->cutter.finish();
}

bool TableReader::next(TableRow& row) { return impl_->next(row); }
const std::vector<std::string>& TableReader::columns() const { return impl_->columns; }
const std::string& TableReader::time_column() const { return impl_->time_name; }
void TableReader::archive(Archive& archive) { impl_->archive(archive); }

}  // namespace brood
