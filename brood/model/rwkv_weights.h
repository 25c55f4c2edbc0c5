// Weights from the files of rwkv.cpp.
#pragma once

#include "brood/model/model.h"
#include "brood/model/rwkv_file.h"

namespace brood {

// model: made from file.config(). Throws Error as RwkvFile does, and on tensors that are missing, unknown or of the
// wrong shape.
void read_weights(const RwkvFile& file, Model& model);

}  // namespace brood
