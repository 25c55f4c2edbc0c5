// The first half of compare_one (comparison.h): a model is trained, and what that tells is written down.
#pragma once

#include <memory>
#include <string>

#include "brood/learn/comparison.h"

namespace brood {

// Trains from the beginning, or from where the folder left it when the status is kTraining; what is known of
// the model is kept before its weights are saved, now and then and at the end. Gives the trained model, now
// kTrained; null when it was stopped, still kTraining, or ran away, now kDiverged. An interrupted training that
// goes on ends with the same weights, score and curve as one that was not, but for the clock. Throws Error.
std::unique_ptr<Model> train_compared(ComparedModel& model, const std::string& folder,
                                      const ComparisonTexts& texts, const ComparisonSettings& settings,
                                      const ComparisonEvents& events);

}  // namespace brood
