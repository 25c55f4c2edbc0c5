// How fast a model runs, and how near to what the machine allows.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "brood/learn/live.h"
#include "brood/model/cost.h"
#include "brood/model/model.h"

namespace brood {

struct SpeedSettings {
  enum class What { kDecode, kPrefill, kTrain, kLive } what = What::kDecode;
  int64_t depth = 0;  // steps that the stream has seen before the clock starts
  Precision precision = Precision::kF32;
  int64_t batch = 8;    // train: streams; the others measure one stream
  int64_t context = 0;  // steps of a prefill or training chunk; 0: 512 to prefill, 128 to train
  int repeats = 9;
  double repeat_seconds = 0.2;  // at least; a step that takes longer is measured alone
  LiveSettings live;
  std::function<bool()> stop;  // asked between repeats
};

struct Speed {
  double tokens_per_second = 0;  // the median of the repeats
  double mad = 0, least = 0, most = 0;
  double bytes_per_token = 0, flops_per_token = 0;
  double limit = 0;  // measured here and now: bytes/s for decode and live, FLOP/s for prefill and train
  bool limited_by_memory = false;
  double limit_share = 0;
  Awake awake;
};

// A copy of a model of rectified neurons of which about `share` are awake, by its threshold; share 0
// leaves the threshold as it is. dense: every neuron is computed, asleep or not. Throws Error for other
// architectures.
std::unique_ptr<Model> with_activity(Model& model, double share, bool dense);

double median(std::vector<double> x);  // 0 of none

// The same model with windows of attention of `whole` steps or more widened to `window`, where they are
// shorter: such a one stands for the whole past. Other models, and shorter windows, are taken as they are.
std::unique_ptr<Model> with_wide_windows(std::unique_ptr<Model> model, int64_t whole, int64_t window);

// Measures on random bytes. The model's weights change when it trains. Throws Error.
Speed measure_speed(Model& model, const SpeedSettings& settings);

}  // namespace brood
