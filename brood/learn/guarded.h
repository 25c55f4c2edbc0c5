// GuardedLearner: a LiveLearner that is copied now and then while all is well, and goes back when it is not: when a cost,
// a weight or a state is no number any more.
//
// Then everything is again as at the last copy; the chunk at which it was seen is passed over (rejected: neither scored
// nor learnt); the learning rate is halved; and what came since is read again. The copies lie at places that the number of
// tokens scored decides, never the clock, so that who reads the same stream again does the same. After kCalm copies in a
// row without trouble the rate is doubled, up to what was asked for.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <utility>
#include <vector>

#include "brood/learn/live.h"

namespace brood {

// What the guard tells whoever runs it. All may be empty.
struct GuardEvents {
  std::function<void()> scored;                          // a chunk more
  std::function<nlohmann::json()> kept;                  // notes that belong into a copy
  std::function<void(const nlohmann::json&)> went_back;  // to the copy with those
  // These tokens, from this position in the stream on, are passed over.
  std::function<void(int64_t position, std::span<const int32_t>)> rejected;
};

struct GuardSettings {
  int64_t rollbacks = 8;  // times back to one and the same copy, then it gives up
  bool copies = true;     // false: it is copied by keep() alone, and never goes back
};

// Not thread-safe.
class GuardedLearner {
 public:
  struct Copy {
    LiveCopy learner;
    int64_t taken = 0;                     // tokens of the stream, those rejected included
    int64_t pending = 0, chunk_begin = 0;  // of the chunk that was not full
    nlohmann::json notes;                  // of the guard, for restore()
    nlohmann::json others;                 // GuardEvents::kept
  };

  GuardedLearner(Model& model, State& state, const LiveSettings& settings, const GuardSettings& guard,
                 GuardEvents events, EpisodicMemory* memory = nullptr);

  // Goes on from a saved copy: notes of the learner and, where there were some, of the guard (else null). Throws Error.
  // First it is to be given, by remember(), what of the stream's tokens [needs_from(), taken()) there is, the last ones;
  // then, by observe(), those that came after taken(): first of all the tokens returned, which the learner had seen and
  // not yet scored.
  std::vector<int32_t> restore(const nlohmann::json& learner_notes, const nlohmann::json& guard_notes);
  int64_t needs_from() const;
  void remember(std::span<const int32_t> tokens);
  LiveLearner& learner() { return learner_; }
  const LiveLearner& learner() const { return learner_; }

  // As LiveLearner's. Throw Diverged when going back did not help.
  void observe(std::span<const int32_t> tokens);
  void flush();

  // Copies now, wherever that is.
  void keep();
  const Copy& latest() const { return copies_[size_t(latest_)]; }
  // The latest copy stays as it is, to be read by another thread, until it is let go.
  const Copy& hold();
  void let_go() { held_ = -1; }

  int64_t room() const { return settings_.chunk - pending_; }  // tokens until a chunk is full
  int64_t taken() const { return taken_; }                     // tokens of the stream
  int64_t rejected() const { return rejected_tokens_; }
  int64_t times_back() const { return times_back_; }

 private:
  struct Range {
    int64_t begin, end;
  };
  void feed(std::span<const int32_t> tokens);  // at most what fills a chunk
  void chunk_done();
  void go_back(const Error& why);
  void read_again();
  bool due() const;
  bool copy(bool counts);  // towards kCalm
  nlohmann::json notes() const;

  LiveLearner learner_;
  const LiveSettings settings_;
  const GuardSettings guard_;
  const GuardEvents events_;

  int64_t taken_ = 0;
  int64_t pending_ = 0, chunk_begin_ = 0;  // of the chunk that is not full yet
  std::vector<int32_t> since_;             // tokens since the latest copy
  Copy copies_[2];
  int latest_ = -1, held_ = -1;
  std::vector<Range> rejected_;  // as far back as rehearsal looks
  int64_t rejected_tokens_ = 0, times_back_ = 0;
  int64_t in_a_row_ = 0;            // times back to the latest copy
  int64_t caution_ = 0, calm_ = 0;  // the rate is halved so often; copies since then
};

}  // namespace brood
