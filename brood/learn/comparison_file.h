// A comparison as JSON (docs/formats/comparison.md): what the program prints and what it keeps to go on from.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "brood/learn/comparison.h"

namespace brood {

// All that the figures depend on beside the models: texts, budget, schedule, optimiser, what is measured, and
// this machine.
nlohmann::json comparison_conditions(const ComparisonSettings& settings, const ComparisonTexts& texts);

nlohmann::json comparison_json(const Comparison& comparison);

// Takes over what the comparison that was kept as `kept` has found out about the models of `comparison`, which
// are still waiting. Throws Error with the first thing in which the two differ: a condition, the list of
// models, what one of them is or begins with; and when `kept` cannot be what comparison_json wrote. where: the
// folder that it is from.
void go_on_from(Comparison& comparison, const nlohmann::json& kept, const std::string& where);

}  // namespace brood
