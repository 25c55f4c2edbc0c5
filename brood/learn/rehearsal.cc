#include "brood/learn/rehearsal.h"

#include <algorithm>

#include "brood/base/error.h"

namespace brood {

void RehearsalMemory::add(std::span<const int32_t> tokens) {
  for (const int32_t token : tokens) {
    const auto place = size_t(given_++ % places_);
    if (place == ring_.size())
      ring_.push_back(token);
    else
      ring_[place] = token;
  }
}

int64_t RehearsalMemory::first() const { return std::max<int64_t>(0, given_ - capacity_); }
int64_t RehearsalMemory::size() const { return given_ - first(); }
int32_t RehearsalMemory::operator[](int64_t i) const { return ring_[size_t((first() + i) % places_)]; }

void RehearsalMemory::go_back(int64_t given) {
  BROOD_ASSERT(given <= given_ && given_ - given <= places_ - capacity_);
  given_ = given;
}

void RehearsalMemory::clear() {
  given_ = 0;
  ring_.clear();
}

}  // namespace brood
