// Real-time recurrent learning: gradients of short chunks that reach over the whole stream.
#include <algorithm>
#include <cmath>
#include <map>
#include <string>

#include "brood/learn/live.h"
#include "brood/model/directory.h"
#include "tests/fixture/messages.h"
#include "tests/fixture/scratch_directory.h"
#include "tests/kernels/compare.h"
#include "tests/model/architectures.h"

namespace brood {
namespace {

using testing::random_tokens;
using testing::TinyModel;

// One layer of each recurrence that has traces, and the parameters that they are of.
struct Traced {
  TinyModel model;
  std::vector<std::string> parameters;
};
const Traced kTraced[] = {
    {{"s4d", R"({"architecture":"s4d","vocab_size":17,"d_model":12,"n_layer":1,"d_state":6})"},
     {"kernel.log_dt", "kernel.log_A_real", "kernel.A_imag"}},
    {{"s4d_legs",
      R"({"architecture":"s4d","vocab_size":17,"d_model":12,"n_layer":1,"d_state":8,"init":"legs","discretisation":"bilinear"})"},
     {"kernel.log_dt", "kernel.log_A_real", "kernel.A_imag"}},
    {{"mamba",
      R"({"architecture":"mamba","vocab_size":17,"d_model":12,"n_layer":1,"d_state":5,"dt_rank":3})"},
     {"A_log", "dt_proj.bias", "dt_proj.weight"}},
    {{"mamba_wide",
      R"({"architecture":"mamba","vocab_size":17,"d_model":20,"n_layer":1,"d_state":3,"dt_rank":17})"},
     {"A_log", "dt_proj.bias"}},
};

class Rtrl : public ::testing::TestWithParam<Traced> {
 protected:
  Rtrl() : model_(nlohmann::json::parse(GetParam().model.json), 3) { testing::enlarge(model_); }

  using Gradients = std::map<std::string, std::vector<double>>;
  // Of the mean loss of some streams, read chunk by chunk; the weights are held.
  Gradients gradients(int64_t steps, int64_t chunk, bool traces) {
    constexpr int64_t kStreams = 2;
    State state = model_.make_state(kStreams, traces);
    const auto tokens = random_tokens(kStreams * steps, 17, 21),
               targets = random_tokens(kStreams * steps, 17, 22);
    Gradients sum;
    Tape tape;
    for (int64_t begin = 0; begin < steps; begin += chunk) {
      const int64_t count = std::min(chunk, steps - begin);
      std::vector<int32_t> in, out;
      for (int64_t b = 0; b < kStreams; ++b) {
        in.insert(in.end(), tokens.begin() + b * steps + begin, tokens.begin() + b * steps + begin + count);
        out.insert(out.end(), targets.begin() + b * steps + begin,
                   targets.begin() + b * steps + begin + count);
      }
      tape.start(true);
      tape.backward(cross_entropy(tape, model_.forward(tape, state, in, kStreams, count), out),
                    1 / float(steps));
      for (Parameter& p : model_.parameters().all()) {
        auto& total = sum.try_emplace(p.name, size_t(p.size()), 0.0).first->second;
        for (int64_t i = 0; p.gradient_open && i < p.size(); ++i)
          total[size_t(i)] += double(p.gradient.f32()[i]);
        p.gradient_open = false;
      }
    }
    return sum;
  }

  Model model_;
};

// |a − b|/|b| over all numbers of the parameter that has this in its name.
double off(const std::map<std::string, std::vector<double>>& a,
           const std::map<std::string, std::vector<double>>& b, const std::string& part) {
  double difference = 0, size = 0;
  for (const auto& [name, truth] : b) {
    if (name.find(part) == std::string::npos) continue;
    for (size_t i = 0; i < truth.size(); ++i) {
      difference += std::pow(a.at(name)[i] - truth[i], 2);
      size += truth[i] * truth[i];
    }
  }
  EXPECT_GT(size, 0) << part;
  return std::sqrt(difference / size);
}

TEST_P(Rtrl, ChunksAddUpToTheGradientOfTheWholeStream) {
  constexpr int64_t kSteps = 600;
  const auto whole = gradients(kSteps, kSteps, false);
  for (const int64_t chunk : {1, 7, 32}) {
    const auto traced = gradients(kSteps, chunk, true), truncated = gradients(kSteps, chunk, false);
    for (const std::string& part : GetParam().parameters) {
      EXPECT_LT(off(traced, whole, part), 1e-5) << part << " in chunks of " << chunk;
      EXPECT_GT(off(truncated, whole, part), 1e-3)
          << part << " in chunks of " << chunk << " must be truncated";
    }
  }
}

// A pass that records nothing moves the traces on, too.
TEST_P(Rtrl, TracesAreStateLikeAnyOther) {
  const auto tokens = random_tokens(50, 17, 5);
  const auto read = [&](State& state, size_t from, size_t count, bool recording) {
    Tape tape;
    tape.start(recording);
    model_.forward(tape, state, std::span(tokens).subspan(from, count), 1, int64_t(count));
    tape.finish();
  };
  State whole = model_.make_state(1, true);
  read(whole, 0, 50, false);
  State state = model_.make_state(1, true);
  read(state, 0, 20, true);
  State forked = state.fork(0);
  EXPECT_TRUE(forked.traces);
  read(forked, 20, 30, false);
  State used = model_.make_state(1, true);  // by another stream before
  read(used, 7, 30, true);
  used.reset();
  read(used, 0, 50, true);
  for (size_t i = 0; i < whole.tensors.size(); ++i)
    for (const State* other : {&forked, &used})
      for (int64_t k = 0; k < whole.tensors[i].value.size(); ++k)
        ASSERT_NEAR(whole.tensors[i].value.f32()[k], other->tensors[i].value.f32()[k],
                    1e-4 * (1 + std::abs(whole.tensors[i].value.f32()[k])))
            << whole.tensors[i].name;
}

LiveSettings settings_with(bool rtrl) {
  LiveSettings settings{.chunk = 4, .warmup = 10, .rehearsals = 2, .rehearsal_window = 20};
  settings.rtrl = rtrl;
  return settings;
}

std::vector<float> everything(const Model& model, const State& state) {
  std::vector<float> all;
  for (const Parameter& p : model.parameters().all())
    for (const Tensor* t : {&p.value, &p.moment1, &p.moment2})
      all.insert(all.end(), t->f32(), t->f32() + t->size());
  for (const StateTensor& t : state.tensors)
    all.insert(all.end(), t.value.f32(), t.value.f32() + t.value.size());
  return all;
}

TEST_P(Rtrl, LiveGoesOnFromACopyToTheBit) {
  const auto tokens = random_tokens(600, 17, 4);
  std::vector<float> results[2];
  for (const bool copied : {false, true}) {
    Model model(model_.config(), 1);
    State state = model.make_state(1);
    LiveLearner learner(model, state, settings_with(true));
    EXPECT_TRUE(state.traces);
    learner.observe(std::span(tokens).first(301));
    if (copied) {
      LiveCopy copy;
      ASSERT_TRUE(learner.copy_to(copy));
      learner.observe(std::span(tokens).subspan(7, 90));
      learner.go_back(copy);
    }
    learner.observe(std::span(tokens).subspan(301));
    learner.flush();
    results[copied] = everything(model, state);
  }
  EXPECT_EQ(results[0], results[1]);
}

TEST_P(Rtrl, LearnsSomethingElseThanTruncationWouldAndThreadsDoNotMatter) {
  const auto tokens = random_tokens(300, 17, 6);
  const auto learnt = [&](bool rtrl) {
    Model model(model_.config(), 1);
    State state = model.make_state(1);
    LiveLearner learner(model, state, settings_with(rtrl));
    learner.observe(tokens);
    model.set_traces(state, false);
    return everything(model, state);
  };
  expect_same_for_threads([&] { return learnt(true); });
  EXPECT_NE(learnt(true), learnt(false));
}

TEST_P(Rtrl, TracesComeAndGo) {
  State state = model_.make_state(1);
  const LiveLearner with(model_, state, settings_with(true));
  EXPECT_TRUE(state.traces);
  EXPECT_EQ(state.bytes(), model_.state_bytes_per_stream(true));
  EXPECT_GT(state.bytes(), model_.state_bytes_per_stream());
  const LiveLearner without(model_, state, settings_with(false));
  EXPECT_FALSE(state.traces);
  EXPECT_EQ(state.bytes(), model_.state_bytes_per_stream());
}

TEST_P(Rtrl, AFolderKeepsTraces) {
  ScratchDirectory scratch;
  State state = model_.make_state(1);
  LiveLearner learner(model_, state, settings_with(true));
  const auto tokens = random_tokens(200, 17, 7);
  learner.observe(tokens);
  const Progress progress{learner.updates(), {}};
  save_model(scratch / "m", model_, &state, &progress);
  LoadedModel loaded = load_model(scratch / "m");
  ASSERT_TRUE(loaded.state && loaded.state->traces);
  EXPECT_EQ(everything(*loaded.model, *loaded.state), everything(model_, state));

  LiveLearner second(*loaded.model, *loaded.state, settings_with(true));
  second.restore(learner.notes());
  second.remember(std::span(tokens).last(size_t(second.to_remember())));
  for (LiveLearner* each : {&learner, &second}) each->observe(random_tokens(100, 17, 8));
  EXPECT_EQ(everything(*loaded.model, *loaded.state), everything(model_, state));
}

INSTANTIATE_TEST_SUITE_P(Tiny, Rtrl, ::testing::ValuesIn(kTraced),
                         [](const auto& info) { return info.param.model.name; });

TEST(RtrlOf, IsRefusedWhereNothingHasTraces) {
  Model model(nlohmann::json::parse(
      R"({"architecture":"transformer","vocab_size":17,"d_model":16,"n_layer":1,"n_head":2,"window":8})"));
  State state = model.make_state(1);
  expect_contains(message_of([&] { LiveLearner(model, state, settings_with(true)); }), "--rtrl");
}

}  // namespace
}  // namespace brood
