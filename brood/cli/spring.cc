#include "brood/cli/spring.h"

#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cmath>
#include <memory>

#include "brood/base/progress.h"
#include "brood/cli/interrupt.h"
#include "brood/cli/numbers.h"
#include "brood/cli/output.h"
#include "brood/learn/spring.h"

namespace brood::cli {
namespace {

constexpr const char* kAbout =
    "A mass on a damped spring, m y'' + c y' + k y = u, is pushed at random and watched with some noise. "
    "From\n"
    "force and place alone one complex mode (S4D's, Gu et al. 2022, arXiv 2206.11893) learns to swing as "
    "the\n"
    "spring does; its eigenvalue and its gain then say what m, c and k are.\n";

struct SpringOptions {
  Spring spring;
  SpringExperiment experiment;
  SpringLearning learning;
};

double error_of(double found, double right) { return std::abs(found / right - 1); }

int run(const SpringOptions& options, const Common& common) {
  SpringExperiment experiment = options.experiment;
  experiment.seed = common.seed;
  const SpringRecordings recordings = record_spring(options.spring, experiment);
  ProgressLine line(STDERR_FILENO);
  SpringLearning learning = options.learning;
  learning.stop = interrupted;
  learning.stepped = [&](int64_t step, double error) {
    if (line.due())
      line.show(
          fmt::format("step {} of {}: {:.3g} of the variance unexplained", step, learning.steps, error));
  };
  const IdentifiedSpring found = identify_spring(recordings, learning);
  line.finish();
  if (!found.found) return interrupted_exit_code();

  const Spring &right = options.spring, &mine = found.spring;
  const double errors[] = {error_of(mine.mass, right.mass), error_of(mine.damping, right.damping),
                           error_of(mine.stiffness, right.stiffness)};
  say(
      fmt::format("mass {:.4g} (is {:.4g}, {:.2f} % off), damping {:.4g} (is {:.4g}, {:.2f} % off), "
                  "stiffness {:.4g} (is {:.4g}, {:.2f} % off)",
                  mine.mass, right.mass, 100 * errors[0], mine.damping, right.damping, 100 * errors[1],
                  mine.stiffness, right.stiffness, 100 * errors[2]));
  if (common.json) {
    write_json({{"task", "spring"},
                {"mass", rounded(mine.mass)},
                {"damping", rounded(mine.damping)},
                {"stiffness", rounded(mine.stiffness)},
                {"mass_error", rounded(errors[0])},
                {"damping_error", rounded(errors[1])},
                {"stiffness_error", rounded(errors[2])},
                {"unexplained", rounded(found.unexplained)},
                {"steps", found.steps}});
  }
  return interrupted() ? interrupted_exit_code() : 0;
}

}  // namespace

Action define_spring(CLI::App& app, const Common& common) {
  auto options = std::make_shared<SpringOptions>();
  app.footer(kAbout);
  const auto number = [&app](const char* name, double& value, const char* purpose) {
    app.add_option(name, value, purpose)->capture_default_str()->check(real(0, 1e12))->type_name("X");
  };
  number("--mass", options->spring.mass, "m, in kg");
  number("--damping", options->spring.damping, "c, in kg/s");
  number("--stiffness", options->spring.stiffness, "k, in N/m");
  number("--dt", options->experiment.dt, "seconds between samples");
  number("--noise", options->experiment.noise, "noise of the place, as a share of its root mean square");
  app.add_option("--recordings", options->experiment.recordings, "recordings, each from rest")
      ->capture_default_str()
      ->check(whole(1, 4096))
      ->type_name("N");
  app.add_option("--samples", options->experiment.samples, "samples of a recording")
      ->capture_default_str()
      ->check(whole(2, 1 << 20))
      ->type_name("N");
  app.add_option("--steps", options->learning.steps, "updates to make")
      ->capture_default_str()
      ->check(whole(1, 1 << 24))
      ->type_name("N");
  number("--learning-rate", options->learning.learning_rate, "peak step size of AdamW");
  return [options, &common] { return run(*options, common); };
}

}  // namespace brood::cli
