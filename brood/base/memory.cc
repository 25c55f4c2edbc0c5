#include "brood/base/memory.h"

#include <unistd.h>

#include "brood/base/error.h"

namespace brood {

void require_memory(double bytes, const std::string& what, const std::string& mend) {
  const double memory = double(sysconf(_SC_PHYS_PAGES)) * double(sysconf(_SC_PAGESIZE));
  if (bytes > memory)
    fail("{} need more than {:.1f} GB and this machine's memory holds {:.1f} GB; {}", what, bytes / 1e9,
         memory / 1e9, mend);
}

}  // namespace brood
