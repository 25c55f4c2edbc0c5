// Dragon Hatchling's gradients: against central differences of its recurrence, and of lists against dense products.
#include "tests/blocks/bdh_models.h"

namespace brood {
namespace {

using namespace bdh_models;

// Small enough for central differences: what the equations say, joined neurons, and no gradient through time.
std::vector<Config> trained_configs() {
  std::vector<Config> all;
  for (const Variant& v : {kVariants[0], kVariants[2], kVariants[3], Variant{3, 2, 136, 2, 0.9, 0.2}}) {
    for (const char* sparse : {"always", "never", "auto"}) {
      for (bool detach : {false, true}) {
        all.push_back(config_of(v, sparse));
        all.back().joins = std::string(sparse) == "auto";
        // Larger sums: what LN leaves of three numbers of them has lost too many digits in f32.
        if (all.back().joins) all.back().D += 3;
        all.back().detach = detach;
      }
    }
  }
  return all;
}

// Gradients of every parameter, from a zero state and from one carried over (a constant), against central
// differences of the reference, in which a past without gradient stays as it was when weights move.
TEST(Bdh, GradientsAgainstFiniteDifferences) {
  for (const Config& c : trained_configs()) {
    for (int64_t before : {0, 4}) {
      for (int64_t T : {1, 3, 6}) {
        SCOPED_TRACE(fmt::format("{} before {} T {}", c.json().dump(), before, T));
        Model model(c.json(), 1);
        scale_up(model, 0.4f);
        reference::Bdh slow = reference_of(model, c);
        const auto past = random_tokens(before, c.vocab, 20), tokens = random_tokens(T, c.vocab, 21),
                   targets = random_tokens(T, c.vocab, 22);
        State state = model.make_state(1);
        if (before) run(model, state, past, {before});
        Tape tape;
        tape.start(true);
        const Var loss = cross_entropy(tape, model.forward(tape, state, tokens, 1, T), targets);
        tape.backward(loss);

        auto from = slow.start();
        slow.logits(from, past);
        reference::Bdh::Writes writes;
        if (c.detach) {
          slow.writes = &writes;
          slow.loss(from, tokens, targets);
          writes.replayed = true;
        }
        const auto loss_now = [&] {
          writes.next = 0;
          return slow.loss(from, tokens, targets);
        };
        const std::pair<const char*, std::vector<double>*> pairs[] = {{"embed.weight", &slow.embed},
                                                                      {"encoder", &slow.encoder},
                                                                      {"encoder_v", &slow.encoder_v},
                                                                      {"decoder", &slow.decoder},
                                                                      {"lm_head", &slow.head}};
        for (const auto& [name, values] : pairs) {
          SCOPED_TRACE(name);
          const Parameter& p = *model.parameters().find(name);
          std::vector<double> expected, got;
          const size_t stride = 1 + values->size() / 60;
          for (size_t i = 0; i < values->size(); i += stride) {
            constexpr double kStep = 1e-6;
            double& w = (*values)[i];
            const double kept = w;
            w = kept + kStep;
            const double above = loss_now();
            w = kept - kStep;
            const double below = loss_now();
            w = kept;
            expected.push_back((above - below) / (2 * kStep));
            got.push_back(p.gradient_open ? double(p.gradient.f32()[i]) : 0.0);
          }
          expect_close(got, expected, 2e-5);
        }
      }
    }
  }
}

TEST(Bdh, ListsAndDenseTrainAlike) {
  for (double dropout : {0.0, 0.3}) {
    std::vector<std::vector<float>> gradients[2];
    for (int lists = 0; lists < 2; ++lists) {
      const Config c{.vocab = 256,
                     .D = 64,
                     .heads = 4,
                     .neurons = 1024,
                     .layers = 2,
                     .threshold = 0.15,
                     .dropout = dropout,
                     .sparse = lists ? "always" : "never"};
      Model model(c.json(), 1);
      State state = model.make_state(2);
      const auto tokens = random_tokens(2 * 48, 256, 1), targets = random_tokens(2 * 48, 256, 2);
      Tape tape;
      tape.start(true);
      const Var logits =
          model.forward(tape, state, tokens, 2, 48, {.training = true, .keep_state = false, .seed = 7});
      tape.backward(cross_entropy(tape, logits, targets));
      for (const Parameter& p : model.parameters().all())
        gradients[lists].emplace_back(p.gradient.f32(), p.gradient.f32() + p.size());
    }
    for (size_t i = 0; i < gradients[0].size(); ++i) expect_close(gradients[1][i], gradients[0][i], 2e-5);
  }
}

}  // namespace
}  // namespace brood
