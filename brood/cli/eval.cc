// brood eval: what a text costs a model.
#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "brood/base/error.h"
#include "brood/base/file_system.h"
#include "brood/base/progress.h"
#include "brood/cli/episodic.h"
#include "brood/cli/input.h"
#include "brood/cli/interrupt.h"
#include "brood/cli/live_options.h"
#include "brood/cli/memory.h"
#include "brood/cli/numbers.h"
#include "brood/cli/output.h"
#include "brood/cli/verb.h"
#include "brood/learn/evaluate.h"
#include "brood/model/directory.h"

namespace brood::cli {
namespace {

constexpr const char* kEvalExamples =
    "Examples:\n"
    "  brood eval book --data test.txt                   one stream, read from its beginning\n"
    "  brood eval book --data test.txt --live            and learn from it while it is scored (nothing is "
    "saved)\n"
    "  brood eval book --data test.txt --state book.state  after what a kept memory has read\n"
    "  brood eval book --data test.txt --context 128     in windows of 128, as in training without --carry\n"
    "  brood eval book --data test.txt --logits out.safetensors\n"
    "                                                    and all that it said, to compare with other "
    "programs:\n"
    "                                                    \"logits\" [bytes, vocab_size], f32; row t is what "
    "it\n"
    "                                                    expects after byte t\n";

struct EvalOptions {
  std::string model;
  std::vector<std::string> data;
  std::string logits;
  bool live = false;
  int64_t context = 0, batch = 8;
  MemoryOptions memory;
  EpisodicOptions episodic;
  LiveSettings settings;
};

Score evaluate_live(Model& model, Memory& memory, std::span<const uint8_t> bytes, const EvalOptions& options,
                    const LoadedModel& loaded, const std::function<bool()>& stop, Activity& activity,
                    double& network_nats) {
  const auto episodes = episodic_memory(loaded, options.episodic);
  LiveLearner learner(model, memory.state, fitted(options.settings, model), episodes.get());
  learner.begin_after(memory.last);
  if (loaded.progress && loaded.progress->extra.contains("live")) {
    learner.restore_optimiser(loaded.progress->extra["live"]);
  }
  std::vector<int32_t> tokens;
  const size_t chunk = size_t(options.settings.chunk);
  for (size_t at = 0; at < bytes.size() && !stop(); at += chunk) {
    const auto piece = bytes.subspan(at, std::min(chunk, bytes.size() - at));
    tokens.assign(piece.begin(), piece.end());
    learner.observe(tokens);
  }
  learner.flush();
  activity = learner.activity();
  network_nats = learner.network_nats();
  return {learner.nats(), learner.scored()};
}

int evaluate(const EvalOptions& options, const Common& common) {
  if (!options.logits.empty()) require_writable(options.logits);
  LoadedModel loaded = load_model(options.model, common.seed);
  Model& model = *loaded.model;
  require_bytes(model, options.model);
  const std::vector<uint8_t> bytes = read_all(options.data);
  if (bytes.empty()) fail("eval: the text is empty; name one with a byte to score");
  ProgressLine line(STDERR_FILENO);
  const auto stop = [&] {
    if (line.due()) line.show(fmt::format("scoring {} ...", bytes_text(double(bytes.size()))));
    return interrupted();
  };

  const auto begin = std::chrono::steady_clock::now();
  Memory memory = options.memory.file.empty() ? no_memory(model) : memory_of_file(model, options.memory);
  Activity activity;
  double network_nats = -1;  // with --live
  const Score score =
      options.live ? evaluate_live(model, memory, bytes, options, loaded, stop, activity, network_nats)
      : !options.logits.empty()
          ? write_logits(model, memory.state, bytes, reading_chunk(model), options.logits, stop, &activity)
      : options.context > 0
          ? score_windows(model, bytes, options.batch, options.context, Precision::kF32, stop, &activity)
          : score_stream(model, memory.state, bytes, reading_chunk(model), stop, &activity, memory.last);
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  line.finish();
  std::string text =
      fmt::format("{} scored in {}: {:.4f} bits per byte ({:.4f} nats)", bytes_text(double(score.scored)),
                  duration_text(seconds), score.bits_per_byte(), score.nats_per_byte());
  if (network_nats >= 0 && network_nats != score.nats)
    text += fmt::format("; the network alone {:.4f}", Score{network_nats, score.scored}.bits_per_byte());
  say(text);
  const ExpertLoads loads = expert_loads(activity);
  if (loads.experts > 0) {
    say(fmt::format("{} experts, {} without a byte; the busiest of a layer had {:.2f} times its share",
                    loads.experts, loads.dead, loads.violation + 1));
  }
  if (common.json) {
    nlohmann::json result = {{"bits_per_byte", score.bits_per_byte()},
                             {"nats_per_byte", score.nats_per_byte()},
                             {"bytes", score.scored},
                             {"seconds", rounded(seconds)},
                             {"bytes_per_second", rounded(seconds > 0 ? double(score.scored) / seconds : 0)},
                             {"parameters", model.parameter_count()}};
    if (network_nats >= 0)
      result["network_bits_per_byte"] = Score{network_nats, score.scored}.bits_per_byte();
    if (activity.samples > 0) {
      result["active_fraction"] = activity.active / double(activity.samples);
      result["gated_fraction"] = activity.gated / double(activity.samples);
    }
    if (loads.experts > 0) {
      result["experts"] = {{"count", loads.experts},
                           {"dead", loads.dead},
                           {"max_violation", loads.violation},
                           {"rows", activity.expert_rows}};
    }
    write_json(result);
  }
  return interrupted() ? interrupted_exit_code() : 0;
}

}  // namespace

Action define_eval(CLI::App& app, const Common& common) {
  auto options = std::make_shared<EvalOptions>();
  app.footer(kEvalExamples);
  app.add_option("model", options->model, "a model folder (or a preset or config, untrained)")
      ->required()
      ->type_name("DIR");
  app.add_option("--data", options->data,
                 "the text: files or folders, read one after the other; - for standard input")
      ->required()
      ->type_name("FILE...");
  auto* live = app.add_flag("--live", options->live, "go on learning while it is scored");
  auto* logits =
      app.add_option("--logits", options->logits, "write the logits of every byte into this safetensors file")
          ->type_name("FILE")
          ->excludes(live);
  auto* context =
      app.add_option("--context", options->context, "score windows of N bytes, each from a zero state")
          ->check(whole(1, 1 << 30))
          ->type_name("N")
          ->excludes(live)
          ->excludes(logits);
  app.add_option("--batch", options->batch, "windows at a time, with --context")
      ->capture_default_str()
      ->check(whole(1, 65536))
      ->type_name("B");
  add_memory_options(app, options->memory);
  add_episodic_option(app, options->episodic, 0);
  app.get_option("--memory")->needs(live);
  app.get_option("--state")->excludes(context)->excludes(logits);
  add_live_options(app, options->settings);
  return [options, &common] {
    options->settings.seed = common.seed;
    return evaluate(*options, common);
  };
}

}  // namespace brood::cli
