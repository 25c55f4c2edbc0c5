// The folder that a live stream is kept in (docs/exactly-once.md): saves of the model, which another thread writes; the
// journal of what was read; what was rejected.
//
//   DIR/config.json, *.safetensors    the last save
//   DIR/journal/                      the input since then, and before it as much as rehearsal looks back
//   DIR/rejects.jsonl                 what was passed over because it made the model diverge
//
// A stream goes on as: load the save, look at what the journal holds (look_at), give the learner back its rehearsal memory,
// let it read the rest of the journal again, and only then more of the source.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "brood/base/background.h"
#include "brood/base/exactly_once_file.h"
#include "brood/learn/guarded.h"
#include "brood/learn/stream_journal.h"

namespace brood {

// The stream that a save's notes speak of: Progress.extra["live"]["stream"].
struct StoredStream {
  uint64_t name = 0;
  std::string begun_with;       // whatever tells one beginning from another
  nlohmann::json guard, meter;  // notes of the GuardedLearner; of who counts
  int64_t saved = 0;            // the save stands here
  int64_t rejects_bytes = 0;    // of rejects.jsonl then
  int64_t notes = 0;            // of the journal's, so many are in the save; after look_at(): all there are
  StreamSource source;          // as then; after look_at() as at `end`
  bool has_tail = false;        // the journal holds what came after the save
  int64_t end = 0;              // position up to which the journal is whole
  int64_t damage = 0;           // bytes of it that are not

  StreamPlace place() const { return {name, end, notes}; }
  nlohmann::json json() const;
};
// Nothing when the notes speak of none. Throws Error when they cannot be read.
std::optional<StoredStream> stored_stream(const nlohmann::json& live_notes);
// The same with what the folder's journal adds. Throws Error.
std::optional<StoredStream> look_at(const std::string& directory, const nlohmann::json& live_notes,
                                    FileSystem& files = FileSystem::real());

// The stream's bytes [begin, end) as far as the journal has them without a hole before `end`, the last ones.
std::vector<int32_t> journal_tokens(const std::string& directory, uint64_t stream, int64_t begin, int64_t end,
                                    FileSystem& files = FileSystem::real());

class LiveFolder {
 public:
  // Goes on writing at stream.end. Throws Error, also when another process does so. lock: of the stream; null: it is
  // taken now.
  LiveFolder(const std::string& directory, const StoredStream& stream, double sync_seconds,
             std::unique_ptr<FileLock> lock = nullptr, FileSystem& files = FileSystem::real());

  void append(std::span<const uint8_t> bytes) { journal_.append(bytes); }
  void begin(const StreamSource& source);
  void end_source();
  int64_t notes() const { return notes_; }
  // Reads again what the journal holds after `saved`, stored_stream() of the save's notes.
  void read_again(const StoredStream& saved, const JournalReader& reader) const;

  void reject(int64_t position, std::span<const int32_t> tokens);
  int64_t rejects_bytes() const { return rejects_ ? rejects_->bytes() : rejects_bytes_; }

  // Begins to write `copy`, which must stay as it is until saving() is false; others: GuardEvents::kept of that copy, the
  // StoredStream. needed_from: what of the stream a start from this copy needs. Not while saving().
  void save(const GuardedLearner::Copy& copy, int64_t needed_from);
  bool saving() const { return writing_.busy(); }
  void wait() { writing_.wait(); }
  void check() { writing_.check(); }  // throws what the last save threw

 private:
  void write();

  const std::string directory_;
  const uint64_t stream_;
  FileSystem& files_;
  Journal journal_;
  int64_t notes_, rejects_bytes_;
  std::shared_ptr<ExactlyOnceFile> rejects_;

  const GuardedLearner::Copy* copy_ = nullptr;  // what write() writes, and what goes with it
  int64_t needed_from_ = 0;
  std::shared_ptr<ExactlyOnceFile> rejects_then_;
  Background writing_;  // the last member: it ends before what it uses
};

}  // namespace brood
