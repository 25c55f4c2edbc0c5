// brood state: what a model remembers, as a thing to keep, copy, compare and measure.
#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <filesystem>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "brood/base/file_system.h"
#include "brood/base/progress.h"
#include "brood/cli/episodic.h"
#include "brood/cli/input.h"
#include "brood/cli/interrupt.h"
#include "brood/cli/memory.h"
#include "brood/cli/numbers.h"
#include "brood/cli/output.h"
#include "brood/cli/verb.h"
#include "brood/learn/evaluate.h"
#include "brood/learn/live.h"
#include "brood/model/cost.h"
#include "brood/model/directory.h"
#include "brood/model/state_file.h"

namespace brood::cli {
namespace {

constexpr const char* kStateExamples =
    "Examples:\n"
    "  brood state save book --data play.txt -o play.state    read a text once, keep what is remembered of "
    "it\n"
    "  brood talk book --state play.state                     go on from there, any number of times\n"
    "  brood state save book -o today.state                   what a model remembers of the stream it lives "
    "on\n"
    "  brood state load book today.state                      and back again\n"
    "  brood state fork play.state --streams 8 -o 8.state     eight streams that begin alike\n"
    "  brood state diff play.state today.state                how far two memories are apart, layer by "
    "layer\n"
    "  brood state size mamba-130m                            bytes of a memory, beside a Transformer's\n"
    "  brood state save --help                                every option, part by part\n";

struct StateOptions {
  std::string model, file, other, output;
  std::vector<std::string> data;
  MemoryOptions memory;
  int64_t stream = 0, streams = 1;
};

void add_file(CLI::App& app, StateOptions& options) {
  app.add_option("file", options.file, "of brood state save")->required()->type_name("FILE");
}
void add_output(CLI::App& app, StateOptions& options) {
  app.add_option("-o,--output", options.output, "the file to be made")->required()->type_name("FILE");
}

std::string describe(const KeptState& kept) {
  return fmt::format("{} {} after {} steps, {}", kept.state.streams,
                     kept.state.streams == 1 ? "stream" : "streams", kept.state.positions[0],
                     bytes_text(double(kept.state.bytes())));
}

void report(const KeptState& kept, const std::string& path, const Common& common, nlohmann::json more = {}) {
  say(fmt::format("{}: {}", path, describe(kept)));
  if (!common.json) return;
  nlohmann::json result = {{"file", path},
                           {"architecture", kept.architecture},
                           {"weights", kept.weights},
                           {"streams", kept.state.streams},
                           {"positions", kept.state.positions},
                           {"state_bytes", kept.state.bytes()}};
  for (auto& [key, value] : more.items()) result[key] = value;
  write_json(result);
}

// ---- save ------------------------------------------------------------------------------------------------

int save(const StateOptions& options, const Common& common) {
  require_writable(options.output);
  LoadedModel loaded = load_model(options.model, common.seed);
  Model& model = *loaded.model;
  const bool reads = !options.data.empty();
  if (!reads && options.memory.file.empty() && !has_lived(loaded))
    fail("state save: {} has not lived on a stream yet; give it a text with --data", options.model);
  Memory memory = !options.memory.file.empty() ? memory_of_file(model, options.memory)
                  : reads                      ? no_memory(model)
                                               : lived_memory(loaded);
  Score score;
  if (reads) {
    require_bytes(model, options.model);
    const std::vector<uint8_t> bytes = read_all(options.data);
    ProgressLine line(STDERR_FILENO);
    const auto stop = [&] {
      if (line.due()) line.show(fmt::format("reading {} ...", bytes_text(double(bytes.size()))));
      return interrupted();
    };
    score = score_stream(model, memory.state, bytes, reading_chunk(model), stop, nullptr, memory.last);
    line.finish();
    if (interrupted()) return interrupted_exit_code();  // half a text is not what was asked for
    if (!bytes.empty()) memory.last = bytes.back();
    say(fmt::format("{} read at {:.3f} bits per byte", bytes_text(double(score.scored)),
                    score.bits_per_byte()));
  }
  const KeptState kept = kept_state(model, std::move(memory.state), {memory.last});
  write_kept_state(options.output, kept);
  report(kept, options.output, common,
         {{"bytes", score.scored}, {"bits_per_byte", rounded(score.bits_per_byte())}});
  return 0;
}

Action define_save(CLI::App& app, std::shared_ptr<StateOptions> options, const Common& common) {
  app.footer(
      "Examples:\n"
      "  brood state save book --data play.txt -o play.state\n"
      "  brood state save book --data more.txt --state play.state -o more.state    read on\n"
      "  brood state save book -o today.state         what it remembers of the stream that it lives on\n");
  app.add_option("model", options->model, "a model folder (or a preset or config, untrained)")
      ->required()
      ->type_name("DIR");
  app.add_option("--data", options->data, "what to read: files or folders, one after the other; - for stdin")
      ->type_name("FILE...");
  add_output(app, *options);
  add_memory_options(app, options->memory);
  return [options, &common] { return save(*options, common); };
}

// ---- load ------------------------------------------------------------------------------------------------

// A save writes the weights and the notes anew, too.
void require_ours(const std::string& folder, const LoadedModel& loaded) {
  constexpr const char* kMend = "brood live --model {} --in FILE --save DIR makes a folder of its own";
  if (loaded.is_public)
    fail("state load: {} is laid out as another program's and would be rewritten; {}", folder,
         fmt::format(kMend, folder));
  const nlohmann::json notes = loaded.progress ? loaded.progress->extra : nlohmann::json::object();
  const bool carried = notes.contains("training") && notes["training"].is_object() &&
                       notes["training"].value("carry", nlohmann::json()) == true;
  if (loaded.state && (loaded.state->streams != 1 || carried))
    fail("state load: {} holds a training under way with --carry, whose memory would be lost; {}", folder,
         fmt::format(kMend, folder));
}

int load(const StateOptions& options, const Common& common) {
  if (!std::filesystem::is_directory(options.model))
    fail("state load: {} is no model folder; --state of talk, eval and live takes the file itself",
         options.model);
  LoadedModel loaded = load_model(options.model, common.seed);
  Model& model = *loaded.model;
  require_ours(options.model, loaded);
  MemoryOptions from = options.memory;
  from.file = options.file;
  Memory memory = memory_of_file(model, from);
  LiveSettings settings;
  settings.rehearsals = 0;
  LiveLearner learner(model, memory.state, settings);
  Progress progress = loaded.progress ? *loaded.progress : Progress{};
  if (progress.extra.contains("live")) learner.restore(progress.extra["live"]);
  learner.begin_after(memory.last);
  progress.extra["live"] = learner.notes();
  const auto episodes = own_episodic_memory(loaded);
  Reservoir rehearsed(std::numeric_limits<int64_t>::max(), 0);
  if (loaded.rehearsal) rehearsed.read(*loaded.rehearsal, model.frame().vocab_size);
  save_model(options.model, model, &memory.state, &progress, FileSystem::real(),
             episodes ? episodes->writer() : MemoryWriter{},
             loaded.rehearsal ? rehearsed.writer() : MemoryWriter{});
  report(kept_state(model, std::move(memory.state), {memory.last}), options.model, common);
  return 0;
}

Action define_load(CLI::App& app, std::shared_ptr<StateOptions> options, const Common& common) {
  app.footer(
      "Examples:\n"
      "  brood state load book play.state      talk and live now go on from there\n");
  app.add_option("model", options->model, "a model folder; its weights stay")->required()->type_name("DIR");
  add_file(app, *options);
  app.add_flag("--any-weights", options->memory.any_weights,
               "take it though the model's weights have changed since it was kept");
  return [options, &common] { return load(*options, common); };
}

// ---- fork ------------------------------------------------------------------------------------------------

int fork(const StateOptions& options, const Common& common) {
  require_writable(options.output);
  KeptState kept = read_kept_state(options.file);
  if (options.stream >= kept.state.streams)
    fail("state fork: {} holds {} streams, numbered from 0; there is no stream {}", options.file,
         kept.state.streams, options.stream);
  kept.state = kept.state.fork(options.stream, options.streams);
  kept.last.assign(size_t(options.streams), kept.last[size_t(options.stream)]);
  write_kept_state(options.output, kept);
  report(kept, options.output, common);
  return 0;
}

Action define_fork(CLI::App& app, std::shared_ptr<StateOptions> options, const Common& common) {
  app.footer(
      "Examples:\n"
      "  brood state fork play.state --streams 8 -o 8.state     eight that begin alike\n"
      "  brood state fork 8.state --stream 3 -o third.state     one of them, by itself\n");
  add_file(app, *options);
  app.add_option("--stream", options->stream, "which of its streams")
      ->capture_default_str()
      ->check(whole(0, 1 << 20))
      ->type_name("I");
  app.add_option("--streams", options->streams, "how many copies")
      ->capture_default_str()
      ->check(whole(1, 1 << 20))
      ->type_name("N");
  add_output(app, *options);
  return [options, &common] { return fork(*options, common); };
}

// ---- diff ------------------------------------------------------------------------------------------------

int diff(const StateOptions& options, const Common& common) {
  const KeptState a = read_kept_state(options.file), b = read_kept_state(options.other);
  nlohmann::json rows = nlohmann::json::array();
  std::string text =
      fmt::format("{:<28}{:>12}{:>12}{:>12}{:>10}{:>10}\n", "", "|A|", "|B|", "|A - B|", "cosine", "changed");
  for (const StateDifference& d : differences(a.state, b.state)) {
    text += fmt::format("{:<28}{:>12.5g}{:>12.5g}{:>12.5g}{:>10.5f}{:>9.1f} %\n", d.name, d.norm_a, d.norm_b,
                        d.norm_difference, d.cosine, 100 * d.changed);
    rows.push_back({{"name", d.name},
                    {"numbers", d.size},
                    {"norm_a", rounded(d.norm_a)},
                    {"norm_b", rounded(d.norm_b)},
                    {"norm_difference", rounded(d.norm_difference)},
                    {"cosine", rounded(d.cosine)},
                    {"changed", rounded(d.changed)}});
  }
  const bool same = a.weights == b.weights;
  if (!same) say("state diff: the two were kept of different weights");
  if (common.json)
    write_json({{"tensors", rows},
                {"same_weights", same},
                {"positions_a", a.state.positions},
                {"positions_b", b.state.positions}});
  else
    write_out(text);
  return 0;
}

Action define_diff(CLI::App& app, std::shared_ptr<StateOptions> options, const Common& common) {
  app.footer(
      "Examples:\n"
      "  brood state diff before.state after.state     norms, cosine, and the share of numbers that "
      "changed\n");
  app.add_option("a", options->file, "a file of brood state save")->required()->type_name("A");
  app.add_option("b", options->other, "another, of the same shape")->required()->type_name("B");
  return [options, &common] { return diff(*options, common); };
}

// ---- size ------------------------------------------------------------------------------------------------

struct Cache {
  const char *name, *key;
  int64_t width;
};

int size(const StateOptions& options, const Common& common) {
  const LoadedModel loaded = load_model(options.model, common.seed);
  const Model& model = *loaded.model;
  const int64_t d_model = model.frame().d_model, n_layer = model.frame().n_layer;
  nlohmann::json tensors = nlohmann::json::array();
  std::string text = fmt::format("{:<28}{:>18}{:>12}{:>12}\n", "", "shape", "numbers", "");
  const State state = model.make_state(1);
  for (const StateTensor& t : state.tensors) {
    std::vector<int64_t> shape;
    for (int i = 1; i < t.value.shape().rank(); ++i) shape.push_back(t.value.shape()[i]);
    const std::string shown = nlohmann::json(shape).dump();
    text += fmt::format("{:<28}{:>18}{:>12}{:>12}\n", t.name, shown, t.value.size(),
                        bytes_text(double(t.value.bytes())));
    tensors.push_back({{"name", t.name}, {"shape", shape}, {"bytes", t.value.bytes()}});
  }
  text += fmt::format("{:<28}{:>18}{:>12}{:>12}\n\n", "a stream, however long", "", state.bytes() / 4,
                      bytes_text(double(state.bytes())));

  constexpr int64_t kHead = 64;  // as wide as heads usually are
  constexpr int64_t kLengths[] = {1024, 8192, 65536};
  text += fmt::format("{:<40}{:>10}{:>10}{:>10}\n",
                      fmt::format("a Transformer {} wide, {} layers, after", d_model, n_layer), "1k", "8k",
                      "64k");
  nlohmann::json beside;
  for (const Cache& cache : {Cache{"  keys and values of all heads", "attention_bytes", d_model},
                             Cache{"  of one head of 64 (multi-query)", "multi_query_bytes", kHead}}) {
    text += fmt::format("{:<40}", cache.name);
    for (const int64_t steps : kLengths) {
      const double bytes = attention_cache_bytes(n_layer, cache.width, steps);
      text += fmt::format("{:>10}", bytes_text(bytes));
      beside[cache.key][std::to_string(steps)] = int64_t(bytes);
    }
    text += "\n";
  }
  if (common.json)
    write_json({{"tensors", tensors}, {"state_bytes", state.bytes()}, {"transformer", beside}});
  else
    write_out(text);
  return 0;
}

Action define_size(CLI::App& app, std::shared_ptr<StateOptions> options, const Common& common) {
  app.footer(
      "Examples:\n"
      "  brood state size rwkv.json       bytes by layer and tensor, beside a Transformer's cache\n"
      "  brood state size bdh-25m --json\n");
  app.add_option("model", options->model, "a model folder, a config, or a preset")
      ->required()
      ->type_name("DIR|PRESET");
  return [options, &common] { return size(*options, common); };
}

struct Part {
  const char *name, *purpose;
  Action (*define)(CLI::App&, std::shared_ptr<StateOptions>, const Common&);
};
constexpr Part kParts[] = {
    {"save", "keep what a model remembers, of a text or of its own stream", define_save},
    {"load", "put a kept memory into a model folder", define_load},
    {"fork", "copy one stream into one or many", define_fork},
    {"diff", "compare two memories, layer by layer", define_diff},
    {"size", "what a memory takes, beside a Transformer's cache", define_size},
};

}  // namespace

Action define_state(CLI::App& app, const Common& common) {
  auto options = std::make_shared<StateOptions>();
  app.footer(kStateExamples);
  app.require_subcommand(1);
  std::vector<std::pair<const CLI::App*, Action>> actions;
  for (const Part& part : kParts) {
    CLI::App* sub = app.add_subcommand(part.name, part.purpose);
    sub->fallthrough();  // the options that every verb has
    actions.emplace_back(sub, part.define(*sub, options, common));
  }
  return [actions] {
    for (const auto& [sub, action] : actions)
      if (sub->parsed()) return action();
    return kUserError;
  };
}

}  // namespace brood::cli
