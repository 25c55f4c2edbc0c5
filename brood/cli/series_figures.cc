#include "brood/cli/series_figures.h"

#include <fmt/format.h>

#include <cmath>
#include <limits>

#include "brood/cli/output.h"

namespace brood::cli {
namespace {

double mean_of(double sum, int64_t count) {
  return count == 0 ? std::numeric_limits<double>::quiet_NaN() : sum / double(count);
}

nlohmann::json pair(double squared, double absolute, int64_t count) {
  return {{"mse", rounded(mean_of(squared, count))}, {"mae", rounded(mean_of(absolute, count))}};
}

nlohmann::json column_json(const KeptSeries& kept, size_t i) {
  const SeriesScore& score = kept.forecasts->score(int64_t(i));
  const double variance = mean_of(score.deviations, score.rows);
  nlohmann::json json = pair(score.squared, score.absolute, score.values);
  json["name"] = kept.columns[i];
  json["scored_rows"] = score.rows;
  json["repeat_last"] = pair(score.last_squared, score.last_absolute, score.values);
  if (kept.settings.season > 0)
    json["repeat_season"] = pair(score.season_squared, score.season_absolute, score.values);
  json["scaled_mse"] = rounded(mean_of(score.squared, score.values) / variance);
  json["scaled_mae"] = rounded(mean_of(score.absolute, score.values) / std::sqrt(variance));
  json["inside_interval"] = rounded(mean_of(double(score.inside), score.intervals));
  json["alarms"] = score.alarms;
  return json;
}

std::string forecasts(const KeptSeries& kept, nlohmann::json& json) {
  nlohmann::json columns = nlohmann::json::array();
  double ratio = 0;
  int64_t alarms = 0, compared = 0, scored = 0;
  for (size_t i = 0; i < kept.columns.size(); ++i) {
    const SeriesScore& score = kept.forecasts->score(int64_t(i));
    columns.push_back(column_json(kept, i));
    alarms += score.alarms;
    scored += score.rows;
    if (!(score.last_squared > 0)) continue;
    ratio += score.squared / score.last_squared;
    ++compared;
  }
  json["columns"] = columns;
  json["alarms"] = alarms;
  json["prototypes"] = kept.forecasts->prototypes();
  const std::string found = counted(alarms, "alarm");
  if (scored == 0)
    return fmt::format("no forecast {} ahead was scored, so few came; {}",
                       counted(kept.settings.horizon, "row"), found);
  if (compared == 0) return found;
  return fmt::format("mean squared error {:.3f} of that of the last value, {}", ratio / double(compared),
                     found);
}

std::string classes(const KeptSeries& kept, nlohmann::json& json) {
  const ClassScore& score = kept.classes->score();
  const double right = mean_of(double(score.right), score.rows),
               repeated = mean_of(double(score.repeated), score.rows);
  json["labelled_rows"] = score.rows;
  json["accuracy"] = rounded(right);
  json["repeat_label_accuracy"] = rounded(repeated);
  json["nats_per_label"] = rounded(mean_of(score.nats, score.rows));
  json["classes"] = kept.classes->names();
  json["rows_of_further_classes"] = score.beyond;
  if (score.rows == 0) return "no row that was scored has a label";
  const std::string beyond =
      score.beyond == 0 ? ""
                        : fmt::format(" ({} of more than {} classes, which are not learnt, count as wrong)",
                                      counted(score.beyond, "row"), ClassLearner::kMostClasses);
  return fmt::format("{:.2f} % right{}; the last known label would be {:.2f} %", 100 * right, beyond,
                     100 * repeated);
}

}  // namespace

std::string counted(int64_t count, const char* thing) {
  return fmt::format("{} {}{}", count, thing, count == 1 ? "" : "s");
}

SeriesFigures series_figures(const KeptSeries& kept) {
  const SeriesStream& stream = *kept.stream;
  SeriesFigures figures;
  figures.json = {{"rows", stream.rows},
                  {"rejected_rows", stream.rejected},
                  {"late_rows", stream.late},
                  {"taken", stream.source.taken}};
  figures.sentence = kept.forecasts && stream.rows > 0 ? forecasts(kept, figures.json)
                     : kept.classes && stream.rows > 0 ? classes(kept, figures.json)
                                                       : "nothing learnt";
  if (stream.late > 0)
    figures.sentence += fmt::format(", {} not later than the row before", counted(stream.late, "row"));
  figures.sentence += fmt::format(", {} rejected", counted(stream.rejected, "row"));
  if (stream.rejected > 0) figures.sentence += fmt::format(" ({})", stream.first_rejected);
  return figures;
}

}  // namespace brood::cli
