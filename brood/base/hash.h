// A hash that tells contents apart; not made to withstand forgers.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace brood {

// It stands in files: the numbers that it gives do not change.
uint64_t content_hash(std::span<const std::byte> bytes);

}  // namespace brood
