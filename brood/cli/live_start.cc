#include "brood/cli/live_start.h"

#include <fmt/format.h>

#include <cerrno>
#include <filesystem>
#include <utility>

#include "brood/base/file.h"
#include "brood/base/hash.h"
#include "brood/cli/input.h"
#include "brood/cli/live_source.h"
#include "brood/cli/save_folder.h"

namespace brood::cli {
namespace {

nlohmann::json live_notes(const LoadedModel& loaded) {
  if (!loaded.progress || !loaded.progress->extra.contains("live")) return nullptr;
  return loaded.progress->extra["live"];
}

std::string beginning(const Model& model, const LiveStart& start, uint64_t seed) {
  std::string text = fmt::format("weights {} seed {}", fingerprint(model), seed);
  if (!start.memory.file.empty())
    text += fmt::format(" state {:016x}", content_hash(MappedFile::open(start.memory.file).bytes()));
  if (start.episodic.said && start.episodic.megabytes != start.episodic.usual)
    text += fmt::format(" memory {}", start.episodic.megabytes);
  return text;
}

// The folder's own model, when this very command began its stream and reads the source that it read.
bool take_up(const LiveStart& start, uint64_t seed, LiveBeginning& begin) {
  LoadedModel there = load_model(start.save, seed);
  const nlohmann::json notes = live_notes(there);
  if (!has_lived(there) || notes.is_null()) return false;
  std::optional<StoredStream> stream = look_at(start.save, notes);
  if (!stream || stream->begun_with != begin.begun_with || stream->source.name != source_name(start.in))
    return false;
  begin.memory = {there.state->clone(), -1};
  begin.loaded = std::move(there);
  begin.learner = notes;
  begin.stream = std::move(stream);
  return true;
}

LiveBeginning begin_network(const LiveStart& start, uint64_t seed) {
  LiveBeginning begin;
  if (!start.save.empty()) begin.alone = lock_stream(start.save);
  begin.loaded = load_model(start.model, seed);
  require_bytes(*begin.loaded.model, start.model);
  const bool given = !start.memory.file.empty();
  const bool goes_on = !given && has_lived(begin.loaded);
  begin.memory = given ? memory_of_file(*begin.loaded.model, start.memory) : no_memory(*begin.loaded.model);
  begin.begun_with = beginning(*begin.loaded.model, start, seed);
  std::error_code absent;
  const bool same = std::filesystem::equivalent(start.save, start.model, absent);
  if (!start.save.empty() && !same && !start.overwrite && holds_model(start.save) &&
      take_up(start, seed, begin)) {
    check_save_folder(start.save, start.save, start.overwrite, "");
    return begin;
  }
  check_save_folder(start.save, start.model, start.overwrite, "--model " + start.save);
  const nlohmann::json notes = live_notes(begin.loaded);
  if (goes_on) begin.memory.state = begin.loaded.state->clone();
  if (goes_on) begin.learner = notes;
  if (given) begin.optimiser = notes;
  if (goes_on && same && !notes.is_null()) begin.stream = look_at(start.save, notes);
  if (begin.stream) begin.begun_with = begin.stream->begun_with;
  return begin;
}

}  // namespace

LiveBeginning begin_live(const LiveStart& start, uint64_t seed) {
  // First of all: with another source, which this would look like, the folder's model is another's.
  if (start.in != "-" && !std::filesystem::exists(start.in)) fail_system("reading " + start.in, ENOENT);
  LiveBeginning begin = begin_network(start, seed);
  begin.episodes = episodic_memory(begin.loaded, start.episodic);
  // A save is all that the run holds: a memory that took no part would be gone.
  std::error_code absent;
  if (!begin.episodes && begin.loaded.memory && std::filesystem::equivalent(start.save, start.model, absent))
    fail(
        "--memory 0: {} holds a memory of its stream, which a save without it would remove; leave --memory "
        "away, save to another folder, or remove {} first",
        start.save, begin.loaded.memory->name());
  return begin;
}

}  // namespace brood::cli
