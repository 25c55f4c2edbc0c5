// What the blocks of RWKV have in common: vectors with one number a channel, and where they begin.
#pragma once

#include <algorithm>
#include <cmath>
#include <string>

#include "brood/blocks/block.h"
#include "brood/blocks/initialise.h"

namespace brood::rwkv {

// How deep a layer lies: from 0 at the first to 1 at the last, and from 1 to nearly 0.
inline double rising(const Place& place) {
  return double(place.layer) / double(std::max<int64_t>(1, place.n_layer - 1));
}
inline double falling(const Place& place) { return 1.0 - double(place.layer) / double(place.n_layer); }

// at(i) for each channel i. No weight decay.
template <class At>
Parameter& add_vector(ParameterStore& store, const std::string& name, int64_t size, const At& at) {
  Parameter& p = store.add(name, {size});
  p.decays = false;
  for (int64_t i = 0; i < size; ++i) p.value.f32()[i] = float(at(i));
  return p;
}

// Shares of a token shift; public checkpoints store [1, 1, d_model].
template <class At>
Parameter& add_shares(ParameterStore& store, const std::string& name, int64_t d_model, const At& at) {
  Parameter& p = add_vector(store, name, d_model, at);
  p.file_shape = {1, 1, d_model};
  return p;
}

inline Parameter& add_matrix(ParameterStore& store, const std::string& name, int64_t out, int64_t in) {
  return store.add(name, {out, in});
}

}  // namespace brood::rwkv
