#include "brood/base/archive.h"

#include <cmath>
#include <cstring>

#include "brood/base/crc32.h"
#include "brood/base/error.h"

namespace brood {

Archive::Archive(std::span<const std::byte> bytes, std::string name)
    : reading_(true), left_(bytes), name_(std::move(name)) {}

void Archive::refuse(const char* what) const {
  fail("reading {}: {}; it is damaged, or of another version of this program", name_, what);
}

void Archive::raw(void* data, size_t n) {
  if (n == 0) return;
  if (!reading_) {
    const auto* bytes = static_cast<const std::byte*>(data);
    written_.insert(written_.end(), bytes, bytes + n);
    return;
  }
  if (n > left_.size()) refuse("it ends too early");
  std::memcpy(data, left_.data(), n);
  left_ = left_.subspan(n);
}

void Archive::whole(int64_t& value, int64_t least, int64_t most) {
  raw(&value, sizeof value);
  if (reading_ && (value < least || value > most)) refuse("a number in it cannot be");
}

void Archive::number(double& value, bool finite) { numbers({&value, 1}, finite); }

void Archive::numbers(std::span<double> values, bool finite) {
  raw(values.data(), values.size_bytes());
  if (!reading_ || !finite) return;
  for (const double value : values)
    if (!std::isfinite(value)) refuse("a number in it is not finite");
}

void Archive::floats(std::span<float> values, float least, float most) {
  raw(values.data(), values.size_bytes());
  if (!reading_) return;
  for (const float value : values)
    if (!(least <= value && value <= most)) refuse("a number in it cannot be");
}

void Archive::bytes(std::span<uint8_t> values) { raw(values.data(), values.size_bytes()); }

void Archive::text(std::string& value, size_t most) {
  int64_t size = int64_t(value.size());
  whole(size, 0, int64_t(most));
  if (reading_ && size_t(size) > left_.size()) refuse("it ends too early");
  value.resize(size_t(size));
  raw(value.data(), value.size());
}

void Archive::list(std::vector<double>& values, size_t most) {
  int64_t size = int64_t(values.size());
  whole(size, 0, int64_t(most));
  if (reading_ && size_t(size) > left_.size() / sizeof(double)) refuse("it ends too early");
  values.resize(size_t(size));
  numbers(values);
}

void Archive::expect(double bytes) const {
  if (reading_ && bytes > double(left_.size())) refuse("it ends too early");
}

namespace {

constexpr size_t kCheckBytes = 4;

uint32_t check_of(std::span<const std::byte> bytes) {
  return crc32({reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()});
}

}  // namespace

std::vector<std::byte> Archive::take_checked() {
  std::vector<std::byte> bytes = take();
  const uint32_t check = check_of(bytes);
  for (size_t i = 0; i < kCheckBytes; ++i) bytes.push_back(std::byte(check >> 8 * i));
  return bytes;
}

std::span<const std::byte> Archive::checked(std::span<const std::byte> bytes, const std::string& name) {
  if (bytes.size() < kCheckBytes) fail("reading {}: it is too short for anything that was learnt", name);
  const auto body = bytes.first(bytes.size() - kCheckBytes);
  uint32_t check = 0;
  for (size_t i = 0; i < kCheckBytes; ++i) check |= uint32_t(bytes[body.size() + i]) << 8 * i;
  if (check != check_of(body)) fail("reading {}: it is damaged, or something else", name);
  return body;
}

void Archive::end() const {
  if (!left_.empty()) refuse("it has more bytes than belong to it");
}

}  // namespace brood
