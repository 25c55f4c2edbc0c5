// The notes that are saved with a live model, and what to do when they cannot be read.
#pragma once

#include "brood/base/notes.h"

namespace brood {

// Of the learner.
inline Notes notes_of_learner(const nlohmann::json& notes) {
  return {notes, "the notes saved with the model",
          "start from its weights alone by deleting optimizer.safetensors"};
}
// Of the stream that it reads.
inline Notes notes_of_stream(const nlohmann::json& notes) {
  return {notes, "the notes that the folder holds of its stream",
          "start from its weights alone by deleting optimizer.safetensors and journal/"};
}

}  // namespace brood
