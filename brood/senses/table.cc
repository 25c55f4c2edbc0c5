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

bool is_number(std::string_view text) {
  double ignored;
  return parse_number(text, ignored);
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
  Impl(TableSettings asked, Rejected to) : settings(std::move(asked)), rejected(std::move(to)) {}

  // What kind of table its first bytes show; false when they have not come yet.
  bool look() {
    constexpr std::string_view kByteOrderMark = "\xef\xbb\xbf";
    if (kind != Kind::kUnknown) return true;
    const std::string_view front = cutter.front();
    if (front.size() < kByteOrderMark.size() && !finished && kByteOrderMark.substr(0, front.size()) == front)
      return false;
    if (front.substr(0, kByteOrderMark.size()) == kByteOrderMark) cutter.skip(kByteOrderMark.size());
    const size_t first = cutter.front().find_first_not_of(" \t\r\n");
    if (first == std::string_view::npos) return false;
    kind = cutter.front()[first] == '{' ? Kind::kJson : Kind::kCsv;
    if (kind == Kind::kCsv) cutter.quotes(0);
    return true;
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
        std::any_of(fields.begin(), fields.end(), [](auto field) { return is_number(trimmed(field)); });
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
    for (size_t i = 0; i < header.size() && settings.columns.empty(); ++i)
      if (i != time_at && i != label_at && is_number(field(i))) at.push_back(i);
    for (const size_t i : at) columns.push_back(header[i]);
    if (at.empty())
      fail("reading the table: no column has a number in its first row; name columns by --columns, of {}",
           list_of(header));
    if (time_at) time_name = header[*time_at];
    values.resize(at.size());
    chosen = true;
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
      const std::string_view value = field(at[i]);
      if (is_missing(value)) {
        values[i] = kMissing;
      } else if (!parse_number(value, values[i]) || std::abs(values[i]) > kLargestValue) {
        reject(row.line,
               fmt::format("{}: {} is not a number that was measured", columns[i], value.substr(0, 40)),
               text);
        return false;
      }
    }
    row.values = values;
    row.label = label_at ? field(*label_at) : std::string_view();
    if (is_missing(row.label)) row.label = {};
    return true;
  }

  enum class Kind { kUnknown, kCsv, kJson };
  TableSettings settings;
  Rejected rejected;
  RowCutter cutter;
  FieldSplitter splitter;
  Kind kind = Kind::kUnknown;
  std::optional<char> separator;
  bool headless = false, chosen = false, finished = false;
  std::vector<std::string> header, columns, texts;
  std::string time_name;
  std::optional<size_t> time_at, label_at;
  std::vector<size_t> at;  // of the columns in the header
  std::vector<double> values;
};

TableReader::TableReader(TableSettings settings, Rejected rejected)
    : impl_(std::make_unique<Impl>(std::move(settings), std::move(rejected))) {}
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

}  // namespace brood
