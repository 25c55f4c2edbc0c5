#include "brood/learn/byte_network.h"

#include <algorithm>
#include <cmath>

#include "brood/base/float_mode.h"

namespace brood {

namespace {

constexpr size_t kBytes = 256;

}  // namespace

ByteNetwork::ByteNetwork(Model& model, const LiveSettings& settings)
    : model_(model),
      learnt_(model.make_state(1)),
      ahead_(model.make_state(1, settings.rtrl)),
      learner_(model, learnt_, settings),
      probabilities_(kBytes, 1.0f / kBytes) {
  BROOD_ASSERT(model.frame().vocab_size >= int64_t(kBytes));
}

void ByteNetwork::see(uint8_t byte) {
  const FlushDenormals no_denormals;
  const int32_t token = byte;
  const int64_t updates = learner_.updates();
  learner_.observe({&token, 1});
  // The chunk ended with the byte before: the state and the weights are those that it left.
  if (learner_.updates() != updates) ahead_.copy_from(learnt_);
  tape_.start(false, Precision::kF32);
  const Var logits = model_.forward(tape_, ahead_, {&token, 1}, 1, 1);
  const float* x = logits.value();
  const float most = *std::max_element(x, x + kBytes);
  float sum = 0;
  for (size_t i = 0; i < kBytes; ++i) sum += probabilities_[i] = std::exp(x[i] - most);
  for (float& p : probabilities_) p /= sum;
}

}  // namespace brood
