#include "brood/base/memory.h"

#include <unistd.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif

#include <algorithm>
#include <fstream>

#include "brood/base/error.h"

namespace brood {
namespace {

// A line of /proc/self/status, "VmHWM:  1234 kB", in bytes; −1 when there is none.
int64_t status_bytes(const std::string& wanted) {
  std::ifstream status("/proc/self/status");
  for (std::string key; status >> key;) {
    if (key == wanted + ":") {
      int64_t kilobytes = -1;
      return status >> kilobytes ? kilobytes * 1024 : -1;
    }
    status.ignore(1 << 16, '\n');
  }
  return -1;
}

// Lets the mark of the highest memory so far begin anew (Linux: Documentation/filesystems/proc.rst).
bool reset_high_mark() {
  std::ofstream clear("/proc/self/clear_refs");
  clear << "5" << std::flush;
  return clear.good();
}

}  // namespace

PeakMemory::PeakMemory() {
#ifdef __GLIBC__
  malloc_trim(0);  // what was freed before shall not count as held
#endif
  before_ = reset_high_mark() ? status_bytes("VmRSS") : -1;
}

int64_t PeakMemory::bytes() const { return std::max<int64_t>(0, status_bytes("VmHWM") - before_); }

void require_memory(double bytes, const std::string& what, const std::string& mend) {
  const double memory = double(sysconf(_SC_PHYS_PAGES)) * double(sysconf(_SC_PAGESIZE));
  if (bytes > memory)
    fail("{} need more than {:.1f} GB and this machine's memory holds {:.1f} GB; {}", what, bytes / 1e9,
         memory / 1e9, mend);
}

}  // namespace brood
