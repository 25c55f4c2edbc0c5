#include "brood/learn/live_folder.h"

#include <algorithm>
#include <charconv>
#include <string_view>
#include <utility>

#include "brood/base/crc32.h"
#include "brood/base/json.h"
#include "brood/learn/episodic_memory.h"
#include "brood/model/directory.h"

namespace brood {

namespace {

constexpr const char* kStream = "stream";
constexpr int64_t kMost = int64_t(1) << 62;  // half of the range, so that counting on cannot overflow

std::string journal_of(const std::string& directory) { return directory + "/journal"; }
std::string rejects_of(const std::string& directory) { return directory + "/rejects.jsonl"; }

[[noreturn]] void refuse(const std::string& why) {
  fail(
      "live: what the folder says of its stream cannot be read ({}); start from its weights alone by "
      "deleting "
      "optimizer.safetensors and journal/",
      why);
}

const nlohmann::json& value_of(const nlohmann::json& notes, const char* key) {
  if (!notes.is_object()) refuse(fmt::format("it is {}", shown(notes)));
  const auto found = notes.find(key);
  if (found == notes.end()) refuse(fmt::format("it lacks \"{}\"", key));
  return *found;
}
int64_t count_of(const nlohmann::json& notes, const char* key, int64_t most = kMost) {
  const nlohmann::json& value = value_of(notes, key);
  if (!value.is_number_integer() || value < 0 || value > most)
    refuse(fmt::format("{} is {}", key, shown(value)));
  return value.get<int64_t>();
}
std::string text_of(const nlohmann::json& notes, const char* key) {
  const nlohmann::json& value = value_of(notes, key);
  if (!value.is_string()) refuse(fmt::format("{} is {}", key, shown(value)));
  return value.get<std::string>();
}
uint64_t name_of(const std::string& text) {
  uint64_t name = 0;
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, name, 16);
  if (error != std::errc() || stop != end) refuse(fmt::format("name is {}", shown(text)));
  return name;
}

// What follows a save in the journal, record by record.
class Tail {
 public:
  explicit Tail(const StoredStream& saved) : end_(saved.end), notes_(saved.notes) {}

  // False: it lies behind a hole, or another segment's notes do not follow on.
  bool take(const JournalRecord& record, const LiveFolder::Reader& reader) {
    if (record.position > end_) return false;
    if (record.kind == JournalRecord::Kind::kNote) return take_note(record, reader);
    const int64_t after = record.position + int64_t(record.bytes.size());
    if (after <= end_) return true;  // in the save
    const auto fresh = record.bytes.subspan(size_t(end_ - record.position));
    end_ = after;
    return reader.bytes(fresh);
  }

 private:
  bool take_note(const JournalRecord& record, const LiveFolder::Reader& reader) {
    const nlohmann::json note =
        parse_json({reinterpret_cast<const char*>(record.bytes.data()), record.bytes.size()},
                   "live: a note in the journal");
    const int64_t number = count_of(note, "note");
    if (number <= notes_) return true;
    notes_ = number;
    if (note.contains("end"))
      reader.end_source();
    else
      reader.begin(StreamSource::of(note));
    return true;
  }

  int64_t end_, notes_;
};

}  // namespace

nlohmann::json StreamSource::json() const {
  return {{"source", name}, {"taken", taken}, {"check", check}, {"ended", ended}};
}

StreamSource StreamSource::of(const nlohmann::json& notes) {
  StreamSource source;
  source.name = text_of(notes, "source");
  source.taken = count_of(notes, "taken");
  source.check = uint32_t(count_of(notes, "check", UINT32_MAX));
  const nlohmann::json& ended = value_of(notes, "ended");
  if (!ended.is_boolean()) refuse(fmt::format("ended is {}", shown(ended)));
  source.ended = ended.get<bool>();
  return source;
}

nlohmann::json StoredStream::json() const {
  return {{"name", fmt::format("{:016x}", name)}, {"begun_with", begun_with}, {"meter", meter},
          {"rejects_bytes", rejects_bytes},       {"notes", notes},           {"source", source.json()}};
}

std::optional<StoredStream> stored_stream(const nlohmann::json& live_notes) {
  if (!live_notes.is_object() || !live_notes.contains(kStream)) return std::nullopt;
  const nlohmann::json& notes = live_notes[kStream];
  StoredStream stream;
  stream.name = name_of(text_of(notes, "name"));
  stream.begun_with = text_of(notes, "begun_with");
  stream.guard = value_of(notes, "guard");
  stream.meter = value_of(notes, "meter");
  stream.rejects_bytes = count_of(notes, "rejects_bytes");
  stream.notes = count_of(notes, "notes");
  stream.source = StreamSource::of(value_of(notes, "source"));
  stream.end = count_of(stream.guard, "taken");
  return stream;
}

std::optional<StoredStream> look_at(const std::string& directory, const nlohmann::json& live_notes,
                                    FileSystem& files) {
  std::optional<StoredStream> found = stored_stream(live_notes);
  if (!found) return found;
  StoredStream& stream = *found;
  Tail tail(stream);
  const LiveFolder::Reader reader{[&](const StreamSource& source) {
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
                                    stream.source.taken += int64_t(bytes.size());
                                    stream.source.check = crc32(bytes, stream.source.check);
                                    stream.end += int64_t(bytes.size());
                                    stream.has_tail = true;
                                    return true;
                                  }};
  stream.damage = read_journal(
      journal_of(directory), stream.name,
      [&](const JournalRecord& record) { return tail.take(record, reader); }, files);
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

std::unique_ptr<FileLock> lock_stream(const std::string& directory, FileSystem& files) {
  return files.exists(journal_of(directory)) ? lock_journal(journal_of(directory), files) : nullptr;
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

void LiveFolder::read_again(const StoredStream& saved, const Reader& reader) const {
  Tail tail(saved);
  read_journal(
      journal_of(directory_), stream_, [&](const JournalRecord& record) { return tail.take(record, reader); },
      files_);
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
  save_model(directory_, *copy_->learner.model, &copy_->learner.state, &progress, files_,
             copy_->learner.memory ? copy_->learner.memory->writer() : MemoryWriter{});
  journal_.forget_before(needed_from_);
}

}  // namespace brood
