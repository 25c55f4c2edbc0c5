// What the verbs read.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "brood/model/model.h"
#include "brood/senses/bytes.h"

namespace brood::cli {

constexpr int64_t kByteTokens = 256;

// Throws Error when the model's vocabulary has no room for bytes.
void require_bytes(const Model& model, const std::string& name);

// Opens several sources, to be read one after the other, and says on standard error what of a folder cannot be
// read and is left out.
ByteStream open_sources(std::span<const std::string> sources);

// The whole of them.
std::vector<uint8_t> read_all(std::span<const std::string> sources);

// Waits until reading `source` would not wait; false when Ctrl-C came first. Only standard input is waited
// for; `idle` is called now and then meanwhile.
bool wait_for(const std::string& source, const std::function<void()>& idle = {});

}  // namespace brood::cli
