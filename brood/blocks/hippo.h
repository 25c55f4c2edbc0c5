// Where the modes of a diagonal state space begin (S4D: Gu, Gupta, Goel and Ré 2022, section 4): the
// imaginary parts of N modes, whose real parts are all −½ and whose conjugates are not kept.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace brood {

// "lin": π·n. "inv": (2N/π)·(2N/(2n + 1) − 1). "legs": the modes of HiPPO-LegS itself, largest first.
std::vector<double> hippo_frequencies(const std::string& law, int64_t N);

}  // namespace brood
