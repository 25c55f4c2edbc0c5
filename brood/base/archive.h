// One description for both ways of a saved state: a class says once, in its archive(), what it consists of, and
// the same lines write it and read it back, to the bit.
//
// Reading believes nothing: every number of bytes follows from what the reader expects, whole numbers lie in
// the range that is given, and doubles are finite unless said otherwise. Byte order is the machine's; a file
// says which (its magic number).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace brood {

// Not thread-safe.
class Archive {
 public:
  Archive() = default;                                          // writes
  Archive(std::span<const std::byte> bytes, std::string name);  // reads; name begins every message

  bool reading() const { return reading_; }
  // Each throws Error when what is read is not so.
  void whole(int64_t& value, int64_t least, int64_t most);
  void number(double& value, bool finite = true);
  void numbers(std::span<double> values, bool finite = true);
  void floats(std::span<float> values, float least, float most);  // all within [least, most]
  void bytes(std::span<uint8_t> values);
  // A text or a list of doubles whose length is its own, at most `most`.
  void text(std::string& value, size_t most);
  void list(std::vector<double>& values, size_t most);
  // Throws Error when what is read holds fewer bytes than must follow: before memory is taken for them.
  void expect(double bytes) const;
  void end() const;  // throws Error when bytes are left

  std::vector<std::byte> take() { return std::move(written_); }
  // The same with a check behind it (CRC-32, 4 bytes, the lowest first), and what stands before the check of such bytes.
  std::vector<std::byte> take_checked();
  static std::span<const std::byte> checked(std::span<const std::byte> bytes, const std::string& name);
  [[noreturn]] void refuse(const char* what) const;

 private:
  void raw(void* data, size_t n);

  bool reading_ = false;
  std::span<const std::byte> left_;
  std::vector<std::byte> written_;
  std::string name_;
};

// Bytes of what archive() of `it` writes.
template <class T>
double archived_bytes(T&& it) {
  Archive archive;
  it.archive(archive);
  return double(archive.take().size());
}

}  // namespace brood
