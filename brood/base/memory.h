// What this machine's memory can hold.
#pragma once

#include <string>

namespace brood {

// Throws Error when `bytes` are more than all of this machine's memory: "model: the weights need more
// than 93.1 GB and this machine's memory holds ...". Asked before memory is taken, because a system may grant
// what it does not have and end the program when it is used. `what` begins the sentence, `mend` ends it.
void require_memory(double bytes, const std::string& what, const std::string& mend);

}  // namespace brood
