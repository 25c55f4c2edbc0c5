#include "brood/cli/episodic.h"

#include <CLI/CLI.hpp>
#include <bit>

#include "brood/base/memory.h"
#include "brood/cli/numbers.h"

namespace brood::cli {

void add_episodic_option(CLI::App& app, EpisodicOptions& options, int64_t usual) {
  options.usual = usual;
  app.add_option_function<int64_t>(
         "--memory",
         [&options](int64_t megabytes) {
           options.megabytes = megabytes;
           options.said = true;
         },
         fmt::format(
             "megabytes of memory for what was seen, a power of two: once is enough to know it again; "
             "0: the network alone (a model's own, else {})",
             usual))
      ->check(whole(0, 4096))
      ->type_name("MB")
      ->group("Memory");
}

std::unique_ptr<EpisodicMemory> own_episodic_memory(const LoadedModel& loaded) {
  return loaded.memory ? EpisodicMemory::read(*loaded.memory) : nullptr;
}

std::unique_ptr<EpisodicMemory> episodic_memory(const LoadedModel& loaded, const EpisodicOptions& options) {
  constexpr int kMegabyte = 20;  // log2
  if (!options.said && loaded.memory) return own_episodic_memory(loaded);
  const int64_t megabytes = options.said ? options.megabytes : options.usual;
  if (megabytes == 0) return nullptr;
  if (!std::has_single_bit(uint64_t(megabytes)))
    fail("--memory {}: it must be a power of two, such as {}", megabytes, std::bit_ceil(uint64_t(megabytes)));
  const int log2_bytes = kMegabyte + std::countr_zero(uint64_t(megabytes));
  auto own = own_episodic_memory(loaded);
  if (!own)
    require_memory(2.75 * double(int64_t(1) << log2_bytes),
                   fmt::format("--memory {}: such a memory", megabytes), "ask for less");
  if (!own) return std::make_unique<EpisodicMemory>(log2_bytes);
  if (own->log2_bytes() != log2_bytes)
    fail(
        "--memory {}: the memory that was saved with the model has {} MB, which stays so; leave --memory "
        "away, or "
        "remove {} to begin with an empty one",
        megabytes, int64_t(1) << (own->log2_bytes() - kMegabyte), loaded.memory->name());
  return own;
}

}  // namespace brood::cli
