#include "brood/base/journal.h"

#include <algorithm>
#include <charconv>
#include <cstring>
#include <deque>
#include <exception>
#include <mutex>
#include <utility>
#include <vector>

#include "brood/base/background.h"
#include "brood/base/crc32.h"
#include "brood/base/error.h"

namespace brood {

namespace {

constexpr char kMark[4] = {'B', 'R', 'J', 'L'};
constexpr uint32_t kFormat = 1;
constexpr size_t kHeader = 20;        // mark, format, stream, check
constexpr size_t kRecordHeader = 17;  // check, length, position, kind
constexpr int64_t kSegment = int64_t(1) << 20;
constexpr std::string_view kEnding = ".journal";
constexpr int64_t kMostPosition = int64_t(1) << 62;  // half of the range: counting on cannot overflow

// No segment is longer; what others made longer is not read to its end.
constexpr int64_t kMostSegment = kSegment + int64_t(kRecordHeader) + kMostJournalRecord;

// Numbers stand with their lowest byte first.
template <class T>
void put(uint8_t* to, T number) {
  for (size_t i = 0; i < sizeof(T); ++i) to[i] = uint8_t(uint64_t(number) >> (8 * i));
}
template <class T>
T get(const uint8_t* from) {
  uint64_t number = 0;
  for (size_t i = 0; i < sizeof(T); ++i) number |= uint64_t(from[i]) << (8 * i);
  return T(number);
}

// Begun with the stream's name: a record that another stream left on the same blocks of the disk is none of this one.
uint32_t check_of(uint64_t stream, std::span<const uint8_t> record) {
  uint8_t name[8];
  put(name, stream);
  return crc32(record, crc32(name));
}

std::string name_of(int64_t number) { return fmt::format("{:08}{}", number, kEnding); }

// Segments by their numbers.
std::vector<std::pair<int64_t, std::string>> segments_of(const std::string& directory, FileSystem& files) {
  std::vector<std::pair<int64_t, std::string>> segments;
  if (!files.exists(directory)) return segments;
  for (const std::string& name : files.names(directory)) {
    int64_t number = 0;
    const char* end = name.data() + name.size() - std::min(name.size(), kEnding.size());
    const auto [stop, error] = std::from_chars(name.data(), end, number);
    if (error == std::errc() && stop == end && number > 0 && name_of(number) == name)
      segments.emplace_back(number, directory + "/" + name);
  }
  std::sort(segments.begin(), segments.end());
  return segments;
}

// One as it is on the disk, and what it says.
class StoredSegment {
 public:
  StoredSegment(const std::string& path, FileSystem& files)
      : bytes_(files.contents(path, kMostSegment)),
        records({reinterpret_cast<const uint8_t*>(bytes_.data()), bytes_.size()}) {}

 private:
  const std::string bytes_;

 public:
  JournalSegment records;
};

// Where a segment of the stream begins; −1: it is none, or holds nothing.
int64_t begin_of(const std::string& path, uint64_t stream, FileSystem& files) {
  StoredSegment segment(path, files);
  if (!segment.records.known() || segment.records.stream() != stream) return -1;
  const auto first = segment.records.next();
  return first ? first->position : -1;
}

}  // namespace

JournalSegment::JournalSegment(std::span<const uint8_t> bytes) : rest_(bytes) {
  if (bytes.size() < kHeader || std::memcmp(bytes.data(), kMark, sizeof(kMark)) != 0 ||
      get<uint32_t>(bytes.data() + 4) != kFormat ||
      get<uint32_t>(bytes.data() + 16) != crc32(bytes.first(kHeader - 4)))
    return;
  known_ = true;
  stream_ = get<uint64_t>(bytes.data() + 8);
  rest_ = bytes.subspan(kHeader);
}

std::optional<JournalRecord> JournalSegment::next() {
  if (!known_ || rest_.size() < kRecordHeader) return std::nullopt;
  const auto length = int64_t(get<uint32_t>(rest_.data() + 4));
  if (length > kMostJournalRecord || length > int64_t(rest_.size() - kRecordHeader)) return std::nullopt;
  const size_t whole = kRecordHeader + size_t(length);
  if (get<uint32_t>(rest_.data()) != check_of(stream_, rest_.subspan(4, whole - 4))) return std::nullopt;
  const auto position = get<int64_t>(rest_.data() + 8);
  const uint8_t kind = rest_[16];
  if (position < end_ || position > kMostPosition || (kind != 1 && kind != 2)) return std::nullopt;
  const JournalRecord record{JournalRecord::Kind(kind), position,
                             rest_.subspan(kRecordHeader, size_t(length))};
  end_ = position + (kind == 1 ? length : 0);
  rest_ = rest_.subspan(whole);
  return record;
}

int64_t read_journal(const std::string& directory, uint64_t stream,
                     const std::function<bool(const JournalRecord&)>& visit, FileSystem& files) {
  int64_t damaged = 0, end = 0;
  for (const auto& [number, path] : segments_of(directory, files)) {
    StoredSegment stored(path, files);
    JournalSegment& segment = stored.records;
    if (segment.known() && segment.stream() != stream) continue;
    while (const auto record = segment.next()) {
      if (record->position < end) break;
      end = record->position +
            (record->kind == JournalRecord::Kind::kBytes ? int64_t(record->bytes.size()) : 0);
      if (!visit(*record)) return damaged;
    }
    damaged += segment.rest();
  }
  return damaged;
}

struct Journal::Impl {
  Impl(std::string directory_, uint64_t stream_, int64_t position_, double seconds, FileSystem& files_)
      : directory(std::move(directory_)),
        stream(stream_),
        position(position_),
        sync_seconds(seconds),
        files(files_),
        syncing([this] { sync(); }) {}

  const std::string directory;
  std::unique_ptr<FileLock> alone;  // as long as the journal is written to
  const uint64_t stream;
  int64_t position;
  const double sync_seconds;
  FileSystem& files;
  std::vector<uint8_t> block = std::vector<uint8_t>(kRecordHeader + size_t(kMostJournalRecord));

  std::mutex mutex;  // of what follows
  std::shared_ptr<WritableFile> file;
  std::vector<std::shared_ptr<WritableFile>> left;  // full, and perhaps not all on the disk
  bool new_names = false;                           // which the folder's sync has not made safe yet
  struct Segment {
    int64_t number, begin;
  };
  std::deque<Segment> segments;

  int64_t number = 0, written = 0;  // of the open segment, and its bytes

  std::mutex one_sync;
  std::exception_ptr failed;  // what the first sync that failed threw
  Background syncing;         // the last member: it ends before what it uses

  void open(int64_t next_number) {
    const std::string path = directory + "/" + name_of(next_number);
    std::shared_ptr<WritableFile> next = files.create(path);
    uint8_t header[kHeader];
    std::memcpy(header, kMark, sizeof(kMark));
    put(header + 4, kFormat);
    put(header + 8, stream);
    put(header + 16, crc32(std::span(header).first(kHeader - 4)));
    next->append(std::as_bytes(std::span(header)));
    number = next_number;
    written = int64_t(kHeader);
    const std::lock_guard lock(mutex);
    if (file) left.push_back(std::move(file));
    file = std::move(next);
    segments.push_back({number, position});
    new_names = true;
  }

  void write(JournalRecord::Kind kind, std::span<const uint8_t> bytes) {
    if (written >= kSegment) open(number + 1);
    const size_t whole = kRecordHeader + bytes.size();
    put(block.data() + 4, uint32_t(bytes.size()));
    put(block.data() + 8, position);
    block[16] = uint8_t(kind);
    std::copy(bytes.begin(), bytes.end(), block.begin() + int64_t(kRecordHeader));
    put(block.data(), check_of(stream, std::span(block).subspan(4, whole - 4)));
    file->append(std::as_bytes(std::span(block).first(whole)));
    written += int64_t(whole);
    if (kind == JournalRecord::Kind::kBytes) position += int64_t(bytes.size());
  }

  void sync() {
    const std::lock_guard alone(one_sync);
    if (failed) std::rethrow_exception(failed);
    try {
      sync_files();
    } catch (...) {
      failed = std::current_exception();
      throw;
    }
  }

  void sync_files() {
    std::vector<std::shared_ptr<WritableFile>> full;
    std::shared_ptr<WritableFile> open;
    bool names = false;
    {
      const std::lock_guard lock(mutex);
      full.swap(left);
      open = file;
      names = std::exchange(new_names, false);
    }
    for (const auto& f : full) {
      f->sync();
      f->close();
    }
    open->sync();
    if (names) files.sync_directory(directory);
  }
};

std::unique_ptr<FileLock> lock_journal(const std::string& directory, FileSystem& files) {
  auto lock = files.lock(directory, true, 0);
  if (!lock) fail("writing to {}: another process is doing so; end it, or choose another folder", directory);
  return lock;
}

Journal::Journal(const std::string& directory, uint64_t stream, int64_t position, double sync_seconds,
                 FileSystem& files, std::unique_ptr<FileLock> lock)
    : impl_(std::make_unique<Impl>(directory, stream, position, sync_seconds, files)) {
  Impl& j = *impl_;
  files.make_directory(directory);
  j.alone = lock ? std::move(lock) : lock_journal(directory, files);
  auto found = segments_of(directory, files);
  const auto removed = [&](const std::pair<int64_t, std::string>& segment) {
    const int64_t begin = begin_of(segment.second, stream, files);
    if (0 <= begin && begin <= position) return false;
    files.remove(segment.second);
    return true;
  };
  // From the last one on: a kill in between leaves a journal that ends early, never one with a hole.
  while (!found.empty() && removed(found.back())) found.pop_back();
  for (const auto& segment : found)
    if (!removed(segment)) j.segments.push_back({segment.first, begin_of(segment.second, stream, files)});
  j.open(found.empty() ? 1 : found.back().first + 1);
}

Journal::~Journal() = default;

void Journal::append(std::span<const uint8_t> bytes) {
  impl_->syncing.check();
  while (!bytes.empty()) {
    const size_t n = std::min(bytes.size(), size_t(kMostJournalRecord));
    impl_->write(JournalRecord::Kind::kBytes, bytes.first(n));
    bytes = bytes.subspan(n);
  }
  impl_->syncing.soon(impl_->sync_seconds);
}

void Journal::note(std::string_view text) {
  BROOD_ASSERT(int64_t(text.size()) <= kMostJournalRecord);
  impl_->write(JournalRecord::Kind::kNote, {reinterpret_cast<const uint8_t*>(text.data()), text.size()});
  impl_->syncing.soon(impl_->sync_seconds);
}

void Journal::sync() { impl_->sync(); }

void Journal::forget_before(int64_t position) {
  for (;;) {
    std::string path;
    {
      const std::lock_guard lock(impl_->mutex);
      auto& segments = impl_->segments;
      if (segments.size() < 2 || segments[1].begin > position) return;
      path = impl_->directory + "/" + name_of(segments[0].number);
      segments.pop_front();
    }
    impl_->files.remove(path);
  }
}

int64_t Journal::position() const { return impl_->position; }

}  // namespace brood
