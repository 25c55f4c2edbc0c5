#include "brood/learn/stream_journal.h"

#include <random>

#include "brood/base/crc32.h"
#include "brood/base/json.h"
#include "brood/learn/live_notes.h"

namespace brood {

namespace {

// What follows a place in the journal, record by record.
class Tail {
 public:
  explicit Tail(const StreamPlace& place) : end_(place.position), notes_(place.notes) {}

  // False: it lies behind a hole, or another segment's notes do not follow on.
  bool take(const JournalRecord& record, const JournalReader& reader) {
    if (record.position > end_) return false;
    if (record.kind == JournalRecord::Kind::kNote) return take_note(record, reader);
    const int64_t after = record.position + int64_t(record.bytes.size());
    if (after <= end_) return true;  // in the save
    const auto fresh = record.bytes.subspan(size_t(end_ - record.position));
    end_ = after;
    return reader.bytes(fresh);
  }

 private:
  bool take_note(const JournalRecord& record, const JournalReader& reader) {
    const nlohmann::json note =
        parse_json({reinterpret_cast<const char*>(record.bytes.data()), record.bytes.size()},
                   "live: a note in the journal");
    const int64_t number = notes_of_stream(note).count("note");
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

void StreamSource::take(std::span<const uint8_t> bytes) {
  check = crc32(bytes, check);
  taken += int64_t(bytes.size());
}

nlohmann::json StreamSource::json() const {
  return {{"source", name}, {"taken", taken}, {"check", check}, {"ended", ended}};
}

StreamSource StreamSource::of(const nlohmann::json& json) {
  const Notes notes = notes_of_stream(json);
  return {.name = notes.text("source"),
          .taken = notes.count("taken"),
          .check = uint32_t(notes.count("check", UINT32_MAX)),
          .ended = notes.flag("ended")};
}

std::string journal_of(const std::string& directory) { return directory + "/journal"; }

uint64_t new_stream_name() {
  std::random_device device;  // two runs with one seed are still two streams
  return uint64_t(device()) << 32 | device();
}

int64_t read_after(const std::string& directory, const StreamPlace& place, const JournalReader& reader,
                   FileSystem& files) {
  Tail tail(place);
  return read_journal(
      journal_of(directory), place.stream,
      [&](const JournalRecord& record) { return tail.take(record, reader); }, files);
}

std::unique_ptr<FileLock> lock_stream(const std::string& directory, FileSystem& files) {
  return files.exists(journal_of(directory)) ? lock_journal(journal_of(directory), files) : nullptr;
}

}  // namespace brood
