#include "brood/senses/tasks.h"

#include <algorithm>
#include <array>
#include <numeric>
#include <string>

#include "brood/base/error.h"
#include "brood/base/random.h"

namespace brood {

void TaskSequence::read(std::span<int32_t> tokens, std::span<int32_t> answers) {
  BROOD_ASSERT(tokens.size() == answers.size());
  for (size_t i = 0; i < tokens.size(); ++i) {
    const Step step = next();
    tokens[i] = step.token;
    answers[i] = step.answer;
  }
}

namespace {

constexpr int32_t kNothing = -1;

// Whether the next of `left` places is one of the `wanted` that are still to be chosen: asked place by place
// it chooses each set of places with the same probability (Knuth, selection sampling, 3.4.2 S).
bool choose(Random& random, int64_t left, int64_t wanted) {
  return int64_t(random.below(uint64_t(left))) < wanted;
}

// `n` different numbers below `bound`, in random order.
std::vector<int32_t> different(Random& random, int32_t n, int32_t bound) {
  std::vector<int32_t> all(static_cast<size_t>(bound));
  std::iota(all.begin(), all.end(), 0);
  for (int32_t i = 0; i < n; ++i)
    std::swap(all[size_t(i)], all[size_t(i) + random.below(uint64_t(bound - i))]);
  all.resize(size_t(n));
  return all;
}

// Noise, with kData tokens among it at random places; then as many marks, at each of which the next of the
// data tokens is to be answered.
class SelectiveCopying final : public TaskSequence {
 public:
  static constexpr int32_t kVocab = 16, kNoise = 0, kMark = kVocab - 1;
  static constexpr int64_t kData = 16;
  SelectiveCopying(const TaskShape& shape, uint64_t seed)
      : random_(seed), before_marks_(shape.length - kData) {}

 private:
  Step next() override {
    const int64_t t = t_++;
    if (t >= before_marks_) return {kMark, data_[size_t((t - before_marks_) % kData)]};
    if (!choose(random_, before_marks_ - t, kData - found_)) return {kNoise, kNothing};
    const auto token = int32_t(1 + random_.below(kVocab - 2));
    data_[size_t(found_++)] = token;
    return {token, kNothing};
  }

  Random random_;
  const int64_t before_marks_;
  int64_t t_ = 0, found_ = 0;
  std::array<int32_t, kData> data_{};
};

// Random tokens, among them a special one, once; at the end it comes again, and what followed it is to be
// answered.
class InductionHeads final : public TaskSequence {
 public:
  static constexpr int32_t kVocab = 16, kSpecial = 0;
  static constexpr int64_t kLeast = 3;
  InductionHeads(const TaskShape& shape, uint64_t seed)
      : random_(seed), last_(shape.length - 1), place_(int64_t(random_.below(uint64_t(shape.length - 2)))) {}

 private:
  Step next() override {
    const int64_t t = t_++;
    if (t == last_) return {kSpecial, followed_};
    if (t == place_) return {kSpecial, kNothing};
    const auto token = int32_t(1 + random_.below(kVocab - 1));
    if (t == place_ + 1) followed_ = token;
    return {token, kNothing};
  }

  Random random_;
  const int64_t last_, place_;
  int64_t t_ = 0;
  int32_t followed_ = kNothing;
};

// Pairs of a key and its value; then every key once more, at random places among other tokens, where its
// value is to be answered. Keys are below kVocab/2, values above.
class AssociativeRecall final : public TaskSequence {
 public:
  static constexpr int32_t kVocab = 256, kHalf = kVocab / 2;
  static constexpr int32_t kFewest = 4, kMost = 8;
  static constexpr int64_t kLeast = 3 * kMost;
  AssociativeRecall(const TaskShape& shape, uint64_t seed)
      : random_(seed),
        length_(shape.length),
        pairs_(int32_t(kFewest + random_.below(kMost - kFewest + 1))),
        keys_(different(random_, pairs_, kHalf)),
        values_(different(random_, pairs_, kHalf)),
        order_(different(random_, pairs_, pairs_)) {
    is_key_.fill(false);
    for (const int32_t key : keys_) is_key_[size_t(key)] = true;
  }

 private:
  Step next() override {
    const int64_t t = t_++;
    if (t < 2 * pairs_) {
      const auto pair = size_t(t / 2);
      return {t % 2 == 0 ? keys_[pair] : kHalf + values_[pair], kNothing};
    }
    if (asked_ < pairs_ && choose(random_, length_ - t, pairs_ - asked_)) {
      const auto pair = size_t(order_[size_t(asked_++)]);
      return {keys_[pair], kHalf + values_[pair]};
    }
    return {other(), kNothing};
  }
  int32_t other() {
    for (;;) {
      const auto token = int32_t(random_.below(kVocab));
      if (!is_key_[size_t(token)]) return token;
    }
  }

  Random random_;
  const int64_t length_;
  const int32_t pairs_;
  const std::vector<int32_t> keys_, values_, order_;
  std::array<bool, kVocab> is_key_;
  int64_t t_ = 0;
  int32_t asked_ = 0;
};

// Random bits; whether the number of ones so far is odd is to be answered at every step, in a test at the last.
class Parity final : public TaskSequence {
 public:
  Parity(const TaskShape& shape, uint64_t seed)
      : random_(seed), first_asked_(shape.testing ? shape.length - 1 : 0) {}

 private:
  Step next() override {
    const auto bit = int32_t(random_.below(2));
    odd_ ^= bit;
    return {bit, t_++ >= first_asked_ ? odd_ : kNothing};
  }

  Random random_;
  const int64_t first_asked_;
  int64_t t_ = 0;
  int32_t odd_ = 0;
};

// Random tokens; at every step what came kDelay steps before is to be answered.
class Delay final : public TaskSequence {
 public:
  static constexpr int32_t kVocab = 16;
  static constexpr int64_t kDelay = 16;
  Delay(const TaskShape&, uint64_t seed) : random_(seed) {}

 private:
  Step next() override {
    int32_t& place = past_[size_t(t_ % kDelay)];
    const int32_t answer = t_++ < kDelay ? kNothing : place;
    place = int32_t(random_.below(kVocab));
    return {place, answer};
  }

  Random random_;
  std::array<int32_t, kDelay> past_{};
  int64_t t_ = 0;
};

template <class Sequence>
std::unique_ptr<TaskSequence> make(const TaskShape& shape, uint64_t seed) {
  return std::make_unique<Sequence>(shape, seed);
}

}  // namespace

const std::vector<Task>& tasks() {
  static const std::vector<Task> all = {
      {"copying",
       "selective copying: keep 16 tokens strewn among noise, repeat them in order",
       "Of L steps the last 16 are marks, and at each mark the next data token is to be answered; before "
       "them\n"
       "stand 16 data tokens at random places, the rest is one noise token. Vocabulary 16: noise, 14 kinds "
       "of\n"
       "data, the mark. A time-invariant model cannot tell data from noise by when they come.\n"
       "Published at L = 4096: Mamba 99.8 %, S4 18.3 % (Gu and Dao 2023, arXiv 2312.00752, table 1).",
       SelectiveCopying::kVocab,
       128,
       {64, 128, 256},
       2 * SelectiveCopying::kData,
       make<SelectiveCopying>},
      {"induction",
       "induction heads: what followed the special token when it came before?",
       "L random tokens, among them a special one, once, at a random place; at the last step it comes again, "
       "and\nthe token that followed it is to be answered. Vocabulary 16. Trained at 256, tested at up to "
       "1,048,576.\nPublished: Mamba, trained at 256, 100 % at every length up to 2^20; attention fails "
       "beyond "
       "about twice its\ntraining length (Gu and Dao 2023, arXiv 2312.00752, table 2).",
       InductionHeads::kVocab,
       256,
       {64, 256, 1024, 4096, 16384, 65536, 262144, 1048576},
       InductionHeads::kLeast,
       make<InductionHeads>},
      {"mqar",
       "multi-query associative recall: key-value pairs, then every key asks for its value",
       "4 to 8 pairs of a key and its value stand at the beginning; later each key comes once more, at a "
       "random\n"
       "place among other tokens, and its value is to be answered there. Vocabulary 256, half of it keys.\n"
       "The task is that of Arora et al. 2023 (Zoology, arXiv 2312.04927), there with a vocabulary of 8192 "
       "and "
       "up\nto 64 pairs; at 64 steps and 4 pairs attention, Mamba and RWKV-6 are all near 100 % at width 64 "
       "(BlinkDL/\nRWKV-LM, Research/RWKV-6-MQAR.png).",
       AssociativeRecall::kVocab,
       64,
       {64, 128, 256},
       AssociativeRecall::kLeast,
       make<AssociativeRecall>},
      {"parity",
       "parity: is the number of ones so far odd?",
       "Random bits. In training the answer is asked at every step of sequences of 40, so that every length "
       "up "
       "to\n40 is trained; in tests at the last step alone, where a guess is right half of the time.\n"
       "Published, trained to 40 and tested to 256: models whose state can turn its sign (negative "
       "eigenvalues: "
       "\nDeltaNet with beta up to 2, sLSTM) solve it, Mamba and attention do not leave chance (Grazzi et "
       "al. "
       "2024,\narXiv 2411.12537).",
       2,
       40,
       {40, 64, 128, 256},
       1,
       make<Parity>},
      {"delay",
       "delay: what came 16 steps ago?",
       "Random tokens of a vocabulary of 16; at every step from the 17th on the token of 16 steps before is "
       "to "
       "be\nanswered. A linear memory suffices: it is what S4 was made for (Gu et al. 2022, arXiv "
       "2111.00396).",
       Delay::kVocab,
       64,
       {64, 256, 1024},
       Delay::kDelay + 1,
       make<Delay>},
  };
  return all;
}

const Task& find_task(std::string_view name) {
  std::string known;
  for (const Task& task : tasks()) {
    if (name == task.name) return task;
    known += fmt::format("{}{}", known.empty() ? "" : ", ", task.name);
  }
  fail("tasks: there is no task \"{}\"; known ones are {}", name, known);
}

void check_task_length(const Task& task, int64_t length) {
  if (length < task.least_length) {
    fail("tasks: {} steps cannot hold a sequence of {}; it needs {}", length, task.name, task.least_length);
  }
}

}  // namespace brood
