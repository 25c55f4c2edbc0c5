#include "brood/learn/evaluate.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "brood/model/safetensors.h"
#include "tests/fixture/messages.h"
#include "tests/fixture/scratch_directory.h"
#include "tests/fixture/tiny_models.h"

namespace brood {
namespace {

class Logits : public ::testing::Test {
 protected:
  Logits() : model(tiny_config("mamba"), 3) {
    for (size_t i = 0; i < 61; ++i) bytes.push_back(uint8_t(i * i * 37));
  }
  Score write(int64_t chunk, const std::string& name) {
    State state = model.make_state(1);
    return write_logits(model, state, bytes, chunk, scratch_ / name);
  }
  std::vector<float> read(const std::string& name) {
    const SafetensorsFile file = SafetensorsFile::open(scratch_ / name);
    EXPECT_EQ(file.tensors().size(), 1u);
    EXPECT_EQ(file.find("logits")->shape,
              (std::vector<int64_t>{int64_t(bytes.size()), model.frame().vocab_size}));
    std::vector<float> logits(bytes.size() * size_t(model.frame().vocab_size));
    file.read_f32("logits", logits);
    return logits;
  }

  ScratchDirectory scratch_;
  Model model;
  std::vector<uint8_t> bytes;
};

TEST_F(Logits, AreThoseOfOneChunkHoweverTheTextIsCut) {
  write(7, "pieces");
  State state = model.make_state(1);
  Tape tape;
  tape.start(false);
  const std::vector<int32_t> tokens(bytes.begin(), bytes.end());
  const Var whole = model.forward(tape, state, tokens, 1, int64_t(tokens.size()));
  const std::vector<float> pieces = read("pieces");
  for (size_t i = 0; i < pieces.size(); ++i) ASSERT_NEAR(pieces[i], whole.value()[i], 1e-5) << i;
}

TEST_F(Logits, CostWhatTheStreamCosts) {
  const Score score = write(16, "f");
  State state = model.make_state(1);
  const Score stream = score_stream(model, state, bytes, 16);
  EXPECT_EQ(score.scored, stream.scored);
  EXPECT_NEAR(score.nats, stream.nats, 1e-4 * stream.nats);
  bytes.clear();
  EXPECT_EQ(write(16, "empty").scored, 0);
  EXPECT_TRUE(read("empty").empty());
}

TEST_F(Logits, AreThereWholeOrNotAtAll) {
  State state = model.make_state(1);
  int chunks = 0;
  write_logits(model, state, bytes, 7, scratch_ / "stopped", [&] { return ++chunks == 3; });
  EXPECT_TRUE(std::filesystem::is_empty(scratch_ / ""));
  const std::string absent = scratch_ / "no/such/folder";
  expect_contains(message_of([&] { write(7, "no/such/folder"); }), absent);
  write(7, "file");
  expect_contains(message_of([&] { write(7, "file/in"); }),
                  "file/in");  // where nothing can be removed either
}

}  // namespace
}  // namespace brood
