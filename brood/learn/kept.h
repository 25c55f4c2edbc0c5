// What a folder holds: each kind of stream keeps its learner in files of its own.
#pragma once

#include <string>

namespace brood {

enum class Kept { kNothing, kModel, kSeries, kDna };

Kept kept_in(const std::string& folder);
// Throws Error when the folder holds something of another kind, which a save of this one would stand beside.
void require_room_for(Kept kind, const std::string& folder);

}  // namespace brood
