// brood live: one pass over a stream, each byte predicted before it is learnt.
#include <CLI/CLI.hpp>
#include <memory>

#include "brood/base/error.h"
#include "brood/cli/live_bytes.h"
#include "brood/cli/live_dna.h"
#include "brood/cli/live_options.h"
#include "brood/cli/live_series.h"
#include "brood/cli/numbers.h"
#include "brood/cli/save_folder.h"
#include "brood/cli/verb.h"
#include "brood/learn/series_folder.h"

namespace brood::cli {
namespace {

constexpr const char* kLiveExamples =
    "Examples:\n"
    "  brood live --model mamba-s --in book.txt --save book     from nothing; kept in the folder book/\n"
    "  brood live --model book --in more.txt --save book        go on where it stopped\n"
    "  tail -F log | brood live --model mamba-s --save-every 60 --save logs    an endless stream\n"
    "  brood live --model my.json --in src/ --json              the text of a folder; result for programs\n"
    "Rows of numbers, forecast and learnt (docs/series.md); no network, so no --model to begin with:\n"
    "  brood live --as series --in power.csv --season 24 --horizon 24 --out said.csv --page said.html\n"
    "  tail -F load.csv | brood live --as series --columns cpu,disk --out - --save load    with alarms\n"
    "  brood live --as series --model load --in more.csv --save load    go on with another table\n"
    "  brood live --as series --in market.csv --label class --delay 48 --season 48    predict classes\n"
    "DNA, base by base (docs/dna.md):\n"
    "  brood live --as dna --in genome.fa --page genome.html --save genome\n"
    "Bytes and series: with --save the same command goes on after a kill or a power cut as if there\n"
    "had been none, to the bit, and after its end with what a file has grown by. Of a pipe send what\n"
    "follows the bytes that brood info DIR shows as taken. Ctrl-C ends the stream: what was learnt is\n"
    "saved.\n";

}  // namespace

Action define_live(CLI::App& app, const Common& common) {
  auto options = std::make_shared<LiveOptions>();
  app.footer(kLiveExamples);
  app.add_option("--model", options->start.model, "a preset, a JSON config, or a model folder to go on with")
      ->type_name("PRESET|CONFIG|DIR");
  app.add_option("--in", options->start.in,
                 "what to read; a folder stands for its text, - for standard input")
      ->capture_default_str()
      ->type_name("FILE|DIR|-");
  app.add_flag("--again", options->again,
               "read a file from its start that was read to its end before, or has changed since");
  add_save(app, options->start.save, "keep model, state and optimiser in this folder");
  app.add_flag("--overwrite", options->start.overwrite, "start over in a folder that holds another model");
  const auto seconds = [&app](const char* name, double& value, const char* purpose) {
    app.add_option(name, value, purpose)->capture_default_str()->check(above_zero(1e9))->type_name("SECONDS");
  };
  seconds("--save-every", options->save_every,
          "between saves on the way; a start after a kill reads so much again");
  seconds("--sync-every", options->sync_every, "after which what was read is safe from a power cut");
  app.add_option("--rollbacks", options->guard.rollbacks,
                 "when a cost is no number: times in a row to go back and pass over what did it; 0: end")
      ->capture_default_str()
      ->check(whole(0, 1000))
      ->type_name("N");
  add_memory_options(app, options->start.memory);
  add_episodic_option(app, options->start.episodic, kUsualMemory);
  add_live_options(app, options->live);
  const SeriesVerb series(app);
  const DnaVerb dna(app);
  return [options, series, dna, &common] {
    const LiveStart& start = options->start;
    if (dna.wanted(series)) return dna.run(*options, series, common);
    if (series.wanted()) return series.run(*options, common);
    if (holds_series(start.model))
      fail("live: {} holds a series; go on with it by --as series, or name a model", start.model);
    if (start.model.empty())
      fail("live: --model is required, e.g. --model mamba-s; brood live --help shows how");
    options->live.seed = common.seed;
    options->guard.copies = options->guard.rollbacks > 0 || !start.save.empty();
    return live_on_bytes(*options, common);
  };
}

}  // namespace brood::cli
