// brood speed: tokens per second, beside what this machine allows.
#include "brood/learn/speed.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <map>
#include <memory>
#include <string>

#include "brood/base/threads.h"
#include "brood/cli/interrupt.h"
#include "brood/cli/live_options.h"
#include "brood/cli/numbers.h"
#include "brood/cli/output.h"
#include "brood/cli/verb.h"
#include "brood/model/directory.h"

namespace brood::cli {
namespace {

using What = SpeedSettings::What;

constexpr const char* kSpeedExamples =
    "Examples:\n"
    "  brood speed --model mamba-130m --precision bf16                    decoding, beside memory bandwidth\n"
    "  brood speed --model mamba-130m --what prefill --threads 1          reading 512 bytes, beside FLOP/s\n"
    "  brood speed --model bdh-25m --activity 0.05                        decoding with 5 % of neurons "
    "awake\n"
    "  brood speed --model bdh-25m --activity 0.05 --dense                the same numbers, every neuron "
    "computed\n"
    "  brood speed --model bdh-25m --depth 100000                         after 100,000 bytes of context\n"
    "  brood speed --model mamba-s --what live --json                     learning live\n"
    "The median of several repeats counts; MAD, least and most are shown beside it.\n";

const std::map<std::string, What> kWhats{
    {"decode", What::kDecode}, {"prefill", What::kPrefill}, {"train", What::kTrain}, {"live", What::kLive}};
const std::map<std::string, Precision> kPrecisions{{"f32", Precision::kF32}, {"bf16", Precision::kBf16}};

struct SpeedOptions {
  std::string model, what = "decode", precision = "f32";
  double activity = 0;
  bool dense = false;
  SpeedSettings settings;
};

int speed(const SpeedOptions& options, const Common& common) {
  LoadedModel loaded = load_model(options.model, common.seed);
  if (options.activity > 0 || options.dense) {
    loaded.model = with_activity(*loaded.model, options.activity, options.dense);
  }
  Model& model = *loaded.model;
  say(fmt::format("{}, {} in {} on {} threads ...", options.model, options.what, options.precision,
                  ThreadPool::instance().size()));
  SpeedSettings settings = options.settings;
  settings.live = fitted(settings.live, model);
  const Speed s = measure_speed(model, settings);
  say(fmt::format(
      "{:.4g} tokens/s (MAD {:.2g}, {:.4g} to {:.4g}); {:.4g} MB and {:.4g} MFLOP per token: {:.1f} % of "
      "{:.4g} {}",
      s.tokens_per_second, s.mad, s.least, s.most, s.bytes_per_token / 1e6, s.flops_per_token / 1e6,
      100 * s.limit_share, s.limit / 1e9, s.limited_by_memory ? "GB/s" : "GFLOP/s"));
  if (common.json) {
    write_json({{"model", options.model},
                {"what", options.what},
                {"precision", options.precision},
                {"dense", options.dense},
                {"depth", options.settings.depth},
                {"threads", ThreadPool::instance().size()},
                {"tokens_per_second", rounded(s.tokens_per_second)},
                {"tokens_per_second_mad", rounded(s.mad)},
                {"tokens_per_second_min", rounded(s.least)},
                {"tokens_per_second_max", rounded(s.most)},
                {"bytes_per_token", rounded(s.bytes_per_token)},
                {"flops_per_token", rounded(s.flops_per_token)},
                {"limit", rounded(s.limit)},
                {"limit_kind", s.limited_by_memory ? "bytes_per_second" : "flops"},
                {"limit_share", rounded(s.limit_share)},
                {"active_fraction", rounded(s.awake.active)},
                {"gated_fraction", rounded(s.awake.gated)},
                {"peak_memory_bytes", peak_memory_bytes()}});
  }
  return interrupted() ? interrupted_exit_code() : 0;
}

}  // namespace

Action define_speed(CLI::App& app, const Common& common) {
  auto options = std::make_shared<SpeedOptions>();
  SpeedSettings& settings = options->settings;
  app.footer(kSpeedExamples);
  app.add_option("--model", options->model, "a preset, a JSON config, or a model folder")
      ->required()
      ->type_name("PRESET|CONFIG|DIR");
  app.add_option("--what", options->what, "decode, prefill, train or live")
      ->capture_default_str()
      ->check(CLI::IsMember(kWhats))
      ->type_name("WHAT");
  app.add_option("--depth", settings.depth, "bytes that the model has read before the clock starts")
      ->capture_default_str()
      ->check(whole(0, kAnyCount))
      ->type_name("N");
  app.add_option("--precision", options->precision, "of the products")
      ->capture_default_str()
      ->check(CLI::IsMember(kPrecisions))
      ->type_name("PRECISION");
  app.add_option("--activity", options->activity, "share of bdh's neurons to be awake, by their threshold")
      ->check(real(0, 0.5))
      ->type_name("SHARE");
  app.add_flag("--dense", options->dense, "compute every neuron of bdh, asleep or not");
  app.add_option("--batch", settings.batch, "streams side by side, to train")
      ->capture_default_str()
      ->check(whole(1, 65536))
      ->type_name("B");
  app.add_option("--context", settings.context, "bytes of a chunk; default 512 to prefill, 128 to train")
      ->check(whole(1, 1 << 24))
      ->type_name("T");
  app.add_option("--repeats", settings.repeats, "measurements of which the median is taken")
      ->capture_default_str()
      ->check(whole(1, 1000))
      ->type_name("N");
  add_live_options(app, settings.live);
  return [options, &common] {
    options->settings.what = kWhats.at(options->what);
    options->settings.precision = kPrecisions.at(options->precision);
    options->settings.live.seed = common.seed;
    options->settings.stop = interrupted;
    return speed(*options, common);
  };
}

}  // namespace brood::cli
