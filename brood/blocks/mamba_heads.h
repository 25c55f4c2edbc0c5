// The heads of Mamba-2 and Mamba-3, which come in groups that share keys and queries.
#pragma once

#include "brood/base/error.h"
#include "brood/base/settings.h"

namespace brood::mamba {

struct Heads {
  int64_t d_model = 0, d_inner = 0, heads = 0, head_dim = 0, groups = 0;
};

// The keys expand, head_dim and n_groups.
inline Heads read_heads(Settings& settings, int64_t d_model) {
  Heads h;
  h.d_model = d_model;
  h.d_inner = d_model * settings.integer("expand", 2, 1, 16);
  h.head_dim = settings.integer("head_dim", 64, 1, 1024);
  if (h.d_inner % h.head_dim != 0)
    fail("{}: expand·d_model = {} is not a multiple of head_dim {}", settings.context(), h.d_inner,
         h.head_dim);
  h.heads = h.d_inner / h.head_dim;
  h.groups = settings.integer("n_groups", 1, 1, 256);
  if (h.heads % h.groups != 0)
    fail("{}: its {} heads (expand·d_model/head_dim) cannot be shared out to n_groups {}", settings.context(),
         h.heads, h.groups);
  return h;
}

}  // namespace brood::mamba
