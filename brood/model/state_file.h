// A state as a file of its own (docs/formats/state-file.md): what a model remembers after it has read
// something, to be gone on from later, elsewhere, by as many streams as wanted. The state beside the weights
// of a model directory is directory.h's.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "brood/base/file_system.h"
#include "brood/model/kept_state.h"
#include "brood/model/model.h"

namespace brood {

// Of a model's weights, their names and shapes: 16 hexadecimal digits. Reads all of them.
std::string fingerprint(const Model& model);

// Without its traces, if it has any: they are of weights that learn.
KeptState kept_state(const Model& model, State state, std::vector<int32_t> last);

// A kill leaves the old file or the new. Throws Error: what the system says, or a NaN among the numbers.
void write_kept_state(const std::string& path, const KeptState& kept, FileSystem& files = FileSystem::real());

// To go on from. Throws Error, too, when it is the state of another architecture, of other shapes or, unless
// any_weights, of other weights than the model has: numbers that mean nothing to it.
KeptState read_kept_state(const std::string& path, const Model& model, bool any_weights = false);

}  // namespace brood
