// brood compare: several models side by side, on the same text with the same budget.
#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "brood/base/file.h"
#include "brood/base/file_system.h"
#include "brood/base/json.h"
#include "brood/base/progress.h"
#include "brood/cli/input.h"
#include "brood/cli/interrupt.h"
#include "brood/cli/numbers.h"
#include "brood/cli/output.h"
#include "brood/cli/training_options.h"
#include "brood/cli/verb.h"
#include "brood/learn/comparison.h"
#include "brood/learn/comparison_file.h"
#include "brood/learn/comparison_report.h"
#include "brood/model/directory.h"

namespace brood::cli {
namespace {

constexpr const char* kCompareExamples =
    "Examples:\n"
    "  brood compare mamba-s retention-s transformer-s --data shakespeare.txt --minutes 5\n"
    "  brood compare mamba-s bdh-s --data book.txt --bytes 20000000 --save race      and again with "
    "--resume\n"
    "  brood compare mamba-s transformer-s --speed-only --contexts 1024 65536\n"
    "Every model reads the same bytes in the same order. With a transformer among them (transformer-s), what "
    "is\n"
    "claimed of the others against it is judged by what was measured. Ctrl-C keeps what is there; --resume "
    "goes on.\n";

struct CompareOptions {
  std::vector<std::string> models, data, valid;
  double hold_out = 0.1;
  int64_t bytes = 0;
  bool speed_only = false, resume = false, overwrite = false;
  double loss = 0;
  std::optional<std::string> page;
  std::string folder;
  ComparisonSettings settings;
  TrainingOptions training;

  std::string document_path() const { return folder + "/comparison.json"; }
  std::string folder_of(const ComparedModel& model) const {
    return folder.empty() || speed_only ? "" : folder + "/" + model.name;
  }
  std::string page_path() const {
    return page.value_or(folder.empty() ? "comparison.html" : folder + "/comparison.html");
  }
};

constexpr int64_t kLongestDocument = int64_t(1) << 28;

void write_file(const std::string& path, const std::string& text) {
  write_durably(FileSystem::real(), path, std::as_bytes(std::span(text)));
}

// At every piece of news, so that a kill loses little and the page can be watched.
void keep(const CompareOptions& options, const Comparison& comparison) {
  if (!options.folder.empty()) write_file(options.document_path(), comparison_json(comparison).dump() + "\n");
  if (!options.page_path().empty() && has_results(comparison))
    write_file(options.page_path(), comparison_page(comparison));
}

// The texts that settings and models are about, held as long as the comparison lives.
struct Texts {
  std::vector<uint8_t> data, valid;
  ComparisonTexts spans() const { return {data, valid}; }
};

Texts read_texts(const CompareOptions& options) {
  Texts texts{read_all(options.data), read_all(options.valid)};
  if (!options.valid.empty()) return texts;
  const auto kept = texts.data.end() - int64_t(double(texts.data.size()) * options.hold_out);
  texts.valid.assign(kept, texts.data.end());
  texts.data.erase(kept, texts.data.end());
  return texts;
}

ComparisonSettings settings_of(const CompareOptions& options, uint64_t seed) {
  ComparisonSettings settings = options.settings;
  settings.train = !options.speed_only;
  TrainerSettings& training = settings.training = options.training.settings(seed);
  if (options.bytes > 0)
    training.schedule.total = std::max<int64_t>(1, options.bytes / (training.batch * training.context));
  std::vector<int64_t>& contexts = settings.contexts;
  std::sort(contexts.begin(), contexts.end());
  contexts.erase(std::unique(contexts.begin(), contexts.end()), contexts.end());
  return settings;
}

// All models are loaded once, so that one that cannot be is known before the first has trained.
Comparison make_comparison(const CompareOptions& options, const ComparisonSettings& settings,
                           const Texts& texts) {
  Comparison comparison{comparison_conditions(settings, texts.spans()), {}, {}};
  if (options.loss > 0) comparison.loss = options.loss;
  const std::vector<std::string> names = comparison_names(options.models);
  for (size_t i = 0; i < names.size(); ++i) {
    const std::string& source = options.models[i];
    const LoadedModel loaded = load_model(source, settings.training.seed);
    require_bytes(*loaded.model, source);
    comparison.models.push_back(model_to_compare(names[i], source, *loaded.model));
  }
  return comparison;
}

// Throws Error where something would be replaced that nobody has given up.
void check_nothing_is_lost(const CompareOptions& options, const Comparison& comparison) {
  const bool begun = std::filesystem::exists(options.document_path());
  if (begun && !options.resume && !options.overwrite) {
    fail("compare: {} already holds a comparison; go on with --resume, or start over with --overwrite",
         options.folder);
  }
  for (const ComparedModel& model : comparison.models) {
    const std::string folder = options.folder_of(model);
    if (folder.empty()) continue;
    std::error_code absent;
    if (std::filesystem::equivalent(folder, model.source, absent)) {
      fail("compare: the model {} would be replaced by what becomes of it; choose another folder than {}",
           model.source, options.folder);
    }
    if (holds_model(folder) && !(begun && options.resume) && !options.overwrite) {
      fail(
          "compare: {} already holds a model, of no comparison; choose another folder, or replace it with "
          "--overwrite",
          folder);
    }
  }
}

// Everything that will be written is tried before hours of work; nobody else may write there meanwhile. An
// earlier comparison is gone on with where that is wanted.
std::unique_ptr<FileLock> prepare_outputs(const CompareOptions& options, Comparison& comparison) {
  std::unique_ptr<FileLock> lock;
  if (!options.folder.empty()) {
    check_nothing_is_lost(options, comparison);
    check_writable(options.folder);
    lock = FileSystem::real().lock(options.folder, true, 0);
    if (!lock) fail("compare: another comparison is under way in {}", options.folder);
    const std::string path = options.document_path();
    if (options.resume && std::filesystem::exists(path))
      go_on_from(comparison, parse_json(read_file(path, kLongestDocument), path), options.folder);
    for (const ComparedModel& model : comparison.models)
      if (const std::string folder = options.folder_of(model); !folder.empty()) check_writable(folder);
  }
  if (!options.page_path().empty()) require_writable(options.page_path());
  keep(options, comparison);
  return lock;
}

std::string outcome(const ComparedModel& model) {
  if (model.status == ComparedModel::Status::kDiverged)
    return fmt::format("diverged at step {}: a smaller --learning-rate or a longer --warmup helps",
                       model.diverged_at);
  if (model.bits_per_byte) return fmt::format("finished, {:.3f} bits per byte", *model.bits_per_byte);
  return "finished";
}

void run(const CompareOptions& options, const ComparisonSettings& settings, const Texts& texts,
         Comparison& comparison) {
  ProgressLine line(STDERR_FILENO);
  for (ComparedModel& model : comparison.models) {
    using Status = ComparedModel::Status;
    const bool before = model.status == Status::kFinished || model.status == Status::kDiverged;
    std::string doing;
    const auto show = [&] {
      if (line.due()) line.show(fmt::format("{}: {}", model.name, doing));
    };
    const auto stop = [&] {
      show();
      return interrupted();
    };
    const auto progress = [&](const std::string& what) {
      doing = what;
      show();
    };
    compare_one(model, options.folder_of(model), texts.spans(), settings,
                {.stop = stop, .progress = progress, .keep = [&] { keep(options, comparison); }});
    if (interrupted()) break;
    line.note(fmt::format("{}: {}{}", model.name, before ? "before: " : "", outcome(model)));
  }
  line.finish();
}

int compare(const CompareOptions& options, const Common& common) {
  if (options.data.empty() && !options.speed_only)
    fail("compare: --data is missing: what shall the models learn? (or --speed-only)");
  const Texts texts = read_texts(options);
  const ComparisonSettings settings = settings_of(options, common.seed);
  Comparison comparison = make_comparison(options, settings, texts);
  const std::unique_ptr<FileLock> lock = prepare_outputs(options, comparison);
  run(options, settings, texts, comparison);
  if (common.json) {
    write_json(comparison_json(comparison));
  } else if (has_results(comparison)) {
    write_out(comparison_text(comparison));
  }
  if (has_results(comparison) && !options.page_path().empty())
    say(fmt::format("with plots: {}", options.page_path()));
  if (!interrupted()) return 0;
  if (!options.folder.empty()) say("the same command with --resume goes on");
  return interrupted_exit_code();
}

void add_comparison_options(CLI::App& app, CompareOptions& options) {
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
  app.add_option("--long-context", options.settings.long_context,
                 "and a long one, where the state does not grow with the context; 0: none")
      ->capture_default_str()
      ->check(whole(0, kAnyCount))
      ->type_name("N");
  app.add_option("--measure", options.settings.seconds, "seconds that each speed is measured for, at least")
      ->capture_default_str()
      ->check(above_zero(3600))
      ->type_name("SECONDS");
  app.add_option("--loss", options.loss,
                 "bits per byte in training to which the time is told; default: what all of them reach")
      ->check(above_zero(8))
      ->type_name("BITS");
  app.add_option(
         "--page", options.page,
         "where the HTML page goes; default: comparison.html, in the folder of --save if there is one")
      ->type_name("FILE");
  auto* save =
      app.add_option("--save", options.folder, "keep the trained models and the results in this folder")
          ->type_name("DIR");
  auto* resume = app.add_flag("--resume", options.resume, "go on with the comparison in the folder of --save")
                     ->needs(save);
  app.add_flag("--overwrite", options.overwrite,
               "start over in a folder that holds a comparison or models of these names")
      ->excludes(resume);
}

}  // namespace

Action define_compare(CLI::App& app, const Common& common) {
  auto options = std::make_shared<CompareOptions>();
  app.footer(kCompareExamples);
  add_comparison_options(app, *options);
  add_length_options(app, options->training);
  add_chunk_options(app, options->training);
  app.add_option("--bytes", options->bytes, "train on so many bytes instead of --steps or --minutes")
      ->check(whole(1, kAnyCount))
      ->type_name("N")
      ->excludes(app.get_option("--steps"))
      ->excludes(app.get_option("--minutes"));
  add_optimiser_options(app, options->training);
  return [options, &common] { return compare(*options, common); };
}

}  // namespace brood::cli
