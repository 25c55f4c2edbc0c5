// Experts on the tape: a router sends each row to top_k of N small feeds, and only those are computed.
//
//   z = W_r x,   (chosen, w) = route(z)        kernels/routing.h; f32 whatever the tape's precision
//   y = Σ_{e chosen} w_e E_e(x)
//   E(x) = W_down( silu(W_gate x) ∘ W_up x ),   or, without a gate, W_down( max(W_up x, 0)² )
//
// Dropless: an expert takes as many rows as come. Rows are sorted by expert (a counting sort), each expert's
// group is a product of exactly its size, and a row's sum is made in the order of its choices. Work is cut into
// blocks of rows of one expert, by the counts alone, so results do not depend on the number of threads. One
// row is not sorted, and only the weights of its experts are read.
//
// Every expert has parameters of its own, so that one more is some parameters more and one expert can be taken
// out. What was not used in a step has no gradient in it: optimisers leave its weights, its moments and its
// weight decay alone.
//
// The routing's losses (kernels::Routing) reach the router's gradient in backward, as parts of a loss that is a
// mean over rows; the value of the loss on the tape remains the task's. The bias, where there is one, has
// balance_rate and receives Σ rows of an expert less their mean in place of a gradient.
#pragma once

#include <vector>

#include "brood/autograd/tape.h"
#include "brood/kernels/routing.h"

namespace brood {

struct Expert {
  Parameter *gate, *up, *down;  // [width, d], [width, d], [d, width]; gate null: squared rectifier
};

struct ExpertSet {
  Parameter* router;  // [N, d]
  Parameter* bias;    // [N], or null
  std::vector<Expert> experts;
  kernels::Routing routing;
};

// x [rows, d], contiguous. `set` must outlive the step. rows_of_expert [N], when not null, is added to.
Var routed_feed(Tape& tape, Var x, const ExpertSet& set, int64_t* rows_of_expert = nullptr);

}  // namespace brood
