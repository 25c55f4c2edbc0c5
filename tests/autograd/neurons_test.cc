#include "brood/autograd/neurons.h"

#include <gtest/gtest.h>

#include <vector>

#include "tests/fixture/messages.h"

namespace brood {
namespace {

// The places in lists are 32 bits wide.
TEST(Neurons, AChunkWithMoreThanListsCanCountIsRefused) {
  constexpr int64_t kNeurons = 1 << 20, kRows = 1 << 12;
  ParameterStore store;
  Parameter& encoder = store.add("encoder", {kNeurons, 1});
  NeuronSpace space(1, std::span(&kNeurons, 1), 1);
  std::vector<float> numbers(size_t(kRows), 1.0f);
  Tape tape;
  tape.start(false);
  const Var x = tape.leaf(numbers.data(), kRows, 1);
  expect_contains(message_of([&] { awaken(tape, space, x, encoder, 0, Sparsity::kAlways); }),
                  "4096 steps of 1048576 neurons");
}

}  // namespace
}  // namespace brood
