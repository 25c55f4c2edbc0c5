// What is known of the source that a stream reads, and what the journal (base/journal.h) in its folder says beyond a save
// (docs/exactly-once.md). Streams of bytes and of rows are kept alike.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <span>
#include <string>

#include "brood/base/journal.h"

namespace brood {

// Where a stream's bytes come from, and how far it has been read.
struct StreamSource {
  std::string name;    // a path, or - for standard input
  int64_t taken = 0;   // its bytes so far
  uint32_t check = 0;  // their CRC-32
  bool ended = false;  // read to its end

  void take(std::span<const uint8_t> bytes);
  nlohmann::json json() const;
  static StreamSource of(const nlohmann::json& notes);  // throws Error
};

// A place in a stream.
struct StreamPlace {
  uint64_t stream = 0;   // its name in the journal
  int64_t position = 0;  // bytes before it
  int64_t notes = 0;     // notes of the journal before it
};

// Who reads a journal again.
struct JournalReader {
  std::function<void(const StreamSource&)> begin;
  std::function<void()> end_source;
  std::function<bool(std::span<const uint8_t>)> bytes;  // false: stop
};

std::string journal_of(const std::string& directory);
uint64_t new_stream_name();

// Reads what the journal of this folder holds after a place, without a hole, and says how many bytes of it are damaged.
// Throws Error.
int64_t read_after(const std::string& directory, const StreamPlace& place, const JournalReader& reader,
                   FileSystem& files = FileSystem::real());

// Keeps others from going on with the stream of this folder, from before it is looked at; null where none has been begun.
// Throws Error while another process goes on with it.
std::unique_ptr<FileLock> lock_stream(const std::string& directory, FileSystem& files = FileSystem::real());

}  // namespace brood
