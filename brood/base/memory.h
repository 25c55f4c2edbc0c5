// What this machine's memory can hold.
#pragma once

#include <cstdint>
#include <string>

namespace brood {

// Throws Error when `bytes` are more than all of this machine's memory: "model: the weights need more
// than 93.1 GB and this machine's memory holds ...". Asked before memory is taken, because a system may grant
// what it does not have and end the program when it is used. `what` begins the sentence, `mend` ends it.
void require_memory(double bytes, const std::string& what, const std::string& mend);

// The most memory that the process holds while this lives, above what it held before. Where the system does
// not let it be measured nothing is known. One at a time.
class PeakMemory {
 public:
  PeakMemory();
  bool known() const { return before_ >= 0; }
  int64_t bytes() const;

 private:
  int64_t before_;
};

}  // namespace brood
