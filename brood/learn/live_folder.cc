#include "brood/learn/live_folder.h"

#include <algorithm>
#include <utility>

#include "brood/learn/episodic_memory.h"
#include "brood/learn/live_notes.h"
#include "brood/model/directory.h"

namespace brood {

namespace {

constexpr const char* kStream = "stream";

std::string rejects_of(const std::string& directory) { return directory + "/rejects.jsonl"; }

}  // namespace

nlohmann::json StoredStream::json() const {
  return {{"name", fmt::format("{:016x}", name)}, {"begun_with", begun_with}, {"meter", meter},
          {"rejects_bytes", rejects_bytes},       {"notes", notes},           {"source", source.json()}};
}

std::optional<StoredStream> stored_stream(const nlohmann::json& live_notes) {
  if (!live_notes.is_object() || !live_notes.contains(kStream)) return std::nullopt;
  const Notes notes = notes_of_stream(live_notes[kStream]);
  StoredStream stream;
  stream.name = notes.name("name");
  stream.begun_with = notes.text("begun_with");
  stream.guard = notes.at("guard");
  stream.meter = notes.at("meter");
  stream.rejects_bytes = notes.count("rejects_bytes");
  stream.notes = notes.count("notes");
  stream.source = StreamSource::of(notes.at("source"));
  stream.end = notes.part("guard").count("taken");
  return stream;
}

std::optional<StoredStream> look_at(const std::string& directory, const nlohmann::json& live_notes,
                                    FileSystem& files) {
  std::optional<StoredStream> found = stored_stream(live_notes);
  if (!found) return found;
  StoredStream& stream = *found;
  const StreamPlace place = stream.place();
  const JournalReader reader{[&](const StreamSource& source) {
                               stream.source = source;
                               ++stream.notes;
                               stream.has_tail = true;
                             },
                             [&] {
                               stream.source.ended = true;
                               ++stream.notes;
                               stream.has_tail = true;
                             },
                             [&](std::span<const uint8_t> bytes) {
                               stream.source.take(bytes);
                               stream.end += int64_t(bytes.size());
                               stream.has_tail = true;
                               return true;
                             }};
  stream.damage = read_after(directory, place, reader, files);
  return found;
}

std::vector<int32_t> journal_tokens(const std::string& directory, uint64_t stream, int64_t begin, int64_t end,
                                    FileSystem& files) {
  std::vector<int32_t> tokens;
  int64_t position = begin;  // after the last token
  read_journal(
      journal_of(directory), stream,
      [&](const JournalRecord& record) {
        if (record.kind == JournalRecord::Kind::kNote) return record.position < end;
        const int64_t from = std::max(begin, record.position);
        const int64_t to = std::min(end, record.position + int64_t(record.bytes.size()));
        if (from >= to) return record.position < end;
        if (from != position) tokens.clear();
        const auto bytes = record.bytes.subspan(size_t(from - record.position), size_t(to - from));
        tokens.insert(tokens.end(), bytes.begin(), bytes.end());
        position = to;
        return true;
      },
      files);
  if (position != end) tokens.clear();
  return tokens;
}

LiveFolder::LiveFolder(const std::string& directory, const StoredStream& stream, double sync_seconds,
                       std::unique_ptr<FileLock> lock, FileSystem& files)
    : directory_(directory),
      stream_(stream.name),
      files_(files),
      journal_(journal_of(directory), stream.name, stream.end, sync_seconds, files, std::move(lock)),
      notes_(stream.notes),
      rejects_bytes_(stream.rejects_bytes),
      writing_([this] { write(); }) {
  if (rejects_bytes_ == 0)
    files_.remove(rejects_of(directory_));
  else
    rejects_ = std::make_shared<ExactlyOnceFile>(rejects_of(directory_), rejects_bytes_, files_);
}

void LiveFolder::begin(const StreamSource& source) {
  nlohmann::json note = source.json();
  note["note"] = ++notes_;
  journal_.note(note.dump());
}

void LiveFolder::end_source() { journal_.note(nlohmann::json{{"end", true}, {"note", ++notes_}}.dump()); }

void LiveFolder::read_again(const StoredStream& saved, const JournalReader& reader) const {
  read_after(directory_, saved.place(), reader, files_);
}

void LiveFolder::reject(int64_t position, std::span<const int32_t> tokens) {
  if (!rejects_) rejects_ = std::make_shared<ExactlyOnceFile>(rejects_of(directory_), 0, files_);
  std::string digits;
  for (const int32_t token : tokens) digits += fmt::format("{:02x}", token);
  rejects_->append(nlohmann::json{{"position", position}, {"bytes", tokens.size()}, {"hex", digits}}.dump() +
                   "\n");
}

void LiveFolder::save(const GuardedLearner::Copy& copy, int64_t needed_from) {
  BROOD_ASSERT(!saving());
  copy_ = &copy;
  needed_from_ = needed_from;
  rejects_then_ = rejects_;
  writing_.soon(0);
}

// What a save rests on is on the disk before it.
void LiveFolder::write() {
  if (rejects_then_) rejects_then_->sync();
  journal_.sync();
  nlohmann::json notes = copy_->learner.notes;
  notes[kStream] = copy_->others;
  notes[kStream]["guard"] = copy_->notes;
  const Progress progress{notes.at("updates").get<int64_t>(), {{"live", notes}}};
  const LiveCopy& learner = copy_->learner;
  save_model(directory_, *learner.model, &learner.state, &progress, files_,
             learner.memory ? learner.memory->writer() : MemoryWriter{},
             learner.distant.given() > 0 ? learner.distant.writer() : MemoryWriter{});
  journal_.forget_before(needed_from_);
}

}  // namespace brood
