// brood talk: a model writes, after a prompt, after standard input, or in turns with a person.
#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <deque>
#include <iostream>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "brood/cli/episodic.h"
#include "brood/cli/input.h"
#include "brood/cli/interrupt.h"
#include "brood/cli/memory.h"
#include "brood/cli/numbers.h"
#include "brood/cli/output.h"
#include "brood/cli/verb.h"
#include "brood/learn/evaluate.h"
#include "brood/model/directory.h"
#include "brood/model/sampling.h"
#include "brood/model/snapshots.h"

namespace brood::cli {
namespace {

constexpr int32_t kBeginning = '\n';  // what a stream without a past starts after

constexpr const char* kTalkExamples =
    "Examples:\n"
    "  brood talk book --prompt 'To be ' -n 200             goes on from the prompt\n"
    "  brood talk book --prompt 'To be ' --temperature 0    the most likely byte each time\n"
    "  brood talk book --top-k 20 --top-p 0.9               interactive: you write a line, it answers\n"
    "  echo 'ROMEO:' | brood talk book -n 500               the prompt from a pipe\n"
    "  brood talk book --state play.state                   with the memory that brood state save kept\n"
    "A model that lived on a stream goes on from its end; --fresh begins with an empty memory. Where it\n"
    "remembers what it saw (brood live --memory) and the stream ended in mid-line, a prompt begins a line\n"
    "of its own, and --prompt '' goes on there. In a conversation /undo takes back the last turn,\n"
    "/save FILE keeps the memory for --state, and a line that ends with \\ is left for it to end.\n";

// Turns that can be taken back: as many as their memories fit into a gigabyte.
int64_t turns_kept(const Model& model) {
  constexpr int64_t kMost = 64, kBytes = int64_t(1) << 30;
  return std::clamp<int64_t>(kBytes / std::max<int64_t>(1, model.state_bytes_per_stream()), 1, kMost);
}

struct TalkOptions {
  std::string model;
  std::optional<std::string> prompt;
  int64_t n = 300;
  bool fresh = false, network_alone = false;
  MemoryOptions memory;
  Sampling sampling;
};

class Speaker {
 public:
  Speaker(const TalkOptions& options, const Common& common)
      : options_(options),
        loaded_(load_model(options.model, common.seed)),
        random_(common.seed),
        past_(turns_kept(model()), 1) {
    require_bytes(model(), options.model);
    if (!options.network_alone) episodes_ = own_episodic_memory(loaded_);
    const bool goes_on = !options.fresh && options.memory.file.empty();
    Memory memory = options.fresh ? no_memory(model())
                    : goes_on     ? lived_memory(loaded_, episodes_.get())
                                  : memory_of_file(model(), options.memory);
    state_ = std::move(memory.state);
    if (memory.last >= 0) unread_.push_back(memory.last);
    midst_of_line_ = episodes_ && goes_on && memory.last >= 0 && memory.last != '\n';
    // Where the episodic memory stands is not where this begins: it follows from a new line on.
    if (episodes_ && !goes_on) episodes_->hear(uint8_t(kBeginning));
  }

  // What is kept of the state before a turn, so that the turn can be taken back.
  void begin_turn() {
    past_.observe(state_);
    while (!turns_.empty() && turns_.front().position < past_.oldest()) turns_.pop_front();
    turns_.push_back({state_.positions[0], unread_, episodes_ ? episodes_->place() : EpisodicMemory::Place{},
                      midst_of_line_});
  }
  // False when there is no turn to take back.
  bool undo() {
    if (turns_.empty()) return false;
    const int64_t at = past_.roll_back(state_, turns_.back().position);
    BROOD_ASSERT(at == turns_.back().position);
    unread_ = std::move(turns_.back().unread);
    if (episodes_) episodes_->take_back(turns_.back().place);
    midst_of_line_ = turns_.back().midst_of_line;
    turns_.pop_back();
    return true;
  }

  void keep(const std::string& path) {
    if (unread_.size() > 1) read(unread_.size() - 1);
    write_kept_state(path, kept_state(model(), state_.clone(), {unread_.empty() ? -1 : unread_[0]}));
  }

  void listen(std::string_view text) {
    if (midst_of_line_ && !text.empty()) hear(uint8_t('\n'));
    midst_of_line_ = false;
    for (const char c : text) hear(uint8_t(c));
    const size_t chunk = size_t(reading_chunk(model()));
    while (unread_.size() > chunk && !interrupted()) read(chunk);
  }

  // Writes up to n bytes, each given to `said` as it comes; returns what was written.
  template <class Said>
  std::string write(int64_t n, Said said) {
    if (unread_.empty()) unread_.push_back(kBeginning);
    std::string text;
    while (int64_t(text.size()) < n && !interrupted()) {
      const Var logits = read(unread_.size());
      const int32_t next =
          sample(expected({logits.value(), size_t(kByteTokens)}), options_.sampling, random_);
      hear(uint8_t(next));
      text.push_back(char(uint8_t(next)));
      said(std::string_view(text).substr(text.size() - 1));
    }
    return text;
  }

 private:
  Model& model() { return *loaded_.model; }

  void hear(uint8_t byte) {
    unread_.push_back(byte);
    if (episodes_) episodes_->hear(byte);
  }

  // The logits of the next byte: the network's, or those of network and memory together.
  std::span<const float> expected(std::span<const float> network) {
    if (!episodes_) return network;
    episodes_->distribution(network, expected_);
    for (float& p : expected_) p = std::log(p);
    return expected_;
  }

  Var read(size_t n) {
    tape_.start(false);
    const Var logits =
        model().forward(tape_, state_, std::span(unread_).first(n), 1, int64_t(n), {.last_only = true});
    unread_.erase(unread_.begin(), unread_.begin() + int64_t(n));
    return logits;
  }

  const TalkOptions& options_;
  LoadedModel loaded_;
  Random random_;
  State state_;
  std::unique_ptr<EpisodicMemory> episodes_;  // may be null
  std::array<float, 256> expected_{};
  Tape tape_;
  std::vector<int32_t> unread_;  // heard or said, not yet read by the model
  bool midst_of_line_ = false;   // what it lived on ended there, and nothing was said since
  struct Turn {
    int64_t position;
    std::vector<int32_t> unread;
    EpisodicMemory::Place place;
    bool midst_of_line;
  };
  SnapshotRing past_;
  std::deque<Turn> turns_;  // those that can be taken back, each as it was before
};

// What a line that begins with a stroke asks for; false when it is to be said to the model, without the first stroke
// where there are two.
bool command(Speaker& speaker, std::string& line) {
  constexpr std::string_view kSave = "/save ";
  if (line == "/undo") {
    say(speaker.undo() ? "talk: the last turn is taken back" : "talk: there is no turn to take back");
  } else if (line.starts_with(kSave)) {
    try {
      speaker.keep(line.substr(kSave.size()));
      say(fmt::format("talk: the memory is kept in {}", line.substr(kSave.size())));
    } catch (const Error& error) {
      say(fmt::format("talk: {}", error.what()));
    }
  } else if (line.starts_with("//")) {
    line.erase(0, 1);
    return false;
  } else if (line.starts_with('/')) {
    say(fmt::format(
        "talk: there is no {}; there are /undo and /save FILE; // begins a line that is to be said with /",
        line.substr(0, line.find(' '))));
  } else {
    return false;
  }
  return true;
}

// What of a typed line the model is to go on from: a line of its own, or one that is left for it to end.
std::string said_line(std::string line) {
  if (line.ends_with('\\'))
    line.pop_back();
  else
    line.push_back('\n');
  return line;
}

void converse(Speaker& speaker, const TalkOptions& options) {
  say("talk: write a line and it goes on from there, or end it with \\ and it ends the line; /undo takes "
      "back a turn, "
      "Ctrl-D ends");
  std::string line;
  while (!interrupted()) {
    write_out("> ");
    if (!std::getline(std::cin, line)) break;
    if (command(speaker, line)) continue;
    speaker.begin_turn();
    speaker.listen(said_line(line));
    speaker.write(options.n, write_out);
    write_out("\n");
  }
  write_out("\n");
}

std::string piped_prompt() {
  const std::string input = "-";
  const std::vector<uint8_t> bytes = read_all(std::span(&input, 1));
  return {bytes.begin(), bytes.end()};
}

int talk(const TalkOptions& options, const Common& common) {
  Speaker speaker(options, common);
  if (!options.prompt && isatty(STDIN_FILENO)) {
    converse(speaker, options);
    return interrupted() ? interrupted_exit_code() : 0;
  }
  const std::string prompt = options.prompt ? *options.prompt : piped_prompt();
  speaker.listen(prompt);
  const auto begin = std::chrono::steady_clock::now();
  // The one thing on standard output is the result, where that is for programs.
  const auto said = [&](std::string_view bytes) {
    if (!common.json) write_out(bytes);
  };
  const std::string text = speaker.write(options.n, said);
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  said("\n");
  if (common.json) {
    write_json({{"text", text},
                {"bytes", text.size()},
                {"prompt_bytes", prompt.size()},
                {"seconds", rounded(seconds)},
                {"bytes_per_second", rounded(seconds > 0 ? double(text.size()) / seconds : 0)}});
  }
  return interrupted() ? interrupted_exit_code() : 0;
}

}  // namespace

Action define_talk(CLI::App& app, const Common& common) {
  auto options = std::make_shared<TalkOptions>();
  app.footer(kTalkExamples);
  app.add_option("model", options->model, "a model folder")->required()->type_name("DIR");
  app.add_option("--prompt", options->prompt, "what to go on from")->type_name("TEXT");
  app.add_option("-n", options->n, "bytes to write")
      ->capture_default_str()
      ->check(whole(0, kAnyCount))
      ->type_name("N");
  app.add_option("--temperature", options->sampling.temperature,
                 "1: as learnt; lower: safer; 0: the most likely byte")
      ->capture_default_str()
      ->check(real(0, 100))
      ->type_name("X");
  app.add_option("--top-k", options->sampling.top_k, "choose among the K most likely bytes; 0: all")
      ->capture_default_str()
      ->check(whole(0, kAnyCount))
      ->type_name("K");
  app.add_option("--top-p", options->sampling.top_p,
                 "choose among the likeliest bytes that make up this probability")
      ->capture_default_str()
      ->check(real(0, 1))
      ->type_name("P");
  auto* fresh = app.add_flag("--fresh", options->fresh,
                             "begin with an empty memory, not at the end of the stream it lived on");
  app.add_flag("--network-alone", options->network_alone,
               "leave out what the model remembers of all that it has seen (brood live --memory)");
  add_memory_options(app, options->memory);
  app.get_option("--state")->excludes(fresh);
  return [options, &common] { return talk(*options, common); };
}

}  // namespace brood::cli
