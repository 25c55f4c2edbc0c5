// brood merge: several models become one.
#include "brood/model/merge.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <memory>
#include <string>
#include <vector>

#include "brood/cli/numbers.h"
#include "brood/cli/output.h"
#include "brood/cli/save_folder.h"
#include "brood/cli/verb.h"
#include "brood/model/directory.h"

namespace brood::cli {
namespace {

constexpr const char* kMergeExamples =
    "Examples:\n"
    "  brood merge french portuguese --save both              side by side: neurons of Dragon Hatchlings,\n"
    "                                                         experts of feeds \"switch\"\n"
    "  brood merge a b c --average --save mean                the mean of each number: any architecture\n"
    "  brood merge a b --average --weights 3 1 --save mean    a counts three times\n"
    "  brood train --model both --data all.txt --save both    a merged model learns on\n"
    "Side by side no neuron and no expert changes. Sizes add up; a byte still asks top_k of all experts.\n"
    "Models that grew from one beginning fit together; strangers do not. What the models remember of their\n"
    "streams is not merged: the new one begins without memory.\n";

struct MergeOptions {
  std::vector<std::string> models;
  std::vector<double> weights;
  std::string save;
  bool average = false, overwrite = false;
};

int merge(const MergeOptions& options, const Common& common) {
  check_save_folder(options.save, "", options.overwrite, "--model " + options.save);
  std::vector<LoadedModel> loaded;
  std::vector<const Model*> models;
  for (const std::string& name : options.models) {
    loaded.push_back(load_model(name, common.seed));
    models.push_back(loaded.back().model.get());
  }
  const auto model =
      merged(models, options.average ? Merging::kAverage : Merging::kSideBySide, options.weights);
  save_model(options.save, *model, nullptr, nullptr);
  say(fmt::format("{} models of {} parameters became one of {}; saved in {}", models.size(),
                  models[0]->parameter_count(), model->parameter_count(), options.save));
  if (common.json)
    write_json({{"models", models.size()},
                {"parameters", model->parameter_count()},
                {"state_bytes_per_stream", model->state_bytes_per_stream()},
                {"config", model->config()}});
  return 0;
}

}  // namespace

Action define_merge(CLI::App& app, const Common& common) {
  auto options = std::make_shared<MergeOptions>();
  app.footer(kMergeExamples);
  app.add_option("models", options->models, "two model folders or more")->required()->type_name("DIR...");
  add_save(app, options->save, "keep the new model in this folder")->required();
  app.add_flag("--average", options->average, "the mean of each number, nothing side by side");
  app.add_option("--weights", options->weights,
                 "how much each model counts in what is averaged (side by side: all but neurons or experts)")
      ->check(above_zero(1e9))
      ->type_name("X...");
  app.add_flag("--overwrite", options->overwrite, "replace the model that the folder holds");
  return [options, &common] { return merge(*options, common); };
}

}  // namespace brood::cli
