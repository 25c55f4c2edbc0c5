#include "brood/cli/live_series.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <iterator>
#include <string_view>

#include "brood/base/error.h"
#include "brood/cli/numbers.h"
#include "brood/learn/series_file.h"

namespace brood::cli {
namespace {

constexpr const char* kGroup = "Series (--as series)";

// Options of live that are not for bytes alone.
constexpr std::string_view kForBoth[] = {"--as",      "--model",     "--in",         "--again",
                                         "--save",    "--overwrite", "--save-every", "--sync-every",
                                         "--threads", "--seed",      "--json",       "--help"};

}  // namespace

SeriesVerb::SeriesVerb(CLI::App& app)
    : app_(app), options_(std::make_shared<SeriesOptions>()), as_(std::make_shared<std::string>("bytes")) {
  SeriesOptions& o = *options_;
  const auto option = [&app](const char* name, auto& value, const char* purpose) {
    return app.add_option(name, value, purpose)->group(kGroup);
  };
  app.add_option("--as", *as_, "what the stream is: bytes; series: rows of CSV or JSON Lines; or dna: FASTA")
      ->capture_default_str()
      ->check(CLI::IsMember({"bytes", "series", "dna"}));
  option("--columns", o.columns, "columns to forecast; all that are numbers unless named")
      ->delimiter(',')
      ->type_name("A,B");
  option("--time", o.time, "column of times; found by itself when it is the first or called so")
      ->type_name("COLUMN");
  option("--label", o.label, "column of classes to predict, instead of forecasting")->type_name("COLUMN");
  option("--delay", o.classes.delay, "rows after which a label is known")
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
  if (*as_ == "series") return true;
  for (const CLI::Option* option : app_.get_options())
    if (option->get_group() == kGroup && option->count() > 0)
      fail("live: {} goes with --as series; add that, or leave it out", option->get_name());
  return false;
}

void SeriesVerb::refuse_options() const {
  for (const CLI::Option* option : app_.get_options()) {
    const std::string name = option->get_name();
    const bool for_both = std::find(std::begin(kForBoth), std::end(kForBoth), name) != std::end(kForBoth);
    if (option->count() > 0 && !for_both && option->get_group() != kGroup)
      fail("live: {} is for streams of bytes; leave it out, or --as series", name);
  }
  const auto refuse = [&](std::initializer_list<const char*> names, const std::string& why) {
    for (const char* name : names)
      if (app_.count(name) > 0) fail("live: {} {}", name, why);
  };
  const SeriesOptions& o = *options_;
  if (!o.model.empty())
    refuse(
        {"--columns", "--time", "--label", "--delay", "--horizon", "--season", "--lags", "--coverage",
         "--alarm"},
        "is what the series in " + o.model + " was begun with; leave it out, or begin anew without --model");
  else if (o.label.empty())
    refuse({"--delay"}, "goes with --label; add that, or leave it out");
  else
    refuse({"--horizon", "--coverage", "--alarm", "--page"},
           "is about forecasts of numbers; leave it out, or --label");
}

int SeriesVerb::run(const LiveOptions& live, const Common& common) const {
  SeriesOptions& o = *options_;
  o.in = live.start.in;
  o.model = live.start.model;
  o.save = live.start.save;
  o.overwrite = live.start.overwrite;
  o.again = live.again;
  o.save_every = live.save_every;
  o.sync_every = live.sync_every;
  o.classes.season = o.series.season;
  o.classes.window = o.series.lags;
  refuse_options();
  return live_on_series(o, common);
}

}  // namespace brood::cli
