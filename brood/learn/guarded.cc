#include "brood/learn/guarded.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

#include "brood/learn/live_notes.h"
#include "brood/model/diverged.h"

namespace brood {

namespace {

constexpr int64_t kCalm = 8;
constexpr int64_t kMostCaution = 60;
constexpr int64_t kMost = int64_t(1) << 62;
constexpr const char* kNotFinite =
    "live: weights, moments or memory are not numbers any more: a smaller --learning-rate helps";

}  // namespace

GuardedLearner::GuardedLearner(Model& model, State& state, const LiveSettings& settings,
                               const GuardSettings& guard, GuardEvents events, EpisodicMemory* memory)
    : learner_(model, state, settings, memory),
      settings_(settings),
      guard_(guard),
      events_(std::move(events)) {}

std::vector<int32_t> GuardedLearner::restore(const nlohmann::json& learner_notes,
                                             const nlohmann::json& guard_notes) {
  learner_.restore(learner_notes);
  auto waiting = learner_notes.at("pending").get<std::vector<int32_t>>();
  if (!waiting.empty()) {
    nlohmann::json none_waits = learner_notes;
    none_waits["pending"] = nlohmann::json::array();
    learner_.restore(none_waits);
  }
  if (guard_notes.is_null()) return waiting;
  const Notes notes = notes_of_learner(guard_notes);
  taken_ = notes.count("taken") - int64_t(waiting.size());
  if (taken_ < 0) notes.refuse("more waits than was taken");
  chunk_begin_ = taken_;
  rejected_tokens_ = notes.count("rejected");
  times_back_ = notes.count("times_back");
  caution_ = notes.count("caution", kMostCaution);
  calm_ = notes.count("calm", kCalm);
  for (const auto& json_range : notes.list("rejects")) {
    const Notes range = notes_of_learner(json_range);
    const Range next{range.count("begin"), range.count("end")};
    if (next.end < next.begin || next.end > taken_ ||
        (!rejected_.empty() && next.begin < rejected_.back().begin))
      notes.refuse("what was rejected lies in no order");
    rejected_.push_back(next);
  }
  learner_.slow_down(std::exp2(-double(caution_)));
  return waiting;
}

int64_t GuardedLearner::needs_from() const {
  int64_t begin = taken_ - learner_.to_remember();
  for (auto range = rejected_.rbegin(); range != rejected_.rend() && range->end > begin; ++range)
    begin -= range->end - range->begin;
  return std::max<int64_t>(begin, 0);
}

void GuardedLearner::remember(std::span<const int32_t> tokens) {
  BROOD_ASSERT(latest_ < 0 && pending_ == 0);
  std::vector<int32_t> scored;
  int64_t position = taken_ - int64_t(tokens.size());
  auto range = rejected_.begin();
  for (const int32_t token : tokens) {
    while (range != rejected_.end() && range->end <= position) ++range;
    const bool was_rejected = range != rejected_.end() && range->begin <= position;
    if (!was_rejected) scored.push_back(token);
    ++position;
  }
  learner_.remember(scored);
}

void GuardedLearner::observe(std::span<const int32_t> tokens) {
  if (latest_ < 0 && guard_.copies && !tokens.empty()) keep();
  while (!tokens.empty()) {
    const auto n = size_t(std::min<int64_t>(int64_t(tokens.size()), settings_.chunk - pending_));
    if (guard_.copies) since_.insert(since_.end(), tokens.begin(), tokens.begin() + int64_t(n));
    try {
      feed(tokens.first(n));
    } catch (const Diverged& why) {
      go_back(why);
    }
    tokens = tokens.subspan(n);
  }
}

void GuardedLearner::feed(std::span<const int32_t> tokens) {
  if (pending_ == 0) chunk_begin_ = taken_;
  taken_ += int64_t(tokens.size());
  pending_ += int64_t(tokens.size());
  learner_.observe(tokens);
  if (pending_ == settings_.chunk) chunk_done();
}

void GuardedLearner::chunk_done() {
  pending_ = 0;
  if (events_.scored) events_.scored();
  if (!guard_.copies || !due()) return;
  if (!copy(true)) throw Diverged(kNotFinite);
}

// Early copies lie closer: a young stream has little to lose, and little to go back to.
bool GuardedLearner::due() const {
  const int64_t every = settings_.keep_every, now = learner_.scored();
  const auto before = latest().learner.notes.at("scored").get<int64_t>();
  return now / every != before / every || (now < every && now >= 2 * before);
}

bool GuardedLearner::copy(bool counts) {
  const int next = latest_ < 0 ? 0 : latest_ == held_ ? 1 - latest_ : latest_;
  Copy& copy = copies_[next];
  if (!learner_.copy_to(copy.learner)) return false;
  latest_ = next;
  if (counts && caution_ > 0 && in_a_row_ == 0 && ++calm_ == kCalm) {
    --caution_;
    calm_ = 0;
    learner_.slow_down(std::exp2(-double(caution_)));
  }
  in_a_row_ = 0;
  since_.clear();
  const int64_t looked_back = taken_ - settings_.rehearsal_memory - 2 * rejected_tokens_;
  std::erase_if(rejected_, [&](const Range& range) { return range.end < looked_back; });
  copy.taken = taken_;
  copy.pending = pending_;
  copy.chunk_begin = chunk_begin_;
  copy.notes = notes();
  copy.others = events_.kept ? events_.kept() : nlohmann::json();
  return true;
}

nlohmann::json GuardedLearner::notes() const {
  nlohmann::json ranges = nlohmann::json::array();
  for (const Range& range : rejected_) ranges.push_back({{"begin", range.begin}, {"end", range.end}});
  return {{"taken", taken_},
          {"rejected", rejected_tokens_},
          {"times_back", times_back_},
          {"caution", caution_},
          {"calm", calm_},
          {"rejects", ranges}};
}

void GuardedLearner::keep() {
  while (!copy(false)) go_back(Diverged(kNotFinite));
}

const GuardedLearner::Copy& GuardedLearner::hold() {
  held_ = latest_;
  return latest();
}

void GuardedLearner::flush() {
  if (pending_ == 0) return;
  try {
    learner_.flush();
  } catch (const Diverged& why) {
    go_back(why);
    return flush();
  }
  pending_ = 0;
  if (events_.scored) events_.scored();
}

void GuardedLearner::go_back(const Error& why) {
  std::string sentence = why.what();
  for (;;) {
    if (latest_ < 0 || !guard_.copies || in_a_row_ >= guard_.rollbacks) throw Diverged(sentence);
    ++in_a_row_;
    ++times_back_;
    // The chunk at which it was seen, what had been rejected within it before included.
    const int64_t begin = latest().taken;
    if (chunk_begin_ < taken_) {
      const Range range{std::max(chunk_begin_, begin), taken_};
      if (events_.rejected)
        events_.rejected(range.begin, std::span(since_).subspan(size_t(range.begin - begin),
                                                                size_t(range.end - range.begin)));
      rejected_.insert(std::upper_bound(rejected_.begin(), rejected_.end(), range,
                                        [](const Range& a, const Range& b) { return a.begin < b.begin; }),
                       range);
      rejected_tokens_ += range.end - range.begin;
    }
    learner_.go_back(latest().learner);
    if (events_.went_back) events_.went_back(latest().others);
    caution_ = std::min(caution_ + 1, kMostCaution);
    calm_ = 0;
    learner_.slow_down(std::exp2(-double(caution_)));
    try {
      read_again();
      return;
    } catch (const Diverged& again) {
      sentence = again.what();
    }
  }
}

// Tokens since the copy, without those rejected.
void GuardedLearner::read_again() {
  const std::vector<int32_t> again = std::exchange(since_, {});
  taken_ = latest().taken;
  pending_ = latest().pending;
  chunk_begin_ = latest().chunk_begin;
  size_t at = 0;
  const auto next = [&](int64_t n) {
    const auto tokens = std::span(again).subspan(at, size_t(std::min(n, int64_t(again.size() - at))));
    since_.insert(since_.end(), tokens.begin(), tokens.end());
    at += tokens.size();
    return tokens;
  };
  try {
    while (at < again.size()) {
      const auto range = std::find_if(rejected_.begin(), rejected_.end(),
                                      [&](const Range& rejected) { return rejected.end > taken_; });
      const int64_t until = range == rejected_.end() ? kMost : range->begin;
      if (until <= taken_)
        taken_ += int64_t(next(range->end - taken_).size());
      else
        feed(next(std::min(until - taken_, settings_.chunk - pending_)));
    }
  } catch (const Diverged&) {
    next(kMost);
    throw;
  }
}

}  // namespace brood
