// brood live: one pass over a stream, each byte predicted before it is learnt.
#include "brood/learn/live.h"

#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <deque>
#include <memory>
#include <numbers>
#include <span>
#include <string>
#include <vector>

#include "brood/base/error.h"
#include "brood/base/progress.h"
#include "brood/cli/input.h"
#include "brood/cli/interrupt.h"
#include "brood/cli/live_options.h"
#include "brood/cli/live_series.h"
#include "brood/cli/memory.h"
#include "brood/cli/numbers.h"
#include "brood/cli/output.h"
#include "brood/cli/save_folder.h"
#include "brood/cli/verb.h"
#include "brood/model/directory.h"
#include "brood/senses/bytes.h"

namespace brood::cli {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int64_t kLastBytes = 10240;  // "the last 10 KB"

constexpr const char* kExamples =
    "Examples:\n"
    "  brood live --model mamba-s --in book.txt --save book     from nothing; kept in the folder book/\n"
    "  brood live --model book --in more.txt --save book        go on where it stopped\n"
    "  tail -F log | brood live --model mamba-s --save-every 60 --save logs    an endless stream\n"
    "  brood live --model my.json --in src/ --json              the text of a folder; result for programs\n"
    "Rows of numbers, forecast and learnt (docs/series.md); no network, so no --model to begin with:\n"
    "  brood live --as series --in power.csv --season 24 --horizon 24 --out said.csv --page said.html\n"
    "  tail -F load.csv | brood live --as series --columns cpu,disk --out - --save load    with alarms\n"
    "  brood live --as series --model load --in more.csv --save load    go on where it stopped\n"
    "  brood live --as series --in market.csv --label class --delay 48 --season 48    predict classes\n"
    "Ctrl-C ends the stream: what was learnt is saved.\n";

struct Options {
  std::string model, in = "-", save;
  bool overwrite = false;
  double save_every = 60;
  MemoryOptions memory;
  LiveSettings live;
};

double since(Clock::time_point begin) { return std::chrono::duration<double>(Clock::now() - begin).count(); }

// Bits per byte, so far and over the last 10 KB.
class Meter {
 public:
  explicit Meter(const LiveLearner& learner)
      : learner_(learner), first_{learner.scored(), learner.nats()}, recent_{first_} {}

  void tick() {
    if (learner_.scored() == recent_.back().scored) return;
    recent_.push_back({learner_.scored(), learner_.nats()});
    while (recent_.size() > 2 && learner_.scored() - recent_[1].scored >= kLastBytes) recent_.pop_front();
  }
  int64_t scored() const { return learner_.scored() - first_.scored; }
  double bits_per_byte() const { return since(first_); }
  double last_bits_per_byte() const { return since(recent_.front()); }
  std::string text() const {
    if (scored() == 0) return "nothing predicted yet";
    std::string text = fmt::format("{:.3f} bits per byte", bits_per_byte());
    if (scored() > kLastBytes) text += fmt::format(", {:.3f} over the last 10 KB", last_bits_per_byte());
    return text;
  }

 private:
  struct Mark {
    int64_t scored;
    double nats;
  };
  double since(const Mark& mark) const {
    const int64_t n = learner_.scored() - mark.scored;
    return n == 0 ? 0 : (learner_.nats() - mark.nats) / double(n) / std::numbers::ln2;
  }
  const LiveLearner& learner_;
  Mark first_;
  std::deque<Mark> recent_;
};

double share(double sum, const Activity& activity) {
  return activity.samples == 0 ? 0 : sum / double(activity.samples);
}

std::string progress_text(const Meter& meter, const Activity& activity, double seconds, int64_t size) {
  const double rate = double(meter.scored()) / seconds;
  std::string text =
      fmt::format("{} at {}/s, {}", bytes_text(double(meter.scored())), bytes_text(rate), meter.text());
  if (activity.samples > 0) text += fmt::format(", {:.1f} % awake", 100 * share(activity.active, activity));
  if (size > 0) text += fmt::format(", {} left", duration_text(double(size - meter.scored()) / rate));
  return text;
}

class Run {
 public:
  Run(const Options& options, const Common& common)
      : options_(options), common_(common), loaded_(load_model(options.model, common.seed)) {
    require_bytes(*loaded_.model, options.model);
    const bool given = !options.memory.file.empty(), goes_on = !given && has_lived(loaded_);
    Memory memory = given ? memory_of_file(*loaded_.model, options.memory) : no_memory(*loaded_.model);
    state_ = goes_on ? loaded_.state->clone() : std::move(memory.state);
    learner_ = std::make_unique<LiveLearner>(*loaded_.model, state_, fitted(options.live, *loaded_.model));
    const bool noted = loaded_.progress && loaded_.progress->extra.contains("live");
    if (goes_on && noted) learner_->restore(loaded_.progress->extra["live"]);
    if (given && noted) learner_->restore_optimiser(loaded_.progress->extra["live"]);
    if (given) learner_->begin_after(memory.last);
  }

  int run() {
    ByteStream stream = open_sources(std::span(&options_.in, 1));
    check_save_folder(options_.save, options_.model, options_.overwrite, "--model " + options_.save);
    if (options_.in == "-" && isatty(STDIN_FILENO)) say("live: reading what you type; Ctrl-D ends it");
    Meter meter(*learner_);
    const auto begin = Clock::now();
    read(stream, meter, begin);
    learn_rest(meter);
    const double seconds = since(begin);
    if (!options_.save.empty()) save();
    report(meter, seconds);
    return interrupted() ? interrupted_exit_code() : 0;
  }

 private:
  void read(ByteStream& stream, Meter& meter, Clock::time_point begin) {
    ProgressLine line(STDERR_FILENO);
    auto saved = begin;
    std::vector<uint8_t> bytes(size_t(1) << 16);
    std::vector<int32_t> tokens;
    while (wait_for(options_.in)) {
      const size_t n = read_some(stream, bytes, meter);
      if (n == 0) return;
      tokens.assign(bytes.begin(), bytes.begin() + int64_t(n));
      const size_t chunk = size_t(options_.live.chunk);
      for (size_t at = 0; at < n && !interrupted(); at += chunk) {
        learner_->observe(std::span(tokens).subspan(at, std::min(chunk, n - at)));
        meter.tick();
        if (line.due()) line.show(progress_text(meter, learner_->activity(), since(begin), stream.total()));
        if (!options_.save.empty() && since(saved) >= options_.save_every) {
          save();
          saved = Clock::now();
        }
      }
    }
  }

  // What was learnt before a stream broke is kept.
  size_t read_some(ByteStream& stream, std::span<uint8_t> bytes, Meter& meter) {
    try {
      return size_t(stream.read(bytes));
    } catch (const Error& error) {
      if (options_.save.empty()) throw;
      learn_rest(meter);
      save();
      fail_as(error,
              fmt::format("{} (what was learnt until then is saved in {})", error.what(), options_.save));
    }
  }

  void learn_rest(Meter& meter) {
    learner_->flush();
    meter.tick();
  }

  void save() const {
    const Progress progress{learner_->updates(), {{"live", learner_->notes()}}};
    save_model(options_.save, *loaded_.model, &state_, &progress);
  }

  void report(const Meter& meter, double seconds) const {
    const double rate = seconds > 0 ? double(meter.scored()) / seconds : 0;
    say(fmt::format("{} in {} ({}/s): {}{}", bytes_text(double(meter.scored())), duration_text(seconds),
                    bytes_text(rate), meter.text(),
                    options_.save.empty() ? "" : "; saved in " + options_.save));
    if (!common_.json) return;
    const Activity& activity = learner_->activity();
    write_json({{"bytes", meter.scored()},
                {"bits_per_byte", meter.bits_per_byte()},
                {"last_bits_per_byte", meter.last_bits_per_byte()},
                {"seconds", rounded(seconds)},
                {"bytes_per_second", rounded(rate)},
                {"parameters", loaded_.model->parameter_count()},
                {"active_fraction", share(activity.active, activity)},
                {"gated_fraction", share(activity.gated, activity)},
                {"peak_memory_bytes", peak_memory_bytes()}});
  }

  const Options& options_;
  const Common& common_;
  LoadedModel loaded_;
  State state_;
  std::unique_ptr<LiveLearner> learner_;
};

}  // namespace

Action define_live(CLI::App& app, const Common& common) {
  auto options = std::make_shared<Options>();
  app.footer(kExamples);
  app.add_option("--model", options->model, "a preset, a JSON config, or a model folder to go on with")
      ->type_name("PRESET|CONFIG|DIR");
  app.add_option("--in", options->in, "what to read; a folder stands for its text, - for standard input")
      ->capture_default_str()
      ->type_name("FILE|DIR|-");
  add_save(app, options->save, "keep model, state and optimiser in this folder");
  app.add_flag("--overwrite", options->overwrite, "start over in a folder that holds another model");
  app.add_option("--save-every", options->save_every, "seconds between saves on the way")
      ->capture_default_str()
      ->check(above_zero(1e9))
      ->type_name("SECONDS");
  add_memory_options(app, options->memory);
  add_live_options(app, options->live);
  const SeriesVerb series(app);
  return [options, series, &common] {
    if (series.wanted()) {
      const SeriesStream stream{options->in, options->model, options->save, options->overwrite,
                                options->save_every};
      return series.run(stream, common);
    }
    if (options->model.empty())
      fail("live: --model is required, e.g. --model mamba-s; brood live --help shows how");
    options->live.seed = common.seed;
    return Run(*options, common).run();
  };
}

}  // namespace brood::cli
