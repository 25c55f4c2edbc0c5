// DNA as text: FASTA, or plain letters. Lines that begin with > name a new sequence, lines with ; are remarks; white space
// and the digits of numbered lines mean nothing, and both cases are read alike.
#pragma once

#include <cstdint>
#include <span>
#include <string>

namespace brood {

// What is read, in order. A, C, G, T (and U) are bases 0, 1, 2, 3; the other letters of the code (IUPAC: N, R, Y, ...) and
// gaps (-, .) stand for a base that is not known.
class FastaSink {
 public:
  virtual ~FastaSink() = default;
  virtual void begin_sequence(const std::string& name) = 0;
  virtual void base(int base) = 0;
  virtual void unknown() = 0;
};

// Bytes in any portions. Not thread-safe.
class FastaReader {
 public:
  explicit FastaReader(std::string name) : name_(std::move(name)) {}  // of the file, for messages

  // Throws Error at the first byte that no FASTA file has, with its line.
  void read(std::span<const uint8_t> bytes, FastaSink& sink);
  // The last line may lack its end.
  void finish(FastaSink& sink);

 private:
  enum class Line { kBegins, kBases, kName, kRemark };

  void name_byte(uint8_t byte);
  [[noreturn]] void refuse(uint8_t byte) const;

  std::string name_, sequence_;
  Line line_ = Line::kBegins;
  int64_t number_ = 1;  // of the line
};

}  // namespace brood
