// A network that learns the bytes of a stream while something else needs its opinion of each next one before
// it is known: a LiveLearner that also steps ahead.
//
// The opinion comes from single steps of the state; after each chunk the weights change and the state is that
// of the chunk which taught them. So whoever sees the same bytes has the same opinions to the bit.
#pragma once

#include <span>

#include "brood/learn/byte_opinion.h"
#include "brood/learn/live.h"

namespace brood {

class ByteNetwork : public ByteOpinion {
 public:
  // The model's vocabulary has room for bytes. Begins a stream of its own, with a state of zeros.
  ByteNetwork(Model& model, const LiveSettings& settings);

  std::span<const float> next() const override { return probabilities_; }
  void see(uint8_t byte) override;
  const LiveLearner& learner() const { return learner_; }
  // Goes on with another stream after LiveLearner::notes(). Throws Error.
  void restore_optimiser(const nlohmann::json& notes) { learner_.restore_optimiser(notes); }

 private:
  Model& model_;
  State learnt_, ahead_;
  LiveLearner learner_;
  Tape tape_;
  std::vector<float> probabilities_;
};

}  // namespace brood
