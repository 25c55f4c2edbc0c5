#include "brood/cli/live_options.h"

#include <CLI/CLI.hpp>
#include <algorithm>

#include "brood/cli/numbers.h"

namespace brood::cli {
namespace {

constexpr int64_t kMost = int64_t(1) << 30;  // steps; far above what memory allows

}  // namespace

void add_live_options(CLI::App& app, LiveSettings& settings) {
  const auto steps = [&app](const char* name, int64_t& value, int64_t least, const char* purpose) {
    app.add_option(name, value, purpose)
        ->capture_default_str()
        ->check(whole(least, kMost))
        ->type_name("N")
        ->group("Learning");
  };
  steps("--chunk", settings.chunk, 1, "bytes between updates, which a gradient reaches back");
  steps("--warmup", settings.warmup, 0, "updates until the full learning rate");
  steps("--rehearsals", settings.rehearsals, 0, "windows of the past in each rehearsal; 0: none");
  steps("--rehearsal-window", settings.rehearsal_window, 1, "bytes of such a window");
  steps("--rehearse-every", settings.rehearse_every, 1, "chunks between rehearsals");
  app.add_flag("--rtrl", settings.rtrl,
               "real-time recurrent learning: decays and step sizes of mamba and s4d learn from all of the "
               "past, not "
               "from a chunk of it (docs/rtrl.md)")
      ->group("Learning");
  steps("--rehearsal-memory", settings.rehearsal_memory, 2, "last bytes that windows are drawn from");
  steps("--distant-memory", settings.distant_memory, 0,
        "bytes of a sample of all before those: half of the windows of a long stream; 0: none");
  app.add_option("--fresh-share", settings.fresh_share,
                 "of the windows at least, from what came since the stream became another one")
      ->capture_default_str()
      ->check(real(0, 1))
      ->type_name("SHARE")
      ->group("Learning");
  app.add_flag("!--fixed-weights", settings.learning,
               "the network learns nothing: only its state moves, and what --memory holds")
      ->group("Learning");
  app.add_option("--learning-rate", settings.optimiser.learning_rate, "step size of AdamW after the warm-up")
      ->capture_default_str()
      ->check(real(0, 10))
      ->type_name("X")
      ->group("Learning");
  app.add_option("--rate-decay", settings.decay_updates,
                 "updates after which the rate has begun to fall as 1/sqrt; 0: constant")
      ->capture_default_str()
      ->check(real(0, 1e12))
      ->type_name("N")
      ->group("Learning");
  app.add_option("--rate-floor", settings.floor,
                 "the rate falls to this share of --learning-rate, no further")
      ->capture_default_str()
      ->check(real(0, 1))
      ->type_name("SHARE")
      ->group("Learning");
  app.add_option("--weight-decay", settings.optimiser.weight_decay, "weight decay of AdamW")
      ->capture_default_str()
      ->check(real(0, 10))
      ->type_name("X")
      ->group("Learning");
}

LiveSettings fitted(LiveSettings settings, const Model& model) {
  const int64_t most = model.config().value("window", kMost);
  for (int64_t* steps : {&settings.chunk, &settings.rehearsal_window}) {
    *steps = std::min(*steps, most);
  }
  return settings;
}

}  // namespace brood::cli
