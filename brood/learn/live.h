// LiveLearner: predict, see what came, learn from it at once. One pass, test then train.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "brood/learn/drift.h"
#include "brood/learn/optimiser.h"
#include "brood/learn/reservoir.h"
#include "brood/learn/riding.h"
#include "brood/model/model.h"

namespace brood {

class EpisodicMemory;

// The defaults are what served best on a stream of English text (docs/learning-live.md says what else was
// tried).
struct LiveSettings {
  int64_t chunk = 32;       // steps between updates, and steps that a gradient reaches back
  bool learning = true;     // off: score only, the weights stay as they are
  bool remembering = true;  // off: the memory, if there is one, predicts and follows, but learns nothing
  // Real-time recurrent learning (docs/rtrl.md): the parameters of diagonal recurrences learn from all of the stream,
  // however short the chunks, by traces that the state has from now on. Throws Error where there are none.
  bool rtrl = false;
  // learning_rate is the peak. Updates that ride in backward cannot clip by a global norm.
  OptimiserSettings optimiser = {.learning_rate = 2e-3, .weight_decay = 0, .clip = 0};
  int64_t warmup = 100;  // updates of linear warm-up
  // Afterwards the rate falls as 1/sqrt(1 + updates/decay_updates), to no less than `floor` times the peak:
  // large steps while everything is new, small ones once there is something to lose. decay_updates 0:
  // constant.
  double decay_updates = 2000, floor = 0.15;
  // Every so many tokens a learner may be copied, to go back to it later; a multiple of what comes between.
  int64_t keep_every = int64_t(1) << 14;
  // Rehearsal: after every rehearse_every chunks one update on `rehearsals` windows of rehearsal_window steps
  // drawn at random from the last rehearsal_memory tokens of the stream and a sample of distant_memory tokens of
  // what is older (rehearsal.h). 0 rehearsals: none.
  int64_t rehearsals = 4, rehearsal_window = 128, rehearse_every = 4, rehearsal_memory = int64_t(4) << 20;
  int64_t distant_memory = int64_t(4) << 20;
  // When the stream has become another one (drift.h), so many of the windows are of what came since.
  double fresh_share = 0.5;
  uint64_t seed = 0;
};

// Everything that a learner's next step depends on, copied: to go back to, and to be saved while the learner goes on.
struct LiveCopy {
  std::unique_ptr<Model> model;  // its weights and the optimiser's moments
  State state;
  nlohmann::json notes;
  std::shared_ptr<EpisodicMemory> memory;  // null when the learner has none
  int64_t remembered = 0;                  // tokens that the rehearsal memory had been given
  Reservoir distant{0, 0};                 // what it holds of older ones
};

// Scores and learns a stream of tokens. Not thread-safe.
class LiveLearner {
 public:
  // With a memory, of a stream of bytes, model and memory predict together (episodic_memory.h); the model goes on
  // learning from what it would have predicted by itself. Without one, or with all learning off, nothing of a model
  // changes but its state.
  LiveLearner(Model& model, State& state, const LiveSettings& settings, EpisodicMemory* memory = nullptr);

  // Takes the next tokens of the stream, any number. Whole chunks are scored and learnt from; the rest waits
  // for more. Returns the nats that the tokens scored by this call cost. The first token of a stream is
  // predicted by a uniform distribution. Throws Error when the cost is no longer a number: the weights that
  // led there are spoilt, and an earlier save is what to go on from.
  double observe(std::span<const int32_t> tokens);
  // Scores and learns from what waits (a shorter last chunk): at the end of a stream, or before a save.
  double flush();

  int64_t scored() const;       // tokens scored so far
  double nats() const;          // their total cost
  double network_nats() const;  // what they would have cost the model alone
  int64_t updates() const;
  const Activity& activity() const;
  const DriftDetector& drift() const;  // by what the tokens cost the model alone
  // For saving and going on: what a model directory's Progress.extra holds. Of the rehearsal memory they say only how
  // many of the last tokens it holds.
  nlohmann::json notes() const;
  // Goes on with the same stream. Throws Error when these cannot be the notes of a learner of this model. The rehearsal
  // memory is empty then and fills anew, unless it is given what it held: the last to_remember() tokens that had been
  // scored; with them all that follows is, to the bit, as if nothing had come between.
  void restore(const nlohmann::json& notes);
  int64_t to_remember() const;
  void remember(std::span<const int32_t> tokens);
  // And of the tokens before those what was saved, LiveCopy::distant of that time. Throws Error: it cannot be that.
  void remember_distant(const SafetensorsFile& file);
  // Copies itself, into the memory of an earlier copy where there is one. False, and the copy is as it was, when a weight,
  // a moment or the state holds a NaN or an infinity.
  bool copy_to(LiveCopy& copy) const;
  // Is again what it was when it was copied, at most keep_every tokens and a chunk ago, whatever has come since: observe()
  // may have thrown.
  void go_back(const LiveCopy& copy);
  // The learning rate is multiplied by this from now on; 1 at first.
  void slow_down(double share);
  // Goes on after this token, which the state has seen the stream up to, but not read; −1: none came before,
  // as at the start of a stream. What waits is forgotten.
  void begin_after(int32_t token);
  // Goes on with another stream: only what belongs to the optimiser is taken from the notes. Throws Error.
  void restore_optimiser(const nlohmann::json& notes);

  ~LiveLearner();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace brood
