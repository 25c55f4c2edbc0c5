#include "brood/learn/rehearsal.h"

#include <algorithm>

#include "brood/base/error.h"

namespace brood {

namespace {

// Tokens of a new stream from which it is rehearsed as often as it shall be: of fewer the same windows would come again
// and again.
constexpr int64_t kFew = 8192;

}  // namespace

void RehearsalMemory::add(std::span<const int32_t> tokens) {
  for (const int32_t token : tokens) {
    if (size() == capacity_) {
      const int32_t oldest = (*this)[0];
      distant_.add({&oldest, 1});
    }
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

void RehearsalMemory::draw(int64_t n, int64_t fresh, double fresh_share, Random& random,
                           std::vector<int32_t>& window) const {
  BROOD_ASSERT(n <= size());
  const int64_t older = size() - fresh;
  if (fresh_share <= 0 || fresh < n || older < n) return draw_older(n, size(), random, window);
  const double held = double(distant_.given() + size());
  const double share =
      std::max(double(fresh) / held, fresh_share * std::min(1.0, double(fresh) / double(kFew)));
  if (random.uniform() < share) return draw_last(older, size(), n, random, window);
  draw_older(n, older, random, window);
}

// A window of the last tokens, of those from begin to end.
void RehearsalMemory::draw_last(int64_t begin, int64_t end, int64_t n, Random& random,
                                std::vector<int32_t>& window) const {
  const int64_t start = begin + int64_t(random.below(uint64_t(end - begin - n + 1)));
  for (int64_t t = start; t < start + n; ++t) window.push_back((*this)[t]);
}

// One of the last tokens up to `end`, or of what is older than all of these.
void RehearsalMemory::draw_older(int64_t n, int64_t end, Random& random, std::vector<int32_t>& window) const {
  if (distant_.blocks() > 0 && n <= Reservoir::kBlock) {
    const double distant = double(distant_.given());
    if (random.uniform() < std::min(0.5, distant / (distant + double(end)))) {
      const auto block = distant_.block(int64_t(random.below(uint64_t(distant_.blocks()))));
      const auto from = block.begin() + int64_t(random.below(uint64_t(Reservoir::kBlock - n + 1)));
      window.insert(window.end(), from, from + n);
      return;
    }
  }
  draw_last(0, end, n, random, window);
}

void RehearsalMemory::go_back(int64_t given, const Reservoir& distant) {
  BROOD_ASSERT(given <= given_ && given_ - given <= places_ - capacity_);
  given_ = given;
  distant_ = distant;
}

void RehearsalMemory::clear() {
  given_ = 0;
  ring_.clear();
}

}  // namespace brood
