// brood info: what a model is; what this machine runs it with.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <memory>
#include <string>

#include "brood/base/progress.h"
#include "brood/base/threads.h"
#include "brood/cli/numbers.h"
#include "brood/cli/output.h"
#include "brood/cli/series_figures.h"
#include "brood/cli/verb.h"
#include "brood/kernels/machine.h"
#include "brood/learn/live_folder.h"
#include "brood/learn/nucleotide_file.h"
#include "brood/learn/series_folder.h"
#include "brood/model/cost.h"
#include "brood/model/directory.h"
#include "brood/model/presets.h"

namespace brood::cli {
namespace {

constexpr const char* kInfoExamples =
    "Examples:\n"
    "  brood info                    the presets\n"
    "  brood info bdh-s              a preset: parameters, state, bytes per token\n"
    "  brood info book --activity 0.05    a model folder; the sparse figure at 5 % of neurons awake\n"
    "  brood info load               a series that brood live --as series saved: columns, rows, how far it "
    "was read\n"
    "  brood info --cpu              this machine: SIMD target, product library, bandwidth, FLOP/s\n";

constexpr int64_t kLongStream = int64_t(1) << 40;  // steps after which every cache is full

struct InfoOptions {
  std::string model;
  bool cpu = false;
  double activity = 0.05;
};

// Of the neurons awake about this share passes the gate too: x and y are about equally rare.
Awake awake_at(double activity) { return {activity, activity * activity}; }

void put(nlohmann::json& result, std::string& text, const char* key, const nlohmann::json& value,
         const std::string& shown) {
  result[key] = value;
  text += fmt::format("{:<24}{}\n", key, shown);
}

// Of the stream that it lives on: how far it has been read.
void put_stream(const std::string& folder, const LoadedModel& loaded, nlohmann::json& result,
                std::string& text) {
  if (!loaded.progress->extra.contains("live")) return;
  const auto stream = look_at(folder, loaded.progress->extra["live"]);
  if (!stream) return;
  const StreamSource& source = stream->source;
  const int64_t saved = stored_stream(loaded.progress->extra["live"])->end;
  put(result, text, "stream",
      {{"source", source.name},
       {"taken", source.taken},
       {"ended", source.ended},
       {"saved_at", saved},
       {"read_to", stream->end}},
      fmt::format("{} bytes taken of {}{}; {} of the journal are to be learnt again", source.taken,
                  source.name == "-" ? "standard input" : source.name, source.ended ? ", to its end" : "",
                  bytes_text(double(stream->end - saved))));
}

void describe_model(const InfoOptions& options, const Common& common, nlohmann::json& result,
                    std::string& text) {
  LoadedModel loaded = load_model(options.model, common.seed);
  Model& model = *loaded.model;
  const StepCost dense = step_cost(model, Precision::kF32, kLongStream);
  const StepCost sparse = step_cost(model, Precision::kF32, kLongStream, awake_at(options.activity));
  const auto bytes = [&](const char* key, double n) { put(result, text, key, int64_t(n), bytes_text(n)); };

  put(result, text, "model", options.model, options.model);
  put(result, text, "architecture", model.architecture(), model.architecture());
  put(result, text, "parameters", model.parameter_count(), fmt::format("{}", model.parameter_count()));
  bytes("state_bytes_per_stream", double(model.state_bytes_per_stream()));
  bytes("bytes_per_token_dense", dense.bytes());
  bytes("bytes_per_token_sparse", sparse.bytes());
  put(result, text, "flops_per_token", dense.flops, fmt::format("{:.3g} M", dense.flops / 1e6));
  if (loaded.progress) {
    put(result, text, "steps", loaded.progress->steps,
        fmt::format("{} updates so far", loaded.progress->steps));
    put_stream(options.model, loaded, result, text);
  }
  result["config"] = model.config();
  text += fmt::format("{:<24}{}\n", "config", model.config().dump());
}

// How far the stream of a series has been read, the journal of a pipe included.
SeriesStream read_to(const std::string& folder, const KeptSeries& kept) {
  SeriesStream stream = *kept.stream;
  if (stream.journal == 0) return stream;
  const auto take = [&](std::span<const uint8_t> bytes) {
    stream.source.take(bytes);
    return true;
  };
  read_after(folder, {stream.journal, stream.source.taken, 0}, {[](const StreamSource&) {}, [] {}, take});
  return stream;
}

void describe_series(const std::string& folder, nlohmann::json& result, std::string& text) {
  const KeptSeries kept = read_series(series_file(folder));
  const auto line = [&](const char* key, const nlohmann::json& value, const std::string& words) {
    if (!words.empty()) put(result, text, key, value, words);
  };
  std::string columns;
  for (const std::string& column : kept.columns) columns += (columns.empty() ? "" : ", ") + column;
  put(result, text, "series", folder, folder + " (brood live --as series)");
  line("columns", kept.columns, columns);
  line("time_column", kept.time, kept.time);
  line("label_column", kept.label, kept.label);
  put(result, text, "rows", kept.rows(), fmt::format("{} learnt", kept.rows()));
  const SeriesSettings& s = kept.settings;
  if (kept.label.empty())
    put(result, text, "horizon", s.horizon, fmt::format("{} ahead", counted(s.horizon, "row")));
  if (kept.classes) {
    put(result, text, "delay", kept.class_settings.delay, fmt::format("{}", kept.class_settings.delay));
    put(result, text, "classes", kept.classes->names(), fmt::format("{}", kept.classes->names().size()));
  }
  put(result, text, "season", s.season, s.season == 0 ? "not known" : fmt::format("{}", s.season));
  put(result, text, "lags", s.lags, fmt::format("{}", s.lags));
  if (!kept.stream) return;
  const SeriesStream stream = read_to(folder, kept);
  const StreamSource& source = stream.source;
  line("last_time", stream.last_time, stream.last_time);
  put(result, text, "stream",
      {{"source", source.name},
       {"taken", source.taken},
       {"ended", source.ended},
       {"saved_at", kept.stream->source.taken},
       {"rows", stream.rows},
       {"rejected_rows", stream.rejected}},
      fmt::format("{} bytes taken of {}{}; {} and {} rejected until the save", source.taken,
                  source.name == "-" ? "standard input" : source.name, source.ended ? ", to its end" : "",
                  counted(stream.rows, "row"), stream.rejected));
}

void describe_dna(const std::string& folder, nlohmann::json& result, std::string& text) {
  const auto learner = read_nucleotides(nucleotide_file(folder));
  put(result, text, "dna", folder, folder + " (brood live --as dna)");
  put(result, text, "bases", learner->bases(), fmt::format("{} learnt", learner->bases()));
  put(result, text, "memory_bytes", learner->bytes(), bytes_text(double(learner->bytes())));
}

void describe_machine(nlohmann::json& result, std::string& text) {
  const int threads = ThreadPool::instance().size();
  const double bandwidth = kernels::measure_read_bandwidth();
  const double f32 = kernels::measure_f32_flops(), bf16 = kernels::measure_bf16_flops();
  std::string targets;
  for (const auto& target : kernels::simd_targets()) targets += (targets.empty() ? "" : ", ") + target;

  put(result, text, "cpu", kernels::cpu_name(), kernels::cpu_name());
  put(result, text, "threads", threads, fmt::format("{}", threads));
  put(result, text, "simd_target", kernels::simd_target(),
      fmt::format("{} (of {})", kernels::simd_target(), targets));
  result["simd_targets"] = kernels::simd_targets();
  put(result, text, "product_library", kernels::product_library(), kernels::product_library());
  put(result, text, "bf16_kernel", kernels::bf16_kernel(), kernels::bf16_kernel());
  put(result, text, "read_bytes_per_second", rounded(bandwidth), fmt::format("{:.1f} GB/s", bandwidth / 1e9));
  put(result, text, "f32_flops", rounded(f32), fmt::format("{:.0f} GFLOP/s", f32 / 1e9));
  put(result, text, "bf16_flops", rounded(bf16), fmt::format("{:.0f} GFLOP/s", bf16 / 1e9));
}

int info(const InfoOptions& options, const Common& common) {
  nlohmann::json result = nlohmann::json::object();
  std::string text;
  if (holds_series(options.model))
    describe_series(options.model, result, text);
  else if (holds_nucleotides(options.model))
    describe_dna(options.model, result, text);
  else if (!options.model.empty())
    describe_model(options, common, result, text);
  if (options.cpu) describe_machine(result, text);
  if (options.model.empty() && !options.cpu) {
    for (const Preset& preset : presets()) put(result, text, preset.name, preset.purpose, preset.purpose);
  }
  if (common.json) {
    write_json(result);
  } else {
    write_out(text);
  }
  return 0;
}

}  // namespace

Action define_info(CLI::App& app, const Common& common) {
  auto options = std::make_shared<InfoOptions>();
  app.footer(kInfoExamples);
  app.add_option("model", options->model,
                 "a model folder, a series, a config, or a preset; none: the presets are listed")
      ->type_name("DIR|PRESET");
  app.add_flag("--cpu", options->cpu, "what this machine is and runs: SIMD target, product library, limits");
  app.add_option("--activity", options->activity, "share of neurons awake that the sparse figure stands for")
      ->capture_default_str()
      ->check(real(0, 1))
      ->type_name("SHARE");
  return [options, &common] { return info(*options, common); };
}

}  // namespace brood::cli
