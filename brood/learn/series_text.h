// What is said of the rows of a series, as text: CSV (RFC 4180), or JSON Lines.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "brood/learn/class_learner.h"
#include "brood/learn/series.h"
#include "brood/senses/table.h"

namespace brood {

enum class RowFormat { kCsv, kJsonLines };
RowFormat format_of(std::string_view path);  // JSON Lines when it ends in .jsonl or .ndjson

// Each adds to the end of `text`: a header, which JSON Lines have none of, or a row.
void add_series_head(std::string& text, RowFormat format, std::span<const std::string> columns);
void add_series_row(std::string& text, RowFormat format, std::span<const std::string> columns,
                    const TableRow& row, std::span<const SeriesReport> reports);
// Of classes: what was predicted, how sure that was, and the label.
void add_class_head(std::string& text, RowFormat format);
void add_class_row(std::string& text, RowFormat format, const TableRow& row, const ClassLearner& learner);
// Of rows that were not as they should be: line, reason, row; CSV.
void add_rejected_head(std::string& text);
void add_rejected_row(std::string& text, const RejectedRow& row);

}  // namespace brood
