// Finding the place in a source up to which it was read before.
#pragma once

#include <optional>
#include <string>

#include "brood/learn/live_folder.h"
#include "brood/senses/bytes.h"

namespace brood::cli {

// The name that a source is known by: a path from the root, or -.
std::string source_name(const std::string& in);

// The source, opened where it is to be read on from, and what is noted of it from there on.
struct OpenedSource {
  ByteStream stream;
  StreamSource source;
  // Whether the run that read it until there is gone on with, its figures, too; else it begins a new one there.
  bool goes_on = false;
};

// before: what was read last, if anything. again: one that is finished or has changed is read from its start. Throws Error
// when it has changed otherwise.
OpenedSource open_source(const std::string& in, const std::optional<StreamSource>& before, bool again);

}  // namespace brood::cli
