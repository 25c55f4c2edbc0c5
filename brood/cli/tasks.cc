// brood tasks: synthetic tasks that ask one thing of a model each, learnt and scored.
#include "brood/learn/tasks.h"

#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "brood/base/json.h"
#include "brood/base/progress.h"
#include "brood/cli/interrupt.h"
#include "brood/cli/numbers.h"
#include "brood/cli/output.h"
#include "brood/cli/save_folder.h"
#include "brood/cli/spring.h"
#include "brood/cli/training_options.h"
#include "brood/cli/verb.h"
#include "brood/learn/trainer.h"
#include "brood/model/directory.h"

namespace brood::cli {
namespace {

constexpr const char* kTasksExamples =
    "Examples:\n"
    "  brood tasks mqar --mixer mamba                     two layers of a mixer learn a task, and are "
    "tested\n"
    "  brood tasks induction --mixer mamba --minutes 5 --save heads\n"
    "  brood tasks induction --model heads --steps 0 --test-length 1048576     a million steps, tested only\n"
    "  brood tasks copying --model my.json --with '{\"d_state\": 32}'           any model, some keys "
    "changed\n"
    "  brood tasks spring                                 a state space that finds mass, damping, stiffness\n"
    "  brood tasks TASK --help                            what is asked, what is published, every option\n";

constexpr int64_t kCheckSequences = 64;  // of a score on the way
constexpr int64_t kCheckEvery = 100;     // steps, when --until says that there are to be scores on the way
constexpr const char* kDefaultMixer = "mamba";
constexpr int64_t kDefaultWidth = 64, kDefaultLayers = 2;

struct TasksOptions {
  const Task* task = nullptr;
  std::string model, with;
  std::optional<std::string> mixer;
  std::optional<int64_t> d_model, n_layer, check_every;
  double until = 0;
  std::vector<int64_t> test_lengths;
  TaskTest test;
  TrainingOptions training;
};

nlohmann::json changes(const TasksOptions& options) {
  if (options.with.empty()) return nlohmann::json::object();
  nlohmann::json changes = parse_json(options.with, "--with");
  if (!changes.is_object()) fail("--with: a JSON object is wanted, such as {{\"d_state\": 32}}");
  return changes;
}

// The model's configuration, with what the command line and the task say about it.
nlohmann::json configuration(const TasksOptions& options) {
  nlohmann::json config;
  if (options.model.empty()) {
    config = {{"architecture", "stack"},
              {"mixer", options.mixer.value_or(kDefaultMixer)},
              {"d_model", options.d_model.value_or(kDefaultWidth)},
              {"n_layer", options.n_layer.value_or(kDefaultLayers)}};
  } else {
    config = load_config(options.model);
  }
  config.update(changes(options));
  if (!config.contains("vocab_size")) config["vocab_size"] = options.task->vocab_size;
  return config;
}

LoadedModel make_or_load(const TasksOptions& options, const std::string& folder, uint64_t seed) {
  if (!folder.empty()) return load_model(folder, seed);
  LoadedModel made;
  made.model = std::make_unique<Model>(configuration(options), seed);
  return made;
}

bool is_folder(const std::string& model) {
  std::error_code ignored;
  return std::filesystem::is_directory(model, ignored);
}

// The folder to begin with; empty when the model is made anew.
std::string start_folder(const TasksOptions& options) {
  const bool from_model = is_folder(options.model);
  if (from_model && !options.with.empty())
    fail("--with: the model in {} is as it is; name a configuration", options.model);
  const std::string& saved = options.training.trainer.directory;
  if (options.training.resume && holds_model(saved)) return saved;
  return from_model ? options.model : "";
}

// Whether a configuration that is written out says at least what `said` does: parts may be named by their type
// alone, or with some of their keys.
bool says(const nlohmann::json& kept, const nlohmann::json& said) {
  if (kept.is_object() && said.is_string()) return kept.value("type", "") == said;
  if (kept.is_object() && said.is_object()) {
    return std::all_of(said.items().begin(), said.items().end(), [&](const auto& item) {
      return kept.contains(item.key()) && says(kept[item.key()], item.value());
    });
  }
  if (kept.is_array() && said.is_array())
    return std::equal(kept.begin(), kept.end(), said.begin(), said.end(), says);
  return kept == said;
}

// What stands under a key, or, where it does not, in the parts that are written down as objects.
nlohmann::json kept_value(const nlohmann::json& kept, const std::string& key) {
  if (kept.contains(key)) return kept[key];
  for (const char* parts : {"mixer", "feed"}) {
    const nlohmann::json part = kept.value(parts, nlohmann::json());
    const nlohmann::json list = part.is_array() ? part : nlohmann::json::array({part});
    for (const nlohmann::json& one : list)
      if (one.is_object() && one.contains(key)) return one[key];
  }
  return {};
}

// What a model that is resumed has must be what the command line says of it, as far as it says anything.
void check_resumed(const TasksOptions& options, const nlohmann::json& kept) {
  nlohmann::json said = nlohmann::json::object();
  if (is_folder(options.model)) {
    said = load_model(options.model).model->config();
  } else if (!options.model.empty()) {
    said = load_config(options.model);
  }
  said.update(changes(options));
  if (options.mixer) said["mixer"] = *options.mixer;
  if (options.d_model) said["d_model"] = *options.d_model;
  if (options.n_layer) said["n_layer"] = *options.n_layer;
  for (const auto& [key, value] : said.items()) {
    const nlohmann::json has = kept_value(kept, key);
    if (!says(has, value)) {
      fail(
          "tasks: the model to resume in {} has \"{}\" {}, not {}; give the same, or start over with "
          "--overwrite",
          options.training.trainer.directory, key, has.is_null() ? "none" : shown(has), shown(value));
    }
  }
}

std::string percent(double share) { return fmt::format("{:.2f} %", 100 * share); }

// Trains, scoring now and then. True when it ended before its time because the task was solved.
bool learn(Model& model, Trainer& trainer, const TasksOptions& options, ProgressLine& line) {
  bool solved = false;
  const int64_t check_every = options.check_every.value_or(options.until > 0 ? kCheckEvery : 0);
  const auto check = [&] {
    TaskTest test = options.test;
    test.length = trainer.settings().context;
    test.sequences = kCheckSequences;
    const double accuracy = score_task(model, *options.task, test, interrupted).accuracy();
    if (interrupted()) return;
    line.note(fmt::format("step {}: {} right at {} steps, loss {:.4f} nats", trainer.steps(),
                          percent(accuracy), test.length, trainer.loss()));
    solved = options.until > 0 && accuracy >= options.until;
  };
  trainer.run({},
              {.stop = [&] { return solved || interrupted(); },
               .stepped =
                   [&] {
                     if (check_every > 0 && trainer.steps() % check_every == 0) check();
                     if (line.due()) {
                       line.show(training_progress_text(trainer, fmt::format("{:.4f} nats", trainer.loss())));
                     }
                   },
               .validated = {}});
  return solved;
}

std::vector<TaskScore> score_all(Model& model, const TasksOptions& options, ProgressLine& line) {
  std::vector<TaskScore> scores;
  for (const int64_t length : options.test_lengths) {
    TaskTest test = options.test;
    test.length = length;
    const auto stop = [&] {
      if (line.due()) line.show(fmt::format("testing sequences of {} steps ...", length));
      return interrupted();
    };
    const TaskScore score = score_task(model, *options.task, test, stop);
    if (interrupted()) break;
    line.note(fmt::format("{:>9} steps: {:>8} right ({} of {} answers, {} sequences)", length,
                          percent(score.accuracy()), score.right, score.asked, score.sequences));
    scores.push_back(score);
  }
  return scores;
}

nlohmann::json result(const TasksOptions& options, const Model& model, const Trainer& trainer, bool solved,
                      const std::vector<TaskScore>& scores) {
  nlohmann::json list = nlohmann::json::array();
  for (const TaskScore& score : scores) {
    list.push_back({{"length", score.length},
                    {"accuracy", score.accuracy()},
                    {"answers", score.asked},
                    {"sequences", score.sequences}});
  }
  return {{"task", options.task->name},
          {"config", model.config()},
          {"parameters", model.parameter_count()},
          {"train_length", trainer.settings().context},
          {"steps", trainer.steps()},
          {"seconds", rounded(trainer.seconds())},
          {"tokens_per_second", rounded(trainer.tokens_per_second())},
          {"train_loss", trainer.loss()},
          {"ended_early", solved},
          {"scores", list}};
}

int run(const TasksOptions& options, const Common& common) {
  for (const int64_t length : options.test_lengths) check_task_length(*options.task, length);
  const std::string& folder = options.training.trainer.directory;
  const std::string from = start_folder(options);
  const bool resumes = options.training.resume && !folder.empty() && from == folder;
  if (options.until > 0 && options.check_every == 0)
    fail("tasks: --until {} wants scores on the way, and --check-every 0 allows none", options.until);
  LoadedModel loaded = make_or_load(options, from, common.seed);
  if (resumes) check_resumed(options, loaded.model->config());
  const TrainerSettings settings = options.training.settings(common.seed);
  TaskBatches batches(*options.task, settings.batch, settings.context, common.seed);
  Trainer trainer(*loaded.model, batches, settings);
  if (resumes) trainer.resume(loaded);
  check_save_folder(folder, from, options.training.overwrite, "--resume");

  say(fmt::format("{}: {}, {} parameters, a vocabulary of {}", options.task->name,
                  loaded.model->architecture(), loaded.model->parameter_count(),
                  loaded.model->frame().vocab_size));
  ProgressLine line(STDERR_FILENO);
  const bool solved = learn(*loaded.model, trainer, options, line);
  if (trainer.steps() > 0) {
    line.note(fmt::format("{} steps of {} sequences of {} in {}: loss {:.4f} nats{}", trainer.steps(),
                          settings.batch, settings.context, duration_text(trainer.seconds()), trainer.loss(),
                          folder.empty() ? "" : "; saved in " + folder));
  }
  std::vector<TaskScore> scores;
  if (!interrupted()) scores = score_all(*loaded.model, options, line);
  line.finish();
  if (common.json) write_json(result(options, *loaded.model, trainer, solved, scores));
  return interrupted() ? interrupted_exit_code() : 0;
}

void add_model_options(CLI::App& app, TasksOptions& options) {
  auto* model =
      app.add_option("--model", options.model,
                     "a preset, a JSON config, or a model folder; its vocabulary becomes the task's "
                     "unless it names one")
          ->type_name("PRESET|CONFIG|DIR");
  app.add_option("--mixer", options.mixer, "or a plain stack of this mixer, which has no feed")
      ->default_str(kDefaultMixer)
      ->type_name("NAME")
      ->excludes(model);
  app.add_option("--d-model", options.d_model, "its width")
      ->default_str(std::to_string(kDefaultWidth))
      ->check(whole(1, 1 << 20))
      ->type_name("N")
      ->excludes(model);
  app.add_option("--layers", options.n_layer, "its layers")
      ->default_str(std::to_string(kDefaultLayers))
      ->check(whole(1, 1024))
      ->type_name("N")
      ->excludes(model);
  app.add_option("--with", options.with, "keys of the configuration to change: '{\"feed\": \"swiglu\"}'")
      ->type_name("JSON");
}

void add_test_options(CLI::App& app, TasksOptions& options) {
  app.add_option("--length", options.training.trainer.context, "steps of a sequence in training")
      ->capture_default_str()
      ->check(whole(1, 1 << 24))
      ->type_name("T");
  app.add_option("--test-length", options.test_lengths, "steps of the sequences of the tests")
      ->capture_default_str()
      ->check(whole(1, kAnyCount))
      ->type_name("T...");
  app.add_option("--test-sequences", options.test.sequences, "sequences of a test; default 16 to 256")
      ->check(whole(1, kAnyCount))
      ->type_name("N");
  app.add_option(
         "--check-every", options.check_every,
         fmt::format("steps between scores on the way; 0: none; default: 0, or {} with --until", kCheckEvery))
      ->check(whole(0, kAnyCount))
      ->type_name("N");
  app.add_option("--until", options.until, "end early when such a score is at least this; 0: never")
      ->capture_default_str()
      ->check(real(0, 1))
      ->type_name("SHARE");
}

Action define_task(CLI::App& app, const Task& task, const Common& common) {
  auto options = std::make_shared<TasksOptions>();
  options->task = &task;
  options->test_lengths = task.test_lengths;
  TrainingOptions& training = options->training;
  training.steps = 5000;
  training.trainer.batch = 32;
  training.trainer.context = task.train_length;
  training.trainer.schedule.peak = 3e-3;
  training.trainer.schedule.floor = 0;
  training.trainer.optimiser.weight_decay = 0.01;
  app.footer(task.about);
  add_model_options(app, *options);
  add_test_options(app, *options);
  add_length_options(app, training);
  add_save_options(app, training);
  add_optimiser_options(app, training);
  return [options, &common] { return run(*options, common); };
}

}  // namespace

Action define_tasks(CLI::App& app, const Common& common) {
  app.footer(kTasksExamples);
  app.require_subcommand(0, 1);
  auto formatter = std::make_shared<CLI::Formatter>();
  formatter->label("SUBCOMMAND", "TASK");
  formatter->column_width(34);
  app.formatter(formatter);
  std::vector<std::pair<CLI::App*, Action>> actions;
  for (const Task& task : tasks()) {
    CLI::App* sub = app.add_subcommand(task.name, task.purpose)->fallthrough();
    sub->group("Tasks");
    actions.emplace_back(sub, define_task(*sub, task, common));
  }
  CLI::App* spring = app.add_subcommand("spring", kSpringPurpose)->fallthrough();
  spring->group("Tasks");
  actions.emplace_back(spring, define_spring(*spring, common));
  return [actions] {
    const auto chosen =
        std::find_if(actions.begin(), actions.end(), [](const auto& a) { return a.first->parsed(); });
    if (chosen == actions.end()) fail("tasks: name a task; brood tasks --help shows them");
    return chosen->second();
  };
}

}  // namespace brood::cli
