// A complete program: a model that learns standard input, byte by byte, and shows what it has learnt.
//
//   ./learn_stdin < book.txt
//
// Nothing is trained beforehand. Each byte is first predicted, then scored, then learnt from, so the bits per
// byte printed are those of a compressor that has to build its model on the way. At the end the model writes
// some bytes by itself.
#include <cstdint>
#include <cstdio>
#include <exception>
#include <numbers>
#include <span>
#include <string>
#include <vector>

#include "brood/learn/live.h"
#include "brood/model/model.h"
#include "brood/model/sampling.h"
#include "brood/senses/bytes.h"

namespace {

constexpr int kSampleBytes = 200;

// A model is its configuration: an architecture's name and its shapes. Keys left out have defaults.
const nlohmann::json kConfig = {{"architecture", "mamba"}, {"d_model", 64}, {"n_layer", 2}};

double bits_per_byte(double nats, int64_t bytes) {
  return bytes == 0 ? 0 : nats / double(bytes) / std::numbers::ln2;
}

// Reads the stream to its end and returns its last token. The learner takes any number of tokens at a time
// and learns from whole chunks.
int32_t learn(brood::ByteStream& stream, brood::LiveLearner& learner) {
  std::vector<uint8_t> bytes(4096);
  std::vector<int32_t> tokens;
  int64_t shown = 0;
  double shown_nats = 0;
  while (const int64_t n = stream.read(bytes)) {
    tokens.assign(bytes.begin(), bytes.begin() + n);
    learner.observe(tokens);
    if (learner.scored() - shown >= 16384) {
      const int64_t fresh = learner.scored() - shown;
      std::printf("%9lld bytes   %.3f bits per byte   (the last %lld: %.3f)\n",
                  static_cast<long long>(learner.scored()), bits_per_byte(learner.nats(), learner.scored()),
                  static_cast<long long>(fresh), bits_per_byte(learner.nats() - shown_nats, fresh));
      shown = learner.scored();
      shown_nats = learner.nats();
    }
  }
  learner.flush();  // the last chunk may be a short one
  return tokens.empty() ? '\n' : tokens.back();
}

// Lets the model go on from where the stream ended, with its last token. The state holds everything that it
// remembers of the stream.
std::string write(brood::Model& model, brood::State& state, int32_t token, brood::Random& random) {
  const brood::Sampling sampling{.temperature = 0.7f, .top_k = 0, .top_p = 0.95f};
  std::string text;
  brood::Tape tape;
  for (int i = 0; i < kSampleBytes; ++i) {
    tape.start(/*recording=*/false);  // nothing to learn from one's own words
    const brood::Var logits = model.forward(tape, state, std::span(&token, 1), /*B=*/1, /*T=*/1);
    token = brood::sample(std::span(logits.value(), size_t(logits.cols())), sampling, random);
    text.push_back(static_cast<char>(token));
  }
  return text;
}

int run() {
  const uint64_t seed = 1;
  brood::Model model(kConfig, seed);
  brood::State state = model.make_state(/*streams=*/1);  // zero: the beginning of a stream

  brood::LiveSettings settings;
  settings.chunk = 16;  // an update every 16 bytes
  settings.optimiser.learning_rate = 3e-3;
  settings.seed = seed;
  brood::LiveLearner learner(model, state, settings);

  std::printf("a Mamba of %lld parameters reads standard input\n",
              static_cast<long long>(model.parameter_count()));
  brood::ByteStream stream = brood::ByteStream::open("-");
  const int32_t last = learn(stream, learner);
  std::printf("%lld bytes, %.3f bits per byte\n", static_cast<long long>(learner.scored()),
              bits_per_byte(learner.nats(), learner.scored()));

  brood::Random random(seed);
  const std::string text = write(model, state, last, random);
  std::printf("--- and this is how it goes on:\n");
  std::fwrite(text.data(), 1, text.size(), stdout);
  std::printf("\n");
  return 0;
}

}  // namespace

int main() {
  try {
    return run();
  } catch (const std::exception& error) {  // brood::Error: one sentence that says what to mend
    std::fprintf(stderr, "learn_stdin: %s\n", error.what());
    return 2;
  }
}
