// brood tasks spring: the task that is no model's, but a single state space's.
#pragma once

#include "brood/cli/verb.h"

namespace brood::cli {

constexpr const char* kSpringPurpose = "spring: a state space finds mass, damping and stiffness";

Action define_spring(CLI::App& app, const Common& common);

}  // namespace brood::cli
