#include "brood/cli/series_run.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <optional>
#include <span>
#include <utility>

#include "brood/base/error.h"
#include "brood/base/progress.h"
#include "brood/cli/input.h"
#include "brood/cli/interrupt.h"
#include "brood/cli/live_source.h"
#include "brood/cli/output.h"
#include "brood/cli/series_figures.h"
#include "brood/cli/series_output.h"
#include "brood/cli/series_start.h"
#include "brood/learn/series_folder.h"
#include "brood/learn/series_text.h"
#include "brood/senses/table.h"

namespace brood::cli {
namespace {

using Clock = std::chrono::steady_clock;

constexpr size_t kMostSaidBytes = 256;  // of a time or a reason that is kept

double seconds_since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

class SeriesRun {
 public:
  SeriesRun(const SeriesOptions& options, const Common& common) : options_(options), common_(common) {}

  int run() {
    if (common_.json && (options_.out == "-" || options_.rejects == "-"))
      fail("live: --json and the rows both want standard output; name a file by --out, or --rejects");
    check({}, options_.overwrite || !options_.save.empty());  // before anything is made
    SeriesBeginning begun = begin_series(options_);
    kept_ = std::move(begun.kept);
    check(*kept_.stream, options_.overwrite);
    const bool is_known = !kept_.stream->source.name.empty();
    OpenedSource opened = open_source(
        options_.in, is_known ? std::optional(kept_.stream->source) : std::nullopt, options_.again);
    if (options_.in == "-" && isatty(STDIN_FILENO)) say("live: reading what you type; Ctrl-D ends it");
    if (!options_.save.empty()) folder_.emplace(options_.save, std::move(begun.alone));
    begin_ = Clock::now();
    begin(opened);
    before_ = stream().rows;
    try {
      const bool all = read_journal(opened);
      if (all && opened.goes_on) say(going_on());
      if (all) read(opened);
    } catch (const ClosedPipe&) {
      end();
      throw;
    }
    end();
    if (stream().rows == 0 && stream().rejected > 0 && stream().source.ended)
      fail("live: all {} of {} were rejected; the first, {}", counted(stream().rejected, "row"), in_words(),
           stream().first_rejected);
    report();
    return interrupted() ? interrupted_exit_code() : 0;
  }

 private:
  SeriesStream& stream() { return *kept_.stream; }
  const SeriesStream& stream() const { return *kept_.stream; }
  std::string in_words() const { return options_.in == "-" ? "standard input" : options_.in; }

  void check(const SeriesStream& known, bool overwrite) const {
    check_outputs({{"--out", options_.out, &known.out.path},
                   {"--rejects", options_.rejects, &known.rejects.path},
                   {"--page", options_.page, &known.page.path}},
                  options_.in, options_.save, overwrite);
  }

  // --- where it begins ---

  void begin(const OpenedSource& opened) {
    make_reader();
    const bool left =
        !opened.goes_on && folder_ && stream().journal != 0;  // another source: a pipe's last rows
    if (opened.goes_on || left) restore_reader();
    name_outputs();
    if (left && !learn_the_rest()) return;
    if (!opened.goes_on) {
      stream().source = opened.source;
      stream().journal = 0;
      begin_figures();
    }
    const bool pipe = opened.stream.total() < 0;
    const bool anew = !opened.goes_on || (pipe && stream().journal == 0);
    if (pipe && stream().journal == 0 && folder_) stream().journal = new_stream_name();
    if (!pipe) stream().journal = 0;
    if (folder_ && anew) save_and_wait();
  }

  std::string going_on() const {
    if (stream().source.ended)
      return fmt::format("live: {} was read to its end, {} bytes; going on with what has come since",
                         in_words(), stream().source.taken);
    return fmt::format("live: going on with {} after its first {} bytes", in_words(), stream().source.taken);
  }

  void make_reader() {
    const auto rejected = [this](const RejectedRow& row) { reject(row); };
    const auto told = [](const std::string& sentence) { say("live: " + sentence); };
    const TableSettings table = kept_.columns.empty()
                                    ? TableSettings{options_.columns, options_.time, options_.label}
                                    : TableSettings{kept_.columns, kept_.time, kept_.label};
    reader_.emplace(table, rejected, told);
  }

  void restore_reader() {
    Archive archive(std::as_bytes(std::span(stream().reader)), "what the save says of the table");
    reader_->archive(archive);
    archive.end();
    if (!kept_.columns.empty() && !reader_->columns().empty() && reader_->columns() != kept_.columns)
      archive.refuse("its columns are not those of the series");
  }

  void begin_figures() {
    stream().rows = stream().rejected = stream().late = 0;
    stream().first_rejected.clear();
    if (kept_.forecasts) kept_.forecasts->begin_scores();
    if (kept_.classes) kept_.classes->begin_scores();
  }

  // Those that the save knows are gone on with where they were then.
  void name_outputs() {
    const auto name = [](SeriesStream::Output& output, const std::string& path) {
      const std::string whole = path.empty() || path == "-" ? path : source_name(path);
      if (output.path != whole) output = {whole, 0};
    };
    name(stream().out, options_.out);
    name(stream().rejects, options_.rejects);
    name(stream().page, options_.page);
    if (!options_.out.empty()) out_.emplace(stream().out.path, stream().out.bytes);
    if (!options_.rejects.empty()) rejects_.emplace(stream().rejects.path, stream().rejects.bytes);
    if (options_.page.empty()) stream().plot.reset();
    if (rejects_ && !rejects_->begun()) add_rejected_head(rejects_->text());
  }

  // The journal of a source that is not gone on with, to its end. False when Ctrl-C came.
  bool learn_the_rest() {
    take_rows();
    learn_journal();
    if (interrupted()) return false;
    reader_->finish();
    take_rows();
    make_reader();
    return !interrupted();
  }

  void learn_journal() {
    const auto again = [this](std::span<const uint8_t> bytes) {
      take(bytes);
      return !interrupted();
    };
    const StreamPlace place{stream().journal, stream().source.taken, 0};
    const int64_t damage = read_after(options_.save, place, {[](const StreamSource&) {}, [] {}, again});
    if (damage > 0)
      say(fmt::format("live: {} at the end of the journal in {} are damaged and left out",
                      bytes_text(double(damage)), options_.save));
  }

  // What came after the save and is in the journal: learnt again. False when Ctrl-C came.
  bool read_journal(const OpenedSource& opened) {
    take_rows();
    if (interrupted()) return false;
    if (!folder_ || stream().journal == 0) return true;
    if (opened.goes_on) learn_journal();
    if (interrupted()) return false;  // the journal's end is still to be read
    wait_for_save();
    folder_->keep_input(stream().journal, stream().source.taken, options_.sync_every);
    return true;
  }

  // --- rows ---

  void read(OpenedSource& opened) {
    std::vector<uint8_t> block(size_t(1) << 16);
    while (wait_for(options_.in, [this] { save_when_due(); })) {
      const size_t n = read_some(opened.stream, block);
      if (n == 0) return stream().source.ended ? void() : end_source();
      const auto bytes = std::span(block).first(n);
      if (stream().source.ended) begin_figures();  // a file that has grown since
      stream().source.ended = false;
      if (folder_) folder_->append(bytes);
      take(bytes);
    }
  }

  // What was learnt before a stream broke is kept.
  size_t read_some(ByteStream& bytes, std::span<uint8_t> block) {
    try {
      return size_t(bytes.read(block));
    } catch (const Error& error) {
      if (!folder_) throw;
      end();
      fail_as(error,
              fmt::format("{} (what was learnt until then is saved in {})", error.what(), options_.save));
    }
  }

  void end_source() {
    reader_->finish();
    take_rows();
    changed_ = true;
    stream().source.ended = !interrupted();
  }

  void take(std::span<const uint8_t> bytes) {
    stream().source.take(bytes);
    reader_->feed(bytes);
    changed_ = true;
    take_rows();
  }

  // Rows are forecast, learnt and written as they come; whoever waits at the other end of a pipe gets them.
  void take_rows() {
    constexpr int64_t kLookAround = 16;  // rows, some of which take milliseconds each
    TableRow row;
    while (!interrupted() && reader_->next(row)) {
      observe(row);
      if (stream().rows % kLookAround == 0) look_around();
    }
    look_around();
    if (out_) out_->flush();
    if (rejects_) rejects_->flush();
  }

  void look_around() {
    if (line_.due())
      line_.show(
          fmt::format("{}, {:.0f}/s, {} rejected", counted(stream().rows, "row"), rate(), stream().rejected));
    save_when_due();
  }

  double rate() const {
    const double seconds = seconds_since(begin_);
    return seconds > 0 ? double(stream().rows - before_) / seconds : 0;
  }

  void begin_learning() {
    kept_.columns = reader_->columns();
    kept_.time = reader_->time_column();
    check_series(kept_);
    kept_.begin();
  }

  void begin_out() {
    const RowFormat format = format_of(stream().out.path);
    if (kept_.classes)
      add_class_head(out_->text(), format);
    else
      add_series_head(out_->text(), format, kept_.columns);
  }

  void observe(const TableRow& row) {
    if (kept_.columns.empty()) begin_learning();
    if (out_ && !out_->begun()) begin_out();
    changed_ = true;  // also behind a save in the midst of a block
    const int64_t rows = ++stream().rows;
    const double gap = row.time - kept_.last_time;
    if (gap <= 0) ++stream().late;
    if (std::isfinite(row.time)) {
      kept_.last_time = row.time;
      stream().last_time.assign(row.time_text.substr(0, kMostSaidBytes));
    }
    if (kept_.classes)
      observe_class(row, rows);
    else
      observe_values(row, rows, gap);
    if (out_) out_->flush_when_long();
  }

  void observe_class(const TableRow& row, int64_t rows) {
    kept_.classes->observe(row.values, row.label);
    if (rows == options_.warm_up) kept_.classes->begin_scores();
    if (out_) add_class_row(out_->text(), format_of(stream().out.path), row, *kept_.classes);
  }

  void observe_values(const TableRow& row, int64_t rows, double gap) {
    SeriesLearner& learner = *kept_.forecasts;
    learner.observe(row.values, gap);
    if (rows == options_.warm_up) learner.begin_scores();
    if (out_)
      add_series_row(out_->text(), format_of(stream().out.path), kept_.columns, row, learner.reports());
    if (options_.page.empty()) return;
    if (!stream().plot) stream().plot.emplace(learner.columns());
    stream().plot->add(learner.rows() - 1, row.values, learner.reports());
  }

  void reject(const RejectedRow& row) {
    changed_ = true;
    if (stream().rejected++ == 0)
      stream().first_rejected = fmt::format("line {}: {}", row.line, row.reason.substr(0, kMostSaidBytes));
    if (!rejects_) return;
    add_rejected_row(rejects_->text(), row);
    rejects_->flush_when_long();
  }

  // --- saves ---

  void save_when_due() {
    if (!folder_ || seconds_since(saved_) < options_.save_every || folder_->saving()) return;
    note_failure();
    if (changed_) save();
  }

  // A save that failed is tried again: the journal, or the file, has what came since.
  void note_failure() {
    try {
      folder_->check();
    } catch (const Error& error) {
      say(fmt::format("live: {}; it will be tried again", error.what()));
      changed_ = true;
    }
  }

  void save() {
    if (out_) out_->flush();
    if (rejects_) rejects_->flush();
    if (out_) stream().out.bytes = out_->bytes();
    if (rejects_) stream().rejects.bytes = rejects_->bytes();
    Archive archive;
    reader_->archive(archive);
    const std::vector<std::byte> reader = archive.take();
    stream().reader.assign(reinterpret_cast<const char*>(reader.data()), reader.size());
    std::vector<std::shared_ptr<ExactlyOnceFile>> outputs;
    for (const auto* output : {&out_, &rejects_})
      if (*output && (*output)->file()) outputs.push_back((*output)->file());
    folder_->save(kept_, std::move(outputs));
    changed_ = false;
    saved_ = Clock::now();
  }

  void wait_for_save() {
    folder_->wait();
    note_failure();
  }

  void save_and_wait() {
    wait_for_save();
    save();
    folder_->wait();
    folder_->check();
  }

  void end() {
    if (folder_ && changed_) return save_and_wait();
    if (folder_) wait_for_save();
    if (out_) out_->sync();
    if (rejects_) rejects_->sync();
  }

  void report() const {
    const SeriesFigures figures = series_figures(kept_);
    const double seconds = seconds_since(begin_);
    const std::string summary = fmt::format("{} in {} ({:.0f}/s): {}", counted(stream().rows, "row"),
                                            duration_text(seconds), rate(), figures.sentence);
    say(summary + (options_.save.empty() ? "" : "; saved in " + options_.save));
    if (stream().plot) {
      const std::string html =
          series_page(*stream().plot, kept_.columns, options_.in == "-" ? "Series" : options_.in, summary);
      write_durably(FileSystem::real(), options_.page, std::as_bytes(std::span(html)));
    }
    if (!common_.json) return;
    nlohmann::json json = figures.json;
    json["seconds"] = rounded(seconds);
    json["rows_per_second"] = rounded(rate());
    json["peak_memory_bytes"] = peak_memory_bytes();
    write_json(json);
  }

  const SeriesOptions& options_;
  const Common& common_;
  KeptSeries kept_;
  std::optional<TableReader> reader_;
  std::optional<TextFile> out_, rejects_;
  ProgressLine line_{STDERR_FILENO};
  Clock::time_point begin_, saved_ = Clock::now();
  int64_t before_ = 0;
  bool changed_ = false;                // since the last save
  std::optional<SeriesFolder> folder_;  // the last member: it ends before what it saves
};

}  // namespace

int live_on_series(const SeriesOptions& options, const Common& common) {
  return SeriesRun(options, common).run();
}

}  // namespace brood::cli
