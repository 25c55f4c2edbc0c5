// A journal: the bytes that a stream brought, on disk, so that who dies can read them again (docs/formats/journal.md).
//
//   DIR/00000001.journal, 00000002.journal, ...     segments of about 1 MiB, each a header and records
//
// A record holds some bytes of the stream, or a note that stands between two of its bytes; with its position, its length
// and a check of all that. What a kill or a power cut leaves is whole records and at most one torn one, behind which
// nothing counts.
//
// What is safe when: a record is the system's once append() returns, so a kill (of this process) loses nothing. It is on
// the disk, safe from a power cut, at most `sync_seconds` later, or when sync() returns.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "brood/base/file_system.h"

namespace brood {

struct JournalRecord {
  enum class Kind : uint8_t { kBytes = 1, kNote = 2 } kind = Kind::kBytes;
  int64_t position = 0;            // of the first of its bytes in the stream; of a note: what came before it
  std::span<const uint8_t> bytes;  // of the stream, or the note's text
};
constexpr int64_t kMostJournalRecord = int64_t(1) << 16;  // bytes of one record; longer ones are not believed

// The records of one segment's bytes, which nobody vouches for, from the front to the first that is not whole.
class JournalSegment {
 public:
  explicit JournalSegment(std::span<const uint8_t> bytes);  // must outlive it
  bool known() const { return known_; }                     // whether its header is whole
  uint64_t stream() const { return stream_; }
  // Nothing: the end, or bytes that are no whole record, of which rest() says how many.
  std::optional<JournalRecord> next();
  int64_t rest() const { return int64_t(rest_.size()); }

 private:
  std::span<const uint8_t> rest_;
  bool known_ = false;
  uint64_t stream_ = 0;
  int64_t end_ = 0;  // position after the last record
};

// Visits the whole records of a stream's segments, in their order, and says how many bytes of damage it met. Positions
// never fall, but where something was damaged one jumps: who needs every byte looks for that. `visit` returns false to
// stop. A folder that is not there has no records. Throws Error when a file cannot be read.
int64_t read_journal(const std::string& directory, uint64_t stream,
                     const std::function<bool(const JournalRecord&)>& visit,
                     FileSystem& files = FileSystem::real());

// Keeps others from writing there; to be had before what is there is looked at. Throws Error while another process writes.
std::unique_ptr<FileLock> lock_journal(const std::string& directory, FileSystem& files = FileSystem::real());

// Writes one. append(), note() and position() belong to one thread; sync() and forget_before() to any. Throws Error.
class Journal {
 public:
  // Goes on at `position`, the end of a record. Segments that begin beyond it, and all of other streams, are removed.
  // lock: of the folder; null: it is taken now.
  Journal(const std::string& directory, uint64_t stream, int64_t position, double sync_seconds,
          FileSystem& files = FileSystem::real(), std::unique_ptr<FileLock> lock = nullptr);
  ~Journal();

  // Any number of bytes. Neither waits for the disk nor allocates, except where a segment ends.
  void append(std::span<const uint8_t> bytes);
  void note(std::string_view text);
  // After it all that was appended before is on the disk. Once it threw it always throws: what the disk lost then is not
  // known.
  void sync();
  // Removes the segments that hold only what came before.
  void forget_before(int64_t position);
  int64_t position() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace brood
