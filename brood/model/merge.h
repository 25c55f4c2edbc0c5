// Merging: one model out of several that grew from the same beginning.
//
//   average       every number is the (weighted) mean: any architecture, the size of one
//   side by side  what has room for more is laid side by side, the rest averaged: neurons or experts
//
// Neurons, of a Dragon Hatchling: head by head, with all that belongs to them (encoder, encoder_v, decoder and
// the frequencies by which they turn), while embedding and head are means (arXiv 2509.26507, §7.1). The new
// model computes what its parts compute, and adds it up:
//
//     a = Σ_i a⁽ⁱ⁾,   Z = [Z⁽¹⁾ … Z⁽ᵏ⁾],   Z W_e = Σ_i Z⁽ⁱ⁾ W_e⁽ⁱ⁾,   each in its LN
//
// Frequencies have to stay what they were: made anew for a wider head they turn every neuron by other angles
// than it was trained with. The configuration keeps them ("parts", blocks/bdh.cc).
//
// Experts, of feeds `switch` (blocks/switch.cc): the first model's, then the second's under the numbers that
// follow, with their rows of the router and their entries of its bias. A step chooses top_k of them all. An
// expert's weight σ(w_e x) is what it was; with a softmax over more experts all weights would be others.
#pragma once

#include <memory>
#include <span>

#include "brood/model/model.h"

namespace brood {

enum class Merging { kSideBySide, kAverage };

// weights: of the means, one for each model; they are divided by their sum. Empty: equal. Throws Error when
// there are fewer than two models, when they are not alike (a key of their configurations differs, other than
// the number of neurons or experts side by side), when weights are not as many or not above 0, and when models
// that have neither neurons nor experts, or experts whose router is a softmax, are to be laid side by side.
std::unique_ptr<Model> merged(std::span<const Model* const> models, Merging how,
                              std::span<const double> weights = {});

}  // namespace brood
