#include "brood/model/sampling.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "brood/model/diverged.h"

namespace brood {

namespace {

void check(const Sampling& sampling) {
  if (!(sampling.temperature >= 0) || std::isinf(sampling.temperature))
    fail("sampling: temperature is {}, but must be 0 (always the most likely) or more", sampling.temperature);
  if (sampling.top_k < 0) fail("sampling: top-k is {}, but must be 0 (all) or more", sampling.top_k);
  if (!(sampling.top_p > 0 && sampling.top_p <= 1))
    fail("sampling: top-p is {}, but must be above 0 and at most 1", sampling.top_p);
}

int32_t most_likely(std::span<const float> logits) {
  size_t best = 0;
  for (size_t i = 0; i < logits.size(); ++i) {
    if (std::isnan(logits[i]) || logits[i] == std::numeric_limits<float>::infinity())
      throw Diverged(fmt::format(
          "sampling: logit {} is {}; the model has diverged, go back to an earlier save", i, logits[i]));
    if (logits[i] > logits[best]) best = i;
  }
  if (std::isinf(logits[best])) fail("sampling: every token is ruled out; there is nothing to choose");
  return int32_t(best);
}

struct Candidate {
  int32_t token;
  double weight;  // unnormalised probability
};

bool likelier(const Candidate& a, const Candidate& b) {
  return a.weight != b.weight ? a.weight > b.weight : a.token < b.token;
}
bool less_likely(const Candidate& a, const Candidate& b) { return likelier(b, a); }

double total(const std::vector<Candidate>& candidates) {
  double sum = 0;
  for (const Candidate& c : candidates) sum += c.weight;
  return sum;
}

// A heap instead of a sort: of a large vocabulary only the few tokens that are kept are ever put in order.
void keep_top_p(std::vector<Candidate>& candidates, double top_p) {
  const double wanted = top_p * total(candidates);
  double sum = 0;
  auto end = candidates.end();
  std::make_heap(candidates.begin(), end, less_likely);
  while (end != candidates.begin() && sum < wanted) {
    std::pop_heap(candidates.begin(), end, less_likely);
    sum += (--end)->weight;
  }
  candidates.erase(candidates.begin(), end);
}

}  // namespace

int32_t sample(std::span<const float> logits, const Sampling& sampling, Random& random) {
  BROOD_ASSERT(!logits.empty());
  check(sampling);
  const int32_t best = most_likely(logits);
  if (sampling.temperature == 0) return best;

  std::vector<Candidate> candidates;
  candidates.reserve(logits.size());
  for (size_t i = 0; i < logits.size(); ++i) {
    const double above = double(logits[i]) - double(logits[size_t(best)]);
    // At a vanishing temperature the quotient overflows to -inf, whose exponential is the right 0; 0/T stays
    // 0.
    candidates.push_back({int32_t(i), std::exp(above / double(sampling.temperature))});
  }
  if (sampling.top_k > 0 && size_t(sampling.top_k) < candidates.size()) {
    std::nth_element(candidates.begin(), candidates.begin() + sampling.top_k, candidates.end(), likelier);
    candidates.resize(size_t(sampling.top_k));
  }
  if (sampling.top_p < 1) keep_top_p(candidates, double(sampling.top_p));

  // The order of the tokens, not of the heap, so that a cut which keeps everything changes nothing.
  if (sampling.top_k > 0 || sampling.top_p < 1)
    std::sort(candidates.begin(), candidates.end(),
              [](const Candidate& a, const Candidate& b) { return a.token < b.token; });
  double left = random.uniform() * total(candidates);
  int32_t chosen = best;  // the answer should rounding leave the sum a hair above the last weight
  for (const Candidate& c : candidates) {
    left -= c.weight;
    if (left < 0) {
      chosen = c.token;
      break;
    }
  }
  return chosen;
}

}  // namespace brood
