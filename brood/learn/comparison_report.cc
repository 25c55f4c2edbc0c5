#include "brood/learn/comparison_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <utility>

#include "brood/base/chart.h"
#include "brood/base/progress.h"
#include "brood/learn/comparison_claims.h"

namespace brood {
namespace {

using nlohmann::json;

constexpr const char* kNone = "–";

std::string bits(const std::optional<double>& value) { return value ? fmt::format("{:.3f}", *value) : kNone; }
std::string short_of(const std::optional<double>& value) { return value ? short_number(*value) : kNone; }
std::string bytes_of(const std::optional<int64_t>& value) {
  return value ? bytes_text(double(*value)) : kNone;
}

// Terminal columns of UTF-8 text: bytes that do not go on with a character.
size_t width(const std::string& text) {
  return size_t(std::count_if(text.begin(), text.end(), [](char c) { return (uint8_t(c) & 0xc0) != 0x80; }));
}

bool was_trained(const Comparison& comparison) { return comparison.conditions["trained"].get<bool>(); }

ReportTable table_of_models(const Comparison& comparison) {
  const bool trained = was_trained(comparison);
  const std::optional<double> loss = comparison.loss_in_question();
  ReportTable table;
  table.rows.push_back({"model", "parameters", "weights"});
  if (trained) table.rows[0].insert(table.rows[0].end(), {"bits/byte", "time to " + bits(loss)});
  table.rows[0].insert(table.rows[0].end(), {"train bytes/s", "train peak", "awake"});
  for (const ComparedModel& model : comparison.models) {
    if (!is_reported(model)) continue;
    const bool diverged = model.status == ComparedModel::Status::kDiverged;
    std::vector<std::string> row{model.name, short_number(double(model.parameters)),
                                 bytes_text(double(model.weight_bytes()))};
    if (trained) {
      const auto seconds = loss && !diverged ? model.seconds_to(*loss) : std::nullopt;
      row.push_back(diverged ? fmt::format("diverged at step {}", model.diverged_at)
                             : bits(model.bits_per_byte));
      row.push_back(seconds ? duration_text(*seconds) : kNone);
    }
    row.insert(row.end(), {short_of(model.train_rate), bytes_of(model.peak_memory),
                           model.awake ? fmt::format("{:.1f} %", 100 * *model.awake) : kNone});
    table.rows.push_back(std::move(row));
  }
  return table;
}

template <class Cell>
ReportTable table_of_contexts(const Comparison& comparison, std::string title, const Cell& cell) {
  std::set<int64_t> contexts;
  for (const ComparedModel& model : comparison.models)
    for (const ContextMeasure& at : model.contexts) contexts.insert(at.context);
  ReportTable table{std::move(title), {{"context"}}};
  for (const int64_t context : contexts) table.rows[0].push_back(context_text(context));
  for (const ComparedModel& model : comparison.models) {
    if (!is_reported(model)) continue;
    std::vector<std::string> row{model.name};
    for (const int64_t context : contexts) {
      const auto at = std::find_if(model.contexts.begin(), model.contexts.end(),
                                   [&](const ContextMeasure& m) { return m.context == context; });
      row.push_back(at == model.contexts.end() ? kNone : cell(*at));
    }
    table.rows.push_back(std::move(row));
  }
  return table;
}

std::string table_text(const ReportTable& table) {
  std::vector<size_t> widths(table.rows[0].size());
  for (const auto& row : table.rows)
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], width(row[i]));
  std::string text = table.title.empty() ? "" : "\n" + table.title + "\n";
  for (const auto& row : table.rows) {
    for (size_t i = 0; i < row.size(); ++i) {
      const std::string room(widths[i] - width(row[i]), ' ');
      text += i > 0 ? "  " + room + row[i] : row[i] + room;
    }
    text += "\n";
  }
  return text;
}

std::string claims_text(const Comparison& comparison) {
  const std::vector<Claim> claims = comparison_claims(comparison);
  size_t longest = 0;
  for (const Claim& claim : claims) longest = std::max(longest, width(claim.model));
  std::string text = claims.empty() ? "" : "\nWhat is claimed, and what was measured here\n";
  for (size_t i = 0; i < claims.size(); ++i) {
    const Claim& claim = claims[i];
    if (i == 0 || claims[i - 1].claim != claim.claim) text += claim.claim + "\n";
    text += fmt::format("  {}{}  {:<13}  {}{}\n", claim.model, std::string(longest - width(claim.model), ' '),
                        verdict_text(claim.verdict), claim.measured,
                        claim.against.empty() ? "" : ", against " + claim.against);
  }
  return text;
}

std::string budget_text(const json& conditions) {
  if (conditions.contains("seconds"))
    return duration_text(conditions["seconds"].get<double>()) + " of training";
  const auto number = [&](const char* key) { return conditions[key].get<double>(); };
  return fmt::format("{} steps ({})", conditions["steps"].dump(),
                     bytes_text(number("steps") * number("batch") * number("context")));
}

}  // namespace

bool is_reported(const ComparedModel& model) {
  return model.trained() || model.status == ComparedModel::Status::kDiverged;
}

bool has_results(const Comparison& comparison) {
  return std::any_of(comparison.models.begin(), comparison.models.end(), is_reported);
}

std::vector<ReportTable> comparison_tables(const Comparison& comparison) {
  std::vector<ReportTable> tables{table_of_models(comparison)};
  const bool any_context = std::any_of(comparison.models.begin(), comparison.models.end(),
                                       [](const ComparedModel& model) { return !model.contexts.empty(); });
  if (!any_context) return tables;
  tables.push_back(table_of_contexts(comparison, "Reading a prompt, bytes per second",
                                     [](const ContextMeasure& at) { return short_number(at.read); }));
  tables.push_back(table_of_contexts(comparison, "Writing after it, bytes per second",
                                     [](const ContextMeasure& at) { return short_number(at.write); }));
  tables.push_back(
      table_of_contexts(comparison, "State that a stream then holds",
                        [](const ContextMeasure& at) { return bytes_text(double(at.state_bytes)); }));
  return tables;
}

std::string comparison_text(const Comparison& comparison) {
  std::string text;
  for (const ReportTable& table : comparison_tables(comparison)) text += table_text(table);
  return text + claims_text(comparison);
}

std::string comparison_summary(const Comparison& comparison) {
  const json& conditions = comparison.conditions;
  std::string text =
      "Weights as they were made, or as they were in the folders named: nothing was trained but a few steps "
      "for their speed.";
  if (was_trained(comparison)) {
    text = fmt::format(
        "Each model read the same {} of text in the same order, in batches of {} windows of {} bytes, for "
        "{}. Bits per byte are of {} that none of them learnt from; the time is that until a running mean of "
        "the training loss was {} bits per byte.",
        bytes_text(conditions["data_bytes"].get<double>()), conditions["batch"].dump(),
        conditions["context"].dump(), budget_text(conditions),
        bytes_text(conditions["valid_bytes"].get<double>()), bits(comparison.loss_in_question()));
  }
  return text +
         fmt::format(
             " Weights are those of the model, 4 bytes a parameter; the train peak is all that the process "
             "held for the training: weights, gradients, the optimiser's moments and activations. Reading is "
             "over a whole prompt from an empty state, writing one byte at a time after it; the state is "
             "what one stream then holds beside the weights. Threads: {}; {}; {}.",
             conditions["threads"].dump(), conditions["precision"].get<std::string>(),
             conditions["cpu"].get<std::string>());
}

}  // namespace brood
