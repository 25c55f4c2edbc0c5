// The files that a series is told in: rows, page.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "brood/base/exactly_once_file.h"
#include "brood/learn/series_file.h"

namespace brood::cli {

// Text that grows: a file, or standard output for "-".
class TextFile {
 public:
  // Goes on after the first `bytes` bytes; 0: it begins empty, when there is something to write.
  TextFile(const std::string& path, int64_t bytes);
  std::string& text() { return text_; }  // to be added to; written now and then
  bool begun() const { return bytes() + int64_t(text_.size()) > 0 || flushed_; }
  void flush_when_long();
  void flush();
  int64_t bytes() const { return file_ ? file_->bytes() : 0; }            // flushed, of a file
  const std::shared_ptr<ExactlyOnceFile>& file() const { return file_; }  // null: none yet
  void sync();

 private:
  std::string path_, text_;
  bool flushed_ = false;
  std::shared_ptr<ExactlyOnceFile> file_;
};

// Charts of each column: what came, what was expected, the interval, alarms; one file that fetches nothing.
std::string series_page(const SeriesPlot& plot, const std::vector<std::string>& columns,
                        const std::string& title, const std::string& summary);

// Refuses outputs that would overwrite the input, the save, each other, or, without `overwrite`, a file that is there and
// not `known` from the run that is gone on with. Throws Error.
struct NamedOutput {
  const char* option;
  std::string path;          // as given; empty: none
  const std::string* known;  // null: none
};
void check_outputs(const std::vector<NamedOutput>& outputs, const std::string& in, const std::string& save,
                   bool overwrite);

}  // namespace brood::cli
