// The tensors of a model, a state and an optimiser as safetensors files: which names, which shapes, in which
// order. Putting the files in place together is directory.h's part.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "brood/model/directory.h"
#include "brood/model/safetensors.h"

namespace brood {

constexpr const char* kSave = "save";

// All files of one save carry the same save_id (metadata kSave), so that files of different saves are never
// taken for one. Writing throws Error: what the system says, or a NaN or infinity among the numbers.
void write_weights(const std::string& path, const Model& model, const std::string& save_id,
                   FileSystem& files);
// metadata: what else is said in the file.
void write_state(const std::string& path, const State& state, std::map<std::string, std::string> metadata,
                 FileSystem& files);
void write_optimiser(const std::string& path, const Model& model, const Progress& progress,
                     const std::string& save_id, FileSystem& files);

// Reading throws Error as load_model does.
void read_weights(const SafetensorsFile& file, Model& model);
std::unique_ptr<State> read_state(const SafetensorsFile& file, const Model& model);
std::unique_ptr<Progress> read_optimiser(const SafetensorsFile& file, Model& model);

// Rows of the embedding in the file; 0 when it has none under any of the spellings of `name`.
int64_t stored_vocabulary(const SafetensorsFile& file, const std::string& name);
// More rows than this are not padding but another vocabulary.
constexpr int64_t kMostPadding = 127;

// Whether it could be saved: no NaN and no infinity is among its numbers.
bool is_finite(const Tensor& tensor);

std::string save_id_of(const SafetensorsFile& file);  // "" when it was not written here

}  // namespace brood
