#include "brood/learn/pack.h"

#include <algorithm>
#include <array>
#include <vector>

#include "brood/base/crc32.h"
#include "brood/base/error.h"
#include "brood/learn/arithmetic_coder.h"
#include "brood/learn/bit_predictor.h"

namespace brood {

namespace {

constexpr std::array<uint8_t, 4> kMagic = {'B', 'R', 'P', 'K'};
// Raised by whoever changes the bytes, or anything that a prediction depends on.
constexpr uint8_t kFormat = 2;
constexpr size_t kBlock = size_t(1) << 18;  // plain bytes of all blocks but the last
constexpr size_t kProgress = 1024;          // bytes between two reports

// What this build computes, in a number: the predictions of some bytes that exercise every part.
uint32_t computed() {
  BitPredictor predictor({.log2_memory = kLeastPackMemory});
  uint32_t sum = 0, chance = 1;
  for (int i = 0; i < 192; ++i) {
    chance = chance * 1664525 + 1013904223;
    const uint32_t byte = i % 64 < 48 ? uint32_t("the sea, the sky\n"[i % 17]) : chance >> 24;
    for (int bit = 7; bit >= 0; --bit) {
      const uint32_t p = coded_probability(predictor.p());
      const std::array<uint8_t, 2> bytes = {uint8_t(p >> 8), uint8_t(p)};
      sum = crc32(bytes, sum);
      predictor.learn(int(byte >> bit & 1));
    }
  }
  return sum;
}

uint32_t computed_here() {
  static const uint32_t sum = computed();
  return sum;
}

// What a packed file is written with. Nothing goes out before flush().
class Writer {
 public:
  explicit Writer(const PackWrite& write) : write_(write) {}

  std::vector<uint8_t>& pending() { return pending_; }
  void byte(uint8_t value) { pending_.push_back(value); }
  void number(uint64_t value, int bytes) {
    for (int i = 0; i < bytes; ++i) byte(uint8_t(value >> (8 * i)));
  }
  // Seven bits in each byte, the lowest first; the highest bit says that more follow.
  void length(uint64_t value) {
    for (; value >= 128; value >>= 7) byte(uint8_t(value | 128));
    byte(uint8_t(value));
  }
  void bytes(std::span<const uint8_t> bytes) { pending_.insert(pending_.end(), bytes.begin(), bytes.end()); }
  void text(const std::string& text) {
    BROOD_ASSERT(text.size() <= kMostPackName);
    length(text.size());
    pending_.insert(pending_.end(), text.begin(), text.end());
  }
  void flush() {
    write_(pending_);
    written_ += int64_t(pending_.size());
    pending_.clear();
  }
  int64_t written() const { return written_; }

 private:
  const PackWrite& write_;
  std::vector<uint8_t> pending_;
  int64_t written_ = 0;
};

class Reader {
 public:
  Reader(PackRead read, std::string name)
      : name_(std::move(name)), read_(std::move(read)), buffer_(size_t(1) << 16) {}

  const std::string& name() const { return name_; }
  [[noreturn]] void fail_damaged(int64_t bytes = 0) const {
    fail("unpack: {} is damaged; only the first {} bytes of what was packed can be had", name_, bytes);
  }

  bool at_end() {
    if (at_ < size_) return false;
    at_ = 0;
    size_ = read_(buffer_);
    return size_ == 0;
  }
  uint8_t byte() {
    if (at_end()) fail("unpack: {} ends too early; it was cut short", name_);
    ++taken_;
    return buffer_[at_++];
  }
  uint64_t number(int bytes) {
    uint64_t value = 0;
    for (int i = 0; i < bytes; ++i) value |= uint64_t(byte()) << (8 * i);
    return value;
  }
  uint64_t length() {
    uint64_t value = 0;
    for (int shift = 0; shift < 63; shift += 7) {
      const uint8_t next = byte();
      value |= uint64_t(next & 127) << shift;
      if (next < 128) return value;
    }
    fail_damaged();
  }
  std::string text() {
    const uint64_t size = length();
    if (size > kMostPackName) fail_damaged();
    std::string text;
    while (text.size() < size) text.push_back(char(byte()));
    return text;
  }
  int64_t taken() const { return taken_; }

 private:
  const std::string name_;
  PackRead read_;
  std::vector<uint8_t> buffer_;
  size_t at_ = 0, size_ = 0;
  int64_t taken_ = 0;
};

// What stands in the header, checked by what follows it.
uint32_t check_of(const PackModel& model) {
  std::vector<uint8_t> bytes = {uint8_t(model.log2_memory)};
  for (int i = 0; i < 8; ++i) bytes.push_back(uint8_t(model.fingerprint >> (8 * i)));
  bytes.insert(bytes.end(), model.network.begin(), model.network.end());
  bytes.insert(bytes.end(), model.arithmetic.begin(), model.arithmetic.end());
  return crc32(bytes);
}

// The learner that both sides run. code(bit) for each bit of each byte, in order.
class Learner {
 public:
  Learner(const PackModel& model, ByteOpinion* network)
      : predictor_({.log2_memory = model.log2_memory, .network = network != nullptr}), network_(network) {
    BROOD_ASSERT(model.network.empty() == (network == nullptr));
  }

  // coded(p) gives, or takes, the next bit. Returns the byte.
  template <class Coded>
  uint8_t byte(const Coded& coded) {
    if (network_) predictor_.set_bytes(network_->next());
    uint32_t byte = 0;
    for (int i = 7; i >= 0; --i) {
      const int bit = coded(i, coded_probability(predictor_.p()));
      predictor_.learn(bit);
      byte = byte << 1 | uint32_t(bit);
    }
    if (network_) network_->see(uint8_t(byte));
    return uint8_t(byte);
  }

 private:
  BitPredictor predictor_;
  ByteOpinion* network_;
};

// As many bytes as fit into the block, fewer only at the end.
size_t fill(const PackRead& read, std::span<uint8_t> block) {
  size_t filled = 0;
  while (filled < block.size()) {
    const size_t n = read(block.subspan(filled));
    if (n == 0) break;
    filled += n;
  }
  return filled;
}

}  // namespace

Packed pack(const PackModel& model, ByteOpinion* network, const PackRead& read, const PackWrite& write,
            const PackProgress& progress) {
  Writer out(write);
  for (const uint8_t letter : kMagic) out.byte(letter);
  out.byte(kFormat);
  out.number(computed_here(), 4);
  out.byte(uint8_t(model.log2_memory));
  out.text(model.network);
  if (network) {
    out.number(model.fingerprint, 8);
    out.text(model.arithmetic);
  }
  out.flush();

  Learner learner(model, network);
  Packed done{.packed = out.written()};
  uint32_t check = check_of(model);
  std::vector<uint8_t> block(kBlock), coded;
  while (const size_t n = fill(read, block)) {
    coded.clear();
    BitEncoder encoder(coded);
    for (size_t at = 0; at < n; ++at) {
      learner.byte([&](int place, CodedProbability p) {
        const int bit = block[at] >> place & 1;
        encoder.encode(bit, p);
        return bit;
      });
      ++done.bytes;
      done.packed = out.written() + int64_t(coded.size());
      if (progress && done.bytes % kProgress == 0) progress(done);
    }
    encoder.finish();
    const std::span<const uint8_t> plain(block.data(), n);
    const bool stored = coded.size() >= n;  // nothing to be learnt: the bytes as they are
    check = crc32(plain, check);
    out.length(n);
    out.length(stored ? 0 : coded.size());
    out.number(check, 4);
    out.bytes(stored ? plain : coded);
    out.flush();
  }
  out.length(0);
  out.length(uint64_t(done.bytes));
  out.number(check, 4);
  out.flush();
  done.packed = out.written();
  return done;
}

struct Unpacker::Impl {
  Impl(PackRead read, const std::string& name) : in(std::move(read), name) {}
  Reader in;
  PackModel model;
  uint32_t check = 0;
};

Unpacker::Unpacker(PackRead read, const std::string& name)
    : impl_(std::make_unique<Impl>(std::move(read), name)) {
  Reader& in = impl_->in;
  for (const uint8_t letter : kMagic)
    if (in.at_end() || in.byte() != letter) fail("unpack: {} is no packed file", name);
  const int format = in.byte();
  if (format != kFormat)
    fail("unpack: {} is of format {} and this build knows {}; unpack it with the build that packed it", name,
         format, kFormat);
  if (in.number(4) != computed_here())
    fail("unpack: {} was packed by a build that computes other numbers than this one; use that build", name);
  PackModel& model = impl_->model;
  model.log2_memory = in.byte();
  if (model.log2_memory < kLeastPackMemory || model.log2_memory > kMostPackMemory) in.fail_damaged();
  model.network = in.text();
  if (!model.network.empty()) {
    model.fingerprint = in.number(8);
    model.arithmetic = in.text();
  }
  impl_->check = check_of(model);
}

Unpacker::~Unpacker() = default;

const PackModel& Unpacker::model() const { return impl_->model; }

Packed Unpacker::unpack(ByteOpinion* network, const PackWrite& write, const PackProgress& progress) {
  Reader& in = impl_->in;
  Learner learner(impl_->model, network);
  Packed done;
  std::vector<uint8_t> block, coded;
  while (const uint64_t n = in.length()) {
    const uint64_t size = in.length();
    const bool stored = size == 0;
    const int64_t before = in.taken();
    if (n > kBlock || size >= n) in.fail_damaged(done.bytes);
    const auto check = uint32_t(in.number(4));
    coded.clear();
    for (uint64_t i = 0; i < (stored ? n : size); ++i) coded.push_back(in.byte());
    BitDecoder decoder(coded);
    block.clear();
    while (block.size() < n) {
      block.push_back(learner.byte([&](int place, CodedProbability p) {
        return stored ? coded[block.size()] >> place & 1 : decoder.decode(p);
      }));
      ++done.bytes;
      done.packed = before + int64_t(coded.size() * block.size() / n);
      if (progress && done.bytes % kProgress == 0) progress(done);
    }
    impl_->check = crc32(block, impl_->check);
    if (check != impl_->check) in.fail_damaged(done.bytes - int64_t(n));
    write(block);
  }
  const uint64_t total = in.length();
  if (total != uint64_t(done.bytes) || in.number(4) != impl_->check || !in.at_end())
    in.fail_damaged(done.bytes);
  done.packed = in.taken();
  return done;
}

}  // namespace brood
