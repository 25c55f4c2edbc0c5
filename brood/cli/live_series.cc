#include "brood/cli/live_series.h"

#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "brood/base/error.h"
#include "brood/base/progress.h"
#include "brood/cli/input.h"
#include "brood/cli/interrupt.h"
#include "brood/cli/numbers.h"
#include "brood/cli/output.h"
#include "brood/cli/series_output.h"
#include "brood/learn/series_file.h"
#include "brood/senses/table.h"

namespace brood::cli {

struct SeriesVerb::Options {
  std::string as = "bytes", time, label, out, page, rejects;
  std::vector<std::string> columns;
  int64_t warm_up = 0;
  int64_t delay = 1;
  SeriesSettings series;
};

namespace {

using Clock = std::chrono::steady_clock;

constexpr const char* kFile = "series.brood";
constexpr double kNoTime = std::numeric_limits<double>::quiet_NaN();

std::string file_in(const std::string& folder) { return (std::filesystem::path(folder) / kFile).string(); }

double mean_of(double sum, int64_t count) { return count == 0 ? kNoTime : sum / double(count); }

class SeriesRun {
 public:
  SeriesRun(const SeriesVerb::Options& options, const SeriesStream& stream, const Common& common)
      : options_(options),
        stream_(stream),
        common_(common),
        rejected_(options.rejects),
        reader_(table(), rejects()) {}

  int run() {
    check_outputs();
    ByteStream bytes = open_sources(std::span(&stream_.in, 1));
    const auto begin = Clock::now();
    read(bytes, begin);
    const double seconds = std::chrono::duration<double>(Clock::now() - begin).count();
    if (kept_ && !stream_.save.empty()) save();
    if (TextFile* out = rows_file()) out->finish();
    rejected_.finish();
    report(seconds);
    return interrupted() ? interrupted_exit_code() : 0;
  }

 private:
  TableSettings table() {
    if (!stream_.model.empty()) kept_.emplace(read_series(file_in(stream_.model)));
    if (kept_) return {kept_->columns, kept_->time, kept_->label};
    return {options_.columns, options_.time, options_.label};
  }
  TableReader::Rejected rejects() {
    return [this](const RejectedRow& row) { rejected_.add(row); };
  }

  void check_outputs() const {
    if (common_.json && options_.out == "-")
      fail("live: --json and the rows both want standard output; name a file by --out");
    if (!options_.page.empty()) require_writable(options_.page);
    if (stream_.save.empty()) return;
    std::error_code absent;
    const bool same =
        !stream_.model.empty() && std::filesystem::equivalent(stream_.save, stream_.model, absent);
    if (std::filesystem::exists(file_in(stream_.save)) && !same && !stream_.overwrite)
      fail("saving to {}: it already holds a series; go on with --model {}, or start over with --overwrite",
           stream_.save, stream_.save);
    FileSystem::real().make_directory(stream_.save);
    require_writable(file_in(stream_.save));
  }

  // Rows are forecast, learnt and written as they come; whoever waits at the other end of a pipe gets them.
  void read(ByteStream& bytes, Clock::time_point begin) {
    ProgressLine line(STDERR_FILENO);
    auto saved = begin;
    std::vector<uint8_t> block(size_t(1) << 16);
    TableRow row;
    for (bool more = true; more && wait_for(stream_.in);) {
      const auto n = size_t(bytes.read(block));
      more = n > 0;
      if (more)
        reader_.feed(std::span(block).first(n));
      else
        reader_.finish();
      while (!interrupted() && reader_.next(row)) observe(row);
      if (TextFile* out = rows_file()) out->flush();
      rejected_.flush();
      const double seconds = std::chrono::duration<double>(Clock::now() - begin).count();
      if (line.due())
        line.show(
            fmt::format("{} rows, {:.0f}/s, {} rejected", rows_, double(rows_) / seconds, rejected_.count()));
      const double since = std::chrono::duration<double>(Clock::now() - saved).count();
      if (kept_ && !stream_.save.empty() && since >= stream_.save_every) {
        save();
        saved = Clock::now();
      }
    }
  }

  TextFile* rows_file() {
    return rows_out_ ? &rows_out_->file() : classes_out_ ? &classes_out_->file() : nullptr;
  }

  void begin_series() {
    if (!kept_) {
      kept_.emplace(KeptSeries{.columns = reader_.columns(),
                               .time = reader_.time_column(),
                               .label = options_.label,
                               .settings = options_.series});
      kept_->class_settings.delay = options_.delay;
      kept_->class_settings.season = options_.series.season;
      kept_->class_settings.window = options_.series.lags;
      check_series(*kept_);
      kept_->begin();
    }
    if (kept_->classes && !options_.page.empty())
      fail("live: --page has no plots of classes; leave out --page or --label");
    if (!options_.out.empty() && kept_->classes) classes_out_.emplace(options_.out);
    if (!options_.out.empty() && kept_->forecasts) rows_out_.emplace(options_.out, kept_->columns);
    if (!options_.page.empty()) page_.emplace(kept_->columns);
  }

  void observe(const TableRow& row) {
    if (rows_ == 0) begin_series();
    ++rows_;
    if (kept_->classes) {
      kept_->classes->observe(row.values, row.label);
      if (rows_ == options_.warm_up) kept_->classes->begin_scores();
      if (classes_out_) classes_out_->add(row, *kept_->classes);
      return;
    }
    SeriesLearner& learner = *kept_->forecasts;
    learner.observe(row.values, row.time - kept_->last_time);
    if (std::isfinite(row.time)) kept_->last_time = row.time;
    if (rows_ == options_.warm_up) learner.begin_scores();
    if (rows_out_) rows_out_->add(row, learner.reports());
    if (page_) page_->add(learner.rows() - 1, row.values, learner.reports());
  }

  void save() { write_series(file_in(stream_.save), *kept_); }

  static nlohmann::json pair(double squared, double absolute, int64_t count) {
    return {{"mse", rounded(mean_of(squared, count))}, {"mae", rounded(mean_of(absolute, count))}};
  }

  nlohmann::json column_json(size_t i) const {
    const SeriesScore& score = kept_->forecasts->score(int64_t(i));
    const double variance = mean_of(score.deviations, score.rows);
    nlohmann::json json = pair(score.squared, score.absolute, score.values);
    json["name"] = kept_->columns[i];
    json["repeat_last"] = pair(score.last_squared, score.last_absolute, score.values);
    if (kept_->settings.season > 0)
      json["repeat_season"] = pair(score.season_squared, score.season_absolute, score.values);
    json["scaled_mse"] = rounded(mean_of(score.squared, score.values) / variance);
    json["scaled_mae"] = rounded(mean_of(score.absolute, score.values) / std::sqrt(variance));
    json["inside_interval"] = rounded(mean_of(double(score.inside), score.intervals));
    json["alarms"] = score.alarms;
    return json;
  }

  // What was found, in words and for programs.
  std::string found_forecasts(nlohmann::json& json) const {
    nlohmann::json columns = nlohmann::json::array();
    double ratio = 0;
    int64_t alarms = 0, compared = 0;
    for (size_t i = 0; i < kept_->columns.size(); ++i) {
      const SeriesScore& score = kept_->forecasts->score(int64_t(i));
      columns.push_back(column_json(i));
      alarms += score.alarms;
      if (!(score.last_squared > 0)) continue;
      ratio += score.squared / score.last_squared;
      ++compared;
    }
    json["columns"] = columns;
    json["alarms"] = alarms;
    json["prototypes"] = kept_->forecasts->prototypes();
    const std::string error =
        compared == 0
            ? ""
            : fmt::format("mean squared error {:.3f} of that of the last value, ", ratio / double(compared));
    return fmt::format("{}{} alarms", error, alarms);
  }

  std::string found_classes(nlohmann::json& json) const {
    const ClassScore& score = kept_->classes->score();
    const double right = mean_of(double(score.right), score.rows),
                 repeated = mean_of(double(score.repeated), score.rows);
    json["labelled_rows"] = score.rows;
    json["accuracy"] = rounded(right);
    json["repeat_label_accuracy"] = rounded(repeated);
    json["nats_per_label"] = rounded(mean_of(score.nats, score.rows));
    json["classes"] = kept_->classes->names();
    return fmt::format("{:.2f} % right; the last known label would be {:.2f} %", 100 * right, 100 * repeated);
  }

  void report(double seconds) const {
    const double rate = seconds > 0 ? double(rows_) / seconds : 0;
    nlohmann::json json = {{"rows", rows_},
                           {"rejected_rows", rejected_.count()},
                           {"seconds", rounded(seconds)},
                           {"rows_per_second", rounded(rate)},
                           {"peak_memory_bytes", peak_memory_bytes()}};
    const std::string found = rows_ == 0       ? "nothing learnt"
                              : kept_->classes ? found_classes(json)
                                               : found_forecasts(json);
    const std::string rejects = rejected_.count() == 0 ? "" : fmt::format(" ({})", rejected_.first());
    const std::string summary = fmt::format("{} rows in {} ({:.0f}/s): {}, {} rows rejected{}", rows_,
                                            duration_text(seconds), rate, found, rejected_.count(), rejects);
    say(summary + (stream_.save.empty() || !kept_ ? "" : "; saved in " + stream_.save));
    if (page_) {
      const std::string html = page_->html(stream_.in == "-" ? "Series" : stream_.in, summary);
      write_durably(FileSystem::real(), options_.page, std::as_bytes(std::span(html)));
    }
    if (common_.json) write_json(json);
  }

  const SeriesVerb::Options& options_;
  const SeriesStream& stream_;
  const Common& common_;
  std::optional<KeptSeries> kept_;
  RejectedRows rejected_;
  TableReader reader_;
  std::optional<SeriesRows> rows_out_;
  std::optional<ClassRows> classes_out_;
  std::optional<SeriesPage> page_;
  int64_t rows_ = 0;
};

}  // namespace

SeriesVerb::SeriesVerb(CLI::App& app) : app_(app), options_(std::make_shared<Options>()) {
  Options& o = *options_;
  const auto option = [&app](const char* name, auto& value, const char* purpose) {
    return app.add_option(name, value, purpose)->group("Series (--as series)");
  };
  app.add_option("--as", o.as, "what the stream is: bytes, or series: rows of CSV or JSON Lines")
      ->capture_default_str()
      ->check(CLI::IsMember({"bytes", "series"}));
  option("--columns", o.columns, "columns to forecast; all that are numbers unless named")
      ->delimiter(',')
      ->type_name("A,B");
  option("--time", o.time, "column of times; found by itself when it is the first or called so")
      ->type_name("COLUMN");
  option("--label", o.label, "column of classes to predict, instead of forecasting")->type_name("COLUMN");
  option("--delay", o.delay, "rows after which a label is known")
      ->capture_default_str()
      ->check(whole(1, kMostDelay))
      ->type_name("N");
  option("--horizon", o.series.horizon, "rows ahead to forecast")
      ->capture_default_str()
      ->check(whole(1, kMostHorizon))
      ->type_name("N");
  option("--season", o.series.season, "rows after which things repeat; 0: not known")
      ->capture_default_str()
      ->check(whole(0, kMostSeason))
      ->type_name("N");
  option("--lags", o.series.lags, "last values that a forecast looks at")
      ->capture_default_str()
      ->check(whole(1, kMostLags))
      ->type_name("N");
  option("--coverage", o.series.coverage, "share of the values that intervals are to hold")
      ->capture_default_str()
      ->check(real(0.01, 0.999))
      ->type_name("SHARE");
  option("--alarm", o.series.alarm, "anomaly score from which on a row is an alarm")
      ->capture_default_str()
      ->check(real(0, 100))
      ->type_name("X");
  option("--warm-up", o.warm_up, "rows that are learnt before scoring begins")
      ->capture_default_str()
      ->check(whole(0, kAnyCount))
      ->type_name("N");
  option("--out", o.out, "what is said of each row; JSON Lines when it ends in .jsonl, else CSV")
      ->type_name("FILE|-");
  option("--page", o.page, "the same as plots, in one HTML file")->type_name("FILE");
  option("--rejects", o.rejects, "rows that are malformed, each with the reason")->type_name("FILE");
}

bool SeriesVerb::wanted() const {
  if (options_->as == "series") return true;
  for (const CLI::Option* option : app_.get_options())
    if (option->get_group().starts_with("Series") && option->count() > 0)
      fail("live: {} goes with --as series; add that, or leave it out", option->get_name());
  return false;
}

int SeriesVerb::run(const SeriesStream& stream, const Common& common) const {
  if (!stream.model.empty()) {
    for (const char* begun : {"--columns", "--time", "--label", "--delay", "--horizon", "--season", "--lags",
                              "--coverage", "--alarm"})
      if (app_.count(begun) > 0)
        fail("live: {} is what the series in {} was begun with; leave it out, or begin anew without --model",
             begun, stream.model);
  }
  return SeriesRun(*options_, stream, common).run();
}

}  // namespace brood::cli
