#include "brood/learn/episodic_memory.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "brood/base/file.h"
#include "brood/base/random.h"
#include "brood/base/threads.h"
#include "brood/learn/live.h"
#include "brood/model/checkpoint.h"
#include "tests/fixture/messages.h"
#include "tests/fixture/scratch_directory.h"

namespace brood {
namespace {

using Distribution = std::vector<float>;

std::string random_letters(Random& random, size_t n) {
  constexpr std::string_view kLetters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
  std::string letters;
  while (letters.size() < n) letters += kLetters[random.below(kLetters.size())];
  return letters;
}

// Lines of sentences of a small language.
std::vector<std::string> some_lines(size_t bytes) {
  constexpr std::array kWords = {"the",   "stream", "of",  "bytes", "goes", "on",   "and",  "never", "ends",
                                 "while", "a",      "sea", "of",    "key",  "room", "code", "1",     "is"};
  Random random(11);
  std::vector<std::string> lines;
  for (size_t length = 0; length < bytes; length += lines.back().size()) {
    std::string line;
    while (line.size() < 60) line += kWords[random.below(kWords.size())] + std::string(" ");
    lines.push_back(line + "\n");
  }
  return lines;
}

double see(EpisodicMemory& memory, std::string_view text) {
  double nats = 0;
  for (const char c : text) nats += memory.see({}, uint8_t(c));
  return nats;
}

Distribution expected(EpisodicMemory& memory, std::span<const float> logits = {}) {
  Distribution p(256);
  memory.distribution(logits, p);
  return p;
}

// What it says after the question, the most likely byte each time, until `end` or n bytes; then it is as before.
std::string answer(EpisodicMemory& memory, std::string_view question, size_t n, char end = 0) {
  const EpisodicMemory::Place place = memory.place();
  for (const char c : question) memory.hear(uint8_t(c));
  std::string said;
  while (said.size() < n) {
    const Distribution p = expected(memory);
    const char next = char(std::max_element(p.begin(), p.end()) - p.begin());
    if (end != 0 && next == end) break;
    said += next;
    memory.hear(uint8_t(next));
  }
  memory.take_back(place);
  return said;
}

std::unique_ptr<EpisodicMemory> saved_and_read(const EpisodicMemory& memory,
                                               const ScratchDirectory& scratch) {
  memory.writer()(scratch / "memory", "id", FileSystem::real());
  return EpisodicMemory::read(SafetensorsFile::open(scratch / "memory"));
}

TEST(EpisodicMemory, ItsDistributionIsWhatBytesCost) {
  std::vector<float> logits(256);
  Random random(3);
  for (float& x : logits) x = float(random.normal());
  for (const char c : std::string(" atz")) {
    EpisodicMemory memory(20);
    see(memory, "to and fro and to and fro");
    const Distribution p = expected(memory, logits);
    double sum = 0;
    for (const float x : p) sum += double(x);
    EXPECT_NEAR(sum, 1, 1e-5);
    EXPECT_NEAR(memory.see(logits, uint8_t(c), false), -std::log(double(p[uint8_t(c)])), 1e-4) << c;
  }
}

// To ask, to hear and to take back leaves no trace; a stream longer than what the past has room for.
TEST(EpisodicMemory, AskingAndHearingChangeNothing) {
  EpisodicMemory asked(16), quiet(16);
  const auto lines = some_lines(100000);
  size_t i = 0;
  for (const std::string& line : lines) {
    EXPECT_EQ(see(asked, line), see(quiet, line));
    if (++i % 100 != 0) continue;
    const Distribution before = expected(asked);
    answer(asked, "while a sea\nof key", 30);
    EXPECT_EQ(expected(asked), before);
  }
  EXPECT_EQ(asked.bytes_seen(), quiet.bytes_seen());
}

TEST(EpisodicMemory, WhatIsNotRememberedIsFollowed) {
  EpisodicMemory memory(18);
  see(memory, "alpha -> beta\ngamma -> delta\n");
  for (const char c : std::string("alpha -> be")) memory.see({}, uint8_t(c), false);
  const Distribution p = expected(memory);
  EXPECT_EQ(std::max_element(p.begin(), p.end()) - p.begin(), 't');
}

TEST(EpisodicMemory, LogitsThatAreNoNumbersSayNothing) {
  for (const float bad : {NAN, INFINITY, -INFINITY}) {
    EpisodicMemory memory(16), without(16);
    const std::vector<float> logits(256, bad);
    EXPECT_EQ(memory.see(logits, 'a'), without.see({}, 'a')) << bad;
  }
}

// 200 facts, each seen once, scattered among 200 KB of other text, then saved and asked for.
TEST(EpisodicMemory, RecallsWhatItSawOnce) {
  const ScratchDirectory scratch;
  Random random(5);
  auto lines = some_lines(200000);
  std::vector<std::pair<std::string, std::string>> facts;
  for (int i = 0; i < 200; ++i) {
    facts.emplace_back("key " + std::to_string(i + 1), random_letters(random, 16));
    lines[random.below(lines.size())] += facts.back().first + " -> " + facts.back().second + "\n";
  }
  EpisodicMemory memory(24);
  for (const std::string& line : lines) see(memory, line);
  const auto later = saved_and_read(memory, scratch);
  int recalled = 0;
  for (const auto& [key, value] : facts) recalled += answer(*later, key + " -> ", 16) == value;
  EXPECT_GE(recalled, 190);
}

TEST(EpisodicMemory, LooksUpASpreadsheetSeenOnce) {
  const ScratchDirectory scratch;
  Random random(6);
  std::vector<std::pair<std::string, std::string>> rows;
  std::string text = "id,name,price,count\n";
  for (int i = 0; i < 300; ++i) {
    rows.emplace_back(std::to_string(1000 + i),
                      fmt::format("{},{}.{:02},{}", random_letters(random, 4 + random.below(5)),
                                  random.below(900), random.below(100), random.below(1000)));
    text += rows.back().first + "," + rows.back().second + "\n";
  }
  EpisodicMemory memory(22);
  see(memory, text);
  const auto later = saved_and_read(memory, scratch);
  int right = 0;
  for (const auto& [id, row] : rows) right += answer(*later, id + ",", 80, '\n') == row;
  EXPECT_GE(right, 297);
}

TEST(EpisodicMemory, GoesOnFromItsFileToTheBit) {
  const ScratchDirectory scratch;
  for (const size_t bytes : {size_t(0), size_t(5), size_t(1000), size_t(90000)}) {
    EpisodicMemory memory(16);
    for (const std::string& line : some_lines(bytes))
      if (bytes > 0) see(memory, std::string_view(line).substr(0, std::min(line.size(), bytes)));
    const auto later = saved_and_read(memory, scratch);
    EXPECT_EQ(later->bytes_seen(), memory.bytes_seen());
    EXPECT_EQ(expected(*later), expected(memory));
    for (const std::string& line : some_lines(3000)) EXPECT_EQ(see(*later, line), see(memory, line)) << bytes;
  }
}

// Everything in a file that could be otherwise, is: it is refused, or a memory that goes on.
TEST(EpisodicMemory, RefusesFilesThatCannotBe) {
  const ScratchDirectory scratch;
  EpisodicMemory memory(16);
  see(memory, "one two three four five six seven eight nine ten\n");
  memory.writer()(scratch / "good", "id", FileSystem::real());
  const SafetensorsFile good = SafetensorsFile::open(scratch / "good");

  struct Change {
    std::string name, type;  // of the tensor; type empty: its numbers
    std::vector<uint8_t> bytes = {};
    int64_t count = -1;
  };
  const auto write = [&](const Change& change, std::map<std::string, std::string> metadata) {
    std::vector<TensorToWrite> tensors;
    std::vector<std::vector<std::byte>> kept;
    for (const auto& [name, tensor] : good.tensors()) {
      if (name == change.name && change.type == "none") continue;
      kept.emplace_back(tensor.data, tensor.data + tensor.bytes);
      if (name == change.name)
        for (size_t i = 0; i < change.bytes.size(); ++i) kept.back()[i] = std::byte(change.bytes[i]);
      const int64_t count = name == change.name && change.count >= 0 ? change.count : tensor.size();
      tensors.push_back({.name = name,
                         .shape = {count},
                         .data = kept.back().data(),
                         .type = tensor.dtype.c_str(),
                         .element_bytes = tensor.bytes / std::max<int64_t>(1, tensor.size())});
    }
    write_safetensors(scratch / "bad", tensors, metadata);
    return SafetensorsFile::open(scratch / "bad");
  };
  const std::vector<uint8_t> nan = {0, 0, 0xc0, 0x7f}, huge(8, 0x7f), all(64, 0xff);
  for (const Change& change : std::vector<Change>{{"mixer.weights", "", nan},
                                                  {"mixer.final_weights", "", nan},
                                                  {"mixer.learnt", "", huge},
                                                  {"refinements.0", "", nan},
                                                  {"refinements.1", "", huge},
                                                  {"recall", "", nan},
                                                  {"contexts.lines", "", all},
                                                  {"cursor", "", huge},
                                                  {"past", "none"},
                                                  {"contexts.lines", "none"},
                                                  {"cursor", "", {}, 3},
                                                  {"past", "", {}, 2},
                                                  {"long_match.last_seen", "", {}, 4}})
    EXPECT_THROW(EpisodicMemory::read(write(change, good.metadata()), false), Error) << change.name;
  for (const auto& [key, value] : std::vector<std::pair<std::string, std::string>>{{"log2_bytes", "17"},
                                                                                   {"log2_bytes", "99"},
                                                                                   {"log2_bytes", "16 "},
                                                                                   {"log2_bytes", ""},
                                                                                   {"memory", "0"}}) {
    auto metadata = good.metadata();
    metadata[key] = value;
    EXPECT_THROW(EpisodicMemory::read(write({}, metadata), false), Error) << key << " " << value;
    metadata.erase(key);
    EXPECT_THROW(EpisodicMemory::read(write({}, metadata), false), Error) << key;
  }
  // Damage that no other rule sees.
  EXPECT_NO_THROW(EpisodicMemory::read(write({}, good.metadata())));
  const Change trust{"long_match.trust", "", {1, 2}};
  EXPECT_NO_THROW(EpisodicMemory::read(write(trust, good.metadata()), false));
  EXPECT_THROW(EpisodicMemory::read(write(trust, good.metadata())), Error);
  // Each number of the cursor by itself, and whatever is let through goes on.
  for (size_t i = 0; i < size_t(good.find("cursor")->size()); ++i) {
    for (const uint8_t byte : {1, 200, 255}) {
      Change change{"cursor", "", {}};
      const auto* numbers = reinterpret_cast<const uint8_t*>(good.find("cursor")->data);
      change.bytes.assign(numbers, numbers + good.find("cursor")->bytes);
      change.bytes[8 * i + 1] = byte;
      try {
        const auto let_through = EpisodicMemory::read(write(change, good.metadata()), false);
        EXPECT_TRUE(std::isfinite(see(*let_through, "one two three\nfour")));
      } catch (const Error&) {
      }
    }
  }
}

// ---- in the live learner -------------------------------------------------------------------------------

const nlohmann::json kModel = {{"architecture", "mamba"}, {"d_model", 16}, {"n_layer", 1}};

std::vector<int32_t> tokens_of(size_t bytes) {
  std::vector<int32_t> tokens;
  for (const std::string& line : some_lines(bytes))
    for (const char c : line) tokens.push_back(uint8_t(c));
  return tokens;
}

struct Learner {
  explicit Learner(LiveSettings settings, bool with_memory = true)
      : model(kModel, 1), state(model.make_state(1)), memory(18) {
    settings.chunk = 16;
    settings.rehearsal_window = 20;
    learner = std::make_unique<LiveLearner>(model, state, settings, with_memory ? &memory : nullptr);
  }
  std::vector<float> weights() const {
    std::vector<float> all;
    for (const Parameter& p : model.parameters().all())
      all.insert(all.end(), p.value.f32(), p.value.f32() + p.size());
    return all;
  }
  Model model;
  State state;
  EpisodicMemory memory;
  std::unique_ptr<LiveLearner> learner;
};

TEST(LiveMemory, TheNetworkLearnsAsItDoesAlone) {
  const auto tokens = tokens_of(3000);
  Learner with({}, true), without({}, false);
  const double nats = with.learner->observe(tokens), alone = without.learner->observe(tokens);
  EXPECT_EQ(with.weights(), without.weights());
  EXPECT_EQ(with.learner->network_nats(), without.learner->network_nats());
  EXPECT_EQ(without.learner->network_nats(), without.learner->nats());
  EXPECT_LT(nats, 0.7 * alone);
  EXPECT_FALSE(without.learner->notes().contains("network_nats"));
}

TEST(LiveMemory, EachTierCanBeOff) {
  const auto tokens = tokens_of(2000);
  for (const bool learning : {false, true}) {
    for (const bool remembering : {false, true}) {
      Learner off({.learning = learning, .remembering = remembering});
      const auto before = off.weights();
      const double first = off.learner->observe(std::span(tokens).first(1000));
      const double second = off.learner->observe(std::span(tokens).subspan(1000));
      EXPECT_EQ(before == off.weights(), !learning);
      EXPECT_EQ(second < 0.97 * first, learning || remembering) << learning << remembering;
      // What was seen and not remembered has left no trace but where it stands.
      const auto lines = some_lines(2000);
      EXPECT_EQ(answer(off.memory, lines[3].substr(0, 30), 20) == lines[3].substr(30, 20), remembering);
    }
  }
}

TEST(LiveMemory, HowTheBytesArriveAndThreadsDoNotMatter) {
  const auto tokens = tokens_of(1500);
  std::vector<double> costs;
  ThreadPool& pool = ThreadPool::instance();
  const int threads = pool.size();
  for (const auto& [piece, n] : std::vector<std::pair<size_t, int>>{{1, 1}, {7, 2}, {1500, 1}, {1500, 2}}) {
    pool.resize(n);
    Learner learner({});
    for (size_t i = 0; i < tokens.size(); i += piece)
      learner.learner->observe(std::span(tokens).subspan(i, std::min(piece, tokens.size() - i)));
    learner.learner->flush();
    costs.push_back(learner.learner->nats());
  }
  pool.resize(threads);
  for (const double cost : costs) EXPECT_EQ(cost, costs[0]);
}

TEST(LiveMemory, GoesOnFromASave) {
  const ScratchDirectory scratch;
  const auto tokens = tokens_of(2000);
  const LiveSettings settings{.rehearsals = 0};
  Learner undisturbed(settings), first(settings);
  undisturbed.learner->observe(tokens);
  first.learner->observe(std::span(tokens).first(1003));
  const Progress progress{first.learner->updates(), {{"live", first.learner->notes()}}};
  save_model(scratch / "m", first.model, &first.state, &progress, FileSystem::real(), first.memory.writer());

  LoadedModel loaded = load_model(scratch / "m");
  ASSERT_TRUE(loaded.memory);
  const auto memory = EpisodicMemory::read(*loaded.memory);
  LiveSettings same = settings;
  same.chunk = 16;
  LiveLearner second(*loaded.model, *loaded.state, same, memory.get());
  second.restore(loaded.progress->extra["live"]);
  second.observe(std::span(tokens).subspan(1003));
  EXPECT_EQ(second.nats(), undisturbed.learner->nats());
  EXPECT_EQ(second.network_nats(), undisturbed.learner->network_nats());
  EXPECT_EQ(expected(*memory), expected(undisturbed.memory));

  save_model(scratch / "m", *loaded.model, nullptr, nullptr);
  EXPECT_FALSE(load_model(scratch / "m").memory) << "a save without a memory leaves none";
}

// What a guard does when a cost is no number any more.
TEST(LiveMemory, GoesBackToACopy) {
  const auto tokens = tokens_of(2000);
  const LiveSettings settings{.rehearsals = 0};
  Learner undisturbed(settings), disturbed(settings);
  undisturbed.learner->observe(std::span(tokens).first(640));
  disturbed.learner->observe(std::span(tokens).first(640));
  LiveCopy copy;
  ASSERT_TRUE(disturbed.learner->copy_to(copy));
  disturbed.learner->observe(tokens);
  disturbed.learner->go_back(copy);
  undisturbed.learner->observe(std::span(tokens).subspan(640));
  disturbed.learner->observe(std::span(tokens).subspan(640));
  EXPECT_EQ(disturbed.learner->nats(), undisturbed.learner->nats());
  EXPECT_EQ(disturbed.learner->network_nats(), undisturbed.learner->network_nats());
  EXPECT_EQ(expected(disturbed.memory), expected(undisturbed.memory));
}

TEST(LiveMemory, OnlyBytesCanBeRemembered) {
  nlohmann::json config = kModel;
  EpisodicMemory memory(16);
  for (const int vocabulary : {17, 300}) {
    config["vocab_size"] = vocabulary;
    Model model(config, 1);
    State state = model.make_state(1);
    expect_contains(message_of([&] {
                      LiveLearner learner(model, state, {.chunk = 1}, &memory);
                      const std::vector<int32_t> tokens = {256, 5};
                      learner.observe(tokens);
                    }),
                    "remembered");
  }
}

}  // namespace
}  // namespace brood
