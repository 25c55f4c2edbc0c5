// A state that was kept by itself, without the model that it is of: what a file of it says
// (docs/formats/state-file.md), and how far two of them are apart. Untrusted bytes come in here, so nothing
// here needs a model; state_file.h writes such files and goes on from them.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "brood/model/state.h"

namespace brood {

struct KeptState {
  State state;
  std::vector<int32_t> last;  // [streams] the token that was seen but is not read yet; −1: none
  std::string architecture;   // of the model that it is a state of, and its
  std::string weights;        // fingerprint()
};

// What else its safetensors file says, as text, beside the positions that every state has.
constexpr const char* kKeptLast = "last";
constexpr const char* kKeptArchitecture = "architecture";
constexpr const char* kKeptWeights = "weights";

// Whatever model it is of, to be looked at. Throws Error when the file is damaged or is no kept state.
KeptState read_kept_state(const std::string& path);
// The same from memory; `name` begins messages.
KeptState parse_kept_state(std::span<const std::byte> bytes, const std::string& name);

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
