// A state as a file of its own (docs/formats/state-file.md): what a model remembers after it has read
// something, to be gone on from later, elsewhere, by as many streams as wanted. The state beside the weights
// of a model directory is directory.h's.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "brood/base/file_system.h"
#include "brood/model/model.h"

namespace brood {

struct KeptState {
  State state;
  std::vector<int32_t> last;  // [streams] the token that was seen but is not read yet; −1: none
  std::string architecture;   // of the model that it is a state of, and its
  std::string weights;        // fingerprint()
};

// Of a model's weights, their names and shapes: 16 hexadecimal digits. Reads all of them.
std::string fingerprint(const Model& model);

KeptState kept_state(const Model& model, State state, std::vector<int32_t> last);

// A kill leaves the old file or the new. Throws Error: what the system says, or a NaN among the numbers.
void write_kept_state(const std::string& path, const KeptState& kept, FileSystem& files = FileSystem::real());

// Whatever model it is of, to be looked at. Throws Error when the file is damaged or is no kept state.
KeptState read_kept_state(const std::string& path);
// The same from memory; `name` begins messages.
KeptState parse_kept_state(std::span<const std::byte> bytes, const std::string& name);

// To go on from. Throws Error, too, when it is the state of another architecture, of other shapes or, unless
// any_weights, of other weights than the model has: numbers that mean nothing to it.
KeptState read_kept_state(const std::string& path, const Model& model, bool any_weights = false);

// Two states of one shape, compared number by number. A stream at position 0 counts as zeros, synapses as what
// is left of them after fading.
struct StateDifference {
  std::string name;  // "layers.3.ssm"
  double norm_a = 0, norm_b = 0, norm_difference = 0;
  double cosine = 1;   // 1 when both are zero, 0 when one is
  double changed = 0;  // share of numbers that are not equal
  int64_t size = 0;    // numbers
};
// Throws Error when they are not of one shape.
std::vector<StateDifference> differences(const State& a, const State& b);

}  // namespace brood
