// brood compare: several models side by side, on the same text with the same budget.
#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "brood/base/file.h"
#include "brood/base/file_system.h"
#include "brood/base/json.h"
#include "brood/base/progress.h"
#include "brood/base/threads.h"
#include "brood/cli/input.h"
#include "brood/cli/interrupt.h"
#include "brood/cli/numbers.h"
#include "brood/cli/output.h"
#include "brood/cli/training_options.h"
#include "brood/cli/verb.h"
#include "brood/kernels/machine.h"
#include "brood/learn/comparison.h"
#include "brood/learn/comparison_report.h"
#include "brood/model/directory.h"

namespace brood::cli {
namespace {

constexpr const char* kExamples =
    "Examples:\n"
    "  brood compare mamba-s retention-s transformer-s --data shakespeare.txt --minutes 5\n"
    "  brood compare mamba-s bdh-s --data book.txt --bytes 20000000 --save race      and again with "
    "--resume\n"
    "  brood compare mamba-s transformer-s --speed-only --contexts 1024 65536\n"
    "Every model reads the same bytes in the same order. Ctrl-C keeps the models that are finished.\n";

struct Options {
  std::vector<std::string> models, data, valid;
  double hold_out = 0.1;
  int64_t bytes = 0;
  bool speed_only = false, resume = false, overwrite = false;
  double loss = 0;
  std::string page = "comparison.html", folder;
  ComparisonSettings settings;
  TrainingOptions training;
};

constexpr int64_t kLongestDocument = int64_t(1) << 28;

std::string document_path(const Options& options) { return options.folder + "/comparison.json"; }

// What all models have in common: the document without them. A comparison is resumed when it is the same.
nlohmann::json conditions(const Options& options, const TrainerSettings& training, size_t data,
                          size_t valid) {
  std::string budget = fmt::format("{} steps", training.schedule.total);
  if (training.seconds > 0) budget = duration_text(training.seconds) + " of training";
  if (options.bytes > 0) budget = bytes_text(double(options.bytes));
  return {{"trained", !options.speed_only},
          {"budget", budget},
          {"batch", training.batch},
          {"context", training.context},
          {"carry", training.carry},
          {"learning_rate", training.schedule.peak},
          {"weight_decay", training.optimiser.weight_decay},
          {"precision", options.training.precision},
          {"seed", training.seed},
          {"threads", ThreadPool::instance().size()},
          {"cpu", kernels::cpu_name()},
          {"data_bytes", data},
          {"valid_bytes", valid},
          {"contexts", options.settings.contexts},
          {"loss_bits_per_byte", options.loss > 0 ? nlohmann::json(options.loss) : nlohmann::json()}};
}

// The models that an earlier run of the same comparison has finished.
nlohmann::json finished_before(const Options& options, const nlohmann::json& conditions) {
  if (!options.resume || !std::filesystem::exists(document_path(options))) return nlohmann::json::array();
  const nlohmann::json before =
      parse_json(read_file(document_path(options), kLongestDocument), document_path(options));
  for (const auto& [key, value] : conditions.items()) {
    if (key == "loss_bits_per_byte") continue;  // chosen when all are there
    if (!before.contains(key) || before[key] != value) {
      fail(
          "compare: the comparison in {} had another \"{}\": {}, not {}; give the same, or start anew "
          "without --resume",
          options.folder, key, before.contains(key) ? shown(before[key]) : "none", shown(value));
    }
  }
  return before.value("models", nlohmann::json::array());
}

void write_file(const std::string& path, const std::string& text) {
  write_durably(FileSystem::real(), path, std::as_bytes(std::span(text)));
}

// A name for each model: the last part of what was given, told apart by numbers.
std::vector<std::string> names_of(const std::vector<std::string>& models) {
  std::vector<std::string> names;
  for (const std::string& model : models) {
    const std::string stem = std::filesystem::path(model).lexically_normal().stem().string();
    std::string name = stem;
    for (int n = 2; std::find(names.begin(), names.end(), name) != names.end(); ++n)
      name = fmt::format("{}-{}", stem, n);
    names.push_back(name);
  }
  return names;
}

nlohmann::json measured(const Options& options, const std::string& source, const std::string& name,
                        std::span<const uint8_t> data, std::span<const uint8_t> valid,
                        const TrainerSettings& training, ProgressLine& line) {
  ComparisonSettings settings = options.settings;
  settings.training = training;
  settings.train = !options.speed_only;
  if (!options.folder.empty() && settings.train) settings.training.directory = options.folder + "/" + name;
  LoadedModel loaded = load_model(source, training.seed);
  require_bytes(*loaded.model, source);
  std::string doing;
  const auto show = [&] {
    if (line.due()) line.show(fmt::format("{}: {}", name, doing));
  };
  return compare_one(std::move(loaded.model), data, valid, settings,
                     {.stop =
                          [&] {
                            show();
                            return interrupted();
                          },
                      .progress =
                          [&](const std::string& what) {
                            doing = what;
                            show();
                          }});
}

// Also after every model, so that a later kill loses no more than the one under way.
void keep(const Options& options, nlohmann::json document) {
  add_time_to_loss(document);
  if (!options.folder.empty()) write_file(document_path(options), document.dump() + "\n");
  if (!options.page.empty()) write_file(options.page, comparison_page(document));
}

void split(const Options& options, std::vector<uint8_t>& data, std::vector<uint8_t>& valid) {
  data = read_all(options.data);
  valid = read_all(options.valid);
  if (!options.valid.empty()) return;
  const auto kept = data.end() - int64_t(double(data.size()) * options.hold_out);
  valid.assign(kept, data.end());
  data.erase(kept, data.end());
}

int compare(const Options& options, const Common& common) {
  if (options.data.empty() && !options.speed_only)
    fail("compare: --data is missing: what shall the models learn? (or --speed-only)");
  TrainerSettings training = options.training.settings(common.seed);
  if (options.bytes > 0)
    training.schedule.total = std::max<int64_t>(1, options.bytes / (training.batch * training.context));
  std::vector<uint8_t> data, valid;
  split(options, data, valid);
  nlohmann::json document = conditions(options, training, data.size(), valid.size());
  const nlohmann::json before = finished_before(options, document);
  if (!options.folder.empty()) {
    if (!options.resume && !options.overwrite && std::filesystem::exists(document_path(options))) {
      fail("compare: {} already holds a comparison; go on with --resume, or start over with --overwrite",
           options.folder);
    }
    FileSystem::real().make_directory(options.folder);
  }

  document["models"] = nlohmann::json::array();
  const std::vector<std::string> names = names_of(options.models);
  // A name that cannot be loaded is known before the first of them has trained.
  for (const std::string& source : options.models) require_bytes(*load_model(source).model, source);
  ProgressLine line(STDERR_FILENO);
  for (size_t i = 0; i < names.size() && !interrupted(); ++i) {
    const auto found =
        std::find_if(before.begin(), before.end(), [&](const auto& m) { return m["name"] == names[i]; });
    nlohmann::json result = found != before.end()
                                ? *found
                                : measured(options, options.models[i], names[i], data, valid, training, line);
    if (result.is_null()) break;
    result["name"] = names[i];
    document["models"].push_back(std::move(result));
    line.note(fmt::format("{}: {}", names[i], found != before.end() ? "finished before" : "finished"));
    keep(options, document);
  }
  line.finish();
  add_time_to_loss(document);
  if (!document["models"].empty()) {
    if (common.json) {
      write_json(document);
    } else {
      write_out(comparison_table(document));
    }
    if (!options.page.empty()) say(fmt::format("with plots: {}", options.page));
  }
  return interrupted() ? interrupted_exit_code() : 0;
}

void add_comparison_options(CLI::App& app, Options& options) {
  app.add_option("models", options.models, "presets, JSON configs or model folders, about equal in size")
      ->required()
      ->type_name("PRESET|CONFIG|DIR...");
  app.add_option("--data", options.data, "the text: files or folders, one after the other")
      ->type_name("FILE...");
  auto* valid =
      app.add_option("--valid", options.valid, "text to score bits per byte on")->type_name("FILE...");
  app.add_option("--hold-out", options.hold_out, "or this last share of the data")
      ->capture_default_str()
      ->check(real(0, 0.9))
      ->type_name("SHARE")
      ->excludes(valid);
  app.add_flag("--speed-only", options.speed_only, "train nothing, measure speeds and states");
  app.add_option("--contexts", options.settings.contexts, "bytes of context at which speeds are measured")
      ->capture_default_str()
      ->check(whole(1, int64_t(1) << 23))
      ->type_name("N...");
  app.add_option("--measure", options.settings.seconds, "seconds that each speed is measured for, at least")
      ->capture_default_str()
      ->check(above_zero(3600))
      ->type_name("SECONDS");
  app.add_option("--loss", options.loss,
                 "bits per byte in training to which the time is told; default: what all of them reach")
      ->check(above_zero(8))
      ->type_name("BITS");
  app.add_option("--page", options.page, "where the HTML page goes")
      ->capture_default_str()
      ->type_name("FILE");
  auto* save =
      app.add_option("--save", options.folder, "keep the trained models and the results in this folder")
          ->type_name("DIR");
  auto* resume =
      app.add_flag("--resume", options.resume, "models that are finished there are not trained again")
          ->needs(save);
  app.add_flag("--overwrite", options.overwrite, "start over in a folder that holds a comparison")
      ->excludes(resume);
}

}  // namespace

Action define_compare(CLI::App& app, const Common& common) {
  auto options = std::make_shared<Options>();
  app.footer(kExamples);
  add_comparison_options(app, *options);
  add_length_options(app, options->training);
  add_chunk_options(app, options->training);
  app.add_option("--bytes", options->bytes, "train on so many bytes instead of --steps or --minutes")
      ->check(whole(1, kAnyCount))
      ->type_name("N")
      ->excludes(app.get_option("--steps"))
      ->excludes(app.get_option("--minutes"));
  add_optimiser_options(app, options->training);
  return [options, &common] {
    std::sort(options->settings.contexts.begin(), options->settings.contexts.end());
    return compare(*options, common);
  };
}

}  // namespace brood::cli
