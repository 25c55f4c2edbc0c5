#include "brood/learn/kept.h"

#include "brood/base/error.h"
#include "brood/learn/nucleotide_file.h"
#include "brood/learn/series_folder.h"
#include "brood/model/directory.h"

namespace brood {

Kept kept_in(const std::string& folder) {
  if (holds_series(folder)) return Kept::kSeries;
  if (holds_nucleotides(folder)) return Kept::kDna;
  return holds_model(folder) ? Kept::kModel : Kept::kNothing;
}

void require_room_for(Kept kind, const std::string& folder) {
  const auto words = [](Kept kept) {
    return kept == Kept::kSeries ? "a series"
           : kept == Kept::kDna  ? "what was learnt of DNA"
                                 : "a model of bytes";
  };
  const Kept there = kept_in(folder);
  if (there != Kept::kNothing && there != kind)
    fail("saving to {}: it holds {}; name another folder for {}", folder, words(there), words(kind));
}

}  // namespace brood
