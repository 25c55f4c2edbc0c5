#include "brood/cli/live_dna.h"

#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <bit>
#include <chrono>
#include <filesystem>
#include <memory>
#include <vector>

#include "brood/base/chart.h"
#include "brood/base/csv.h"
#include "brood/base/directories.h"
#include "brood/base/error.h"
#include "brood/base/memory.h"
#include "brood/base/page.h"
#include "brood/base/progress.h"
#include "brood/cli/input.h"
#include "brood/cli/interrupt.h"
#include "brood/cli/numbers.h"
#include "brood/cli/output.h"
#include "brood/cli/series_output.h"
#include "brood/learn/kept.h"
#include "brood/learn/nucleotide_file.h"
#include "brood/senses/fasta.h"

namespace brood::cli {
namespace {

struct DnaStream {
  std::string in, model, save;  // model: a folder to go on from; empty: begin anew
  bool overwrite;
  double save_every;
  int64_t megabytes;      // of the large tables; a power of two
  int64_t window;         // bases that a row of `out` and a point of `page` are about
  std::string out, page;  // empty: none
};

using Clock = std::chrono::steady_clock;

std::unique_ptr<NucleotideLearner> learner_for(const DnaStream& stream) {
  if (!stream.model.empty()) return read_nucleotides(nucleotide_file(stream.model));
  constexpr int kLog2BytesASlot = 5, kMegabyte = 20;
  if (stream.megabytes < 2 || !std::has_single_bit(uint64_t(stream.megabytes)))
    fail("--memory {}: for DNA it must be a power of two, such as {}", stream.megabytes,
         std::bit_ceil(uint64_t(std::max<int64_t>(stream.megabytes, 2))));
  const int log2_slots = kMegabyte - kLog2BytesASlot + std::countr_zero(uint64_t(stream.megabytes));
  require_memory(2 * double(stream.megabytes) * double(1 << kMegabyte),
                 fmt::format("--memory {}: such a memory", stream.megabytes), "ask for less");
  return std::make_unique<NucleotideLearner>(NucleotideSettings{.log2_slots = log2_slots});
}

// What each window of the stream cost, as rows and as a line to look at.
class Profile {
 public:
  explicit Profile(const DnaStream& stream) : window_(stream.window) {
    if (!stream.out.empty()) file_ = std::make_unique<TextFile>(stream.out, 0);
    if (file_) file_->text() += "sequence,begin,end,bits_per_base\n";
  }

  void begin_sequence(const std::string& name, int64_t at) {
    end_window(at);
    name_ = name;
  }
  void add(double bits, int64_t at) {
    if (bases_ == 0) begin_ = at;
    bits_ += bits;
    if (++bases_ == window_) end_window(at + 1);
  }
  void end_window(int64_t end) {
    if (bases_ == 0) return;
    const double mean = bits_ / double(bases_);
    if (file_) {
      add_field(file_->text(), name_);
      fmt::format_to(std::back_inserter(file_->text()), ",{},{},{:.4f}\n", begin_, end, mean);
    }
    passed_ += end - begin_;
    add_point({double(passed_) - double(end - begin_) / 2, mean});
    bits_ = 0;
    bases_ = 0;
  }
  void flush() {
    if (file_) file_->flush();
  }
  void finish() {
    if (!file_) return;
    file_->flush();
    file_->sync();
  }
  std::string html(const std::string& title, const std::string& summary) const {
    Chart chart{.title = "surprise along the sequence", .x_label = "base", .y_label = "bits per base"};
    ChartLine line{.name = "bits per base", .colour = 0, .points = points_};
    if (in_sum_ > 0) line.points.emplace_back(sum_.first / double(in_sum_), sum_.second / double(in_sum_));
    chart.lines.push_back(std::move(line));
    return html_page(title, summary, "<div class=\"charts\">\n" + chart_svg(chart) + "</div>\n");
  }

 private:
  using Point = std::pair<double, double>;  // bases that came before its middle, bits per base

  // At most kMostPoints of them: then two neighbours become their mean.
  void add_point(Point point) {
    constexpr size_t kMostPoints = 4000;
    sum_ = {sum_.first + point.first, sum_.second + point.second};
    if (++in_sum_ < stride_) return;
    points_.emplace_back(sum_.first / double(stride_), sum_.second / double(stride_));
    sum_ = {};
    in_sum_ = 0;
    if (points_.size() < kMostPoints) return;
    for (size_t i = 0; i < kMostPoints / 2; ++i) {
      const Point &one = points_[2 * i], &next = points_[2 * i + 1];
      points_[i] = {(one.first + next.first) / 2, (one.second + next.second) / 2};
    }
    points_.resize(kMostPoints / 2);
    stride_ *= 2;
  }

  const int64_t window_;
  std::unique_ptr<TextFile> file_;
  std::string name_;
  double bits_ = 0;
  int64_t bases_ = 0, begin_ = 0;  // of this window
  int64_t passed_ = 0;             // letters in all windows before it
  std::vector<Point> points_;
  Point sum_;
  int64_t in_sum_ = 0, stride_ = 1;
};

class DnaRun final : public FastaSink {
 public:
  DnaRun(const DnaStream& stream, const Common& common)
      : stream_(stream), common_(common), profile_(stream) {}

  int run() {
    check();
    learner_ = learner_for(stream_);
    ByteStream bytes = open_sources(std::span(&stream_.in, 1));
    begin_ = Clock::now();
    try {
      read(bytes);
    } catch (const ClosedPipe&) {
      save();
      throw;
    } catch (const Error& error) {
      save();
      if (stream_.save.empty()) throw;
      fail_as(error,
              fmt::format("{} (what was learnt until then is saved in {})", error.what(), stream_.save));
    }
    profile_.end_window(at_);
    const double seconds = seconds_since(begin_);
    save();
    profile_.finish();
    report(seconds);
    return interrupted() ? interrupted_exit_code() : 0;
  }

  void begin_sequence(const std::string& name) override {
    profile_.begin_sequence(name, at_);
    learner_->interrupt();
    ++sequences_;
    at_ = 0;
  }
  void base(int base) override {
    const double bits = learner_->observe(base);
    bits_ += bits;
    ++bases_;
    profile_.add(bits, at_++);
  }
  void unknown() override {
    learner_->interrupt();
    ++unknown_;
    ++at_;
  }

 private:
  static double seconds_since(Clock::time_point begin) {
    return std::chrono::duration<double>(Clock::now() - begin).count();
  }
  void check() {
    if (common_.json && stream_.out == "-")
      fail("live: --json and the rows both want standard output; name a file by --out");
    check_outputs({{"--out", stream_.out, nullptr}, {"--page", stream_.page, nullptr}}, stream_.in,
                  stream_.save, stream_.overwrite);
    if (stream_.save.empty()) return;
    require_room_for(Kept::kDna, stream_.save);
    std::error_code absent;
    const bool same =
        !stream_.model.empty() && std::filesystem::equivalent(stream_.save, stream_.model, absent);
    if (holds_nucleotides(stream_.save) && !same && !stream_.overwrite)
      fail(
          "saving to {}: it already holds what was learnt of DNA; go on with --model {}, or start over with "
          "--overwrite",
          stream_.save, stream_.save);
    make_directories(FileSystem::real(), stream_.save);
    constexpr double kWait = 1;  // seconds
    alone_ = FileSystem::real().lock(stream_.save, true, kWait);
    if (!alone_)
      fail("saving to {}: another process learns there; name another folder, or wait", stream_.save);
    require_writable(nucleotide_file(stream_.save));
  }

  void read(ByteStream& bytes) {
    ProgressLine line(STDERR_FILENO);
    FastaReader reader(stream_.in == "-" ? "standard input" : stream_.in);
    std::vector<uint8_t> block(size_t(1) << 16);
    auto saved = begin_;
    while (wait_for(stream_.in)) {
      const auto n = size_t(bytes.read(block));
      if (n == 0) break;
      reader.read(std::span(block).first(n), *this);
      profile_.flush();
      if (line.due())
        line.show(fmt::format("{} bases, {:.0f}/s, {:.4f} bits per base", bases_,
                              double(bases_) / seconds_since(begin_), bits_per_base()));
      if (seconds_since(saved) >= stream_.save_every) {
        save();
        saved = Clock::now();
      }
      if (interrupted()) break;
    }
    reader.finish(*this);
  }

  void save() {
    if (!stream_.save.empty()) write_nucleotides(nucleotide_file(stream_.save), *learner_);
  }
  double bits_per_base() const { return bases_ == 0 ? 0 : bits_ / double(bases_); }

  void report(double seconds) const {
    const double rate = seconds > 0 ? double(bases_) / seconds : 0;
    const std::string summary =
        fmt::format("{} bases in {} ({:.0f}/s): {:.4f} bits per base, 2 without learning{}", bases_,
                    duration_text(seconds), rate, bits_per_base(),
                    unknown_ == 0 ? "" : fmt::format("; {} letters that are no known base", unknown_));
    say(summary + (stream_.save.empty() ? "" : "; saved in " + stream_.save));
    if (!stream_.page.empty()) {
      const std::string html = profile_.html(stream_.in == "-" ? "DNA" : stream_.in, summary);
      write_durably(FileSystem::real(), stream_.page, std::as_bytes(std::span(html)));
    }
    if (common_.json)
      write_json({{"bases", bases_},
                  {"unknown", unknown_},
                  {"sequences", sequences_},
                  {"bits_per_base", bits_per_base()},
                  {"seconds", rounded(seconds)},
                  {"bases_per_second", rounded(rate)},
                  {"peak_memory_bytes", peak_memory_bytes()}});
  }

  const DnaStream& stream_;
  const Common& common_;
  std::unique_ptr<FileLock> alone_;  // nobody else goes on with what --save holds; may be null
  std::unique_ptr<NucleotideLearner> learner_;
  Profile profile_;
  Clock::time_point begin_ = Clock::now();
  double bits_ = 0;
  int64_t bases_ = 0, unknown_ = 0, sequences_ = 0;
  int64_t at_ = 0;  // in this sequence, unknown letters included
};

}  // namespace

DnaVerb::DnaVerb(CLI::App& app) : app_(app), window_(std::make_shared<int64_t>(1000)) {
  app.add_option("--window", *window_, "bases that a row of --out and a point of --page are about")
      ->capture_default_str()
      ->check(whole(1, kAnyCount))
      ->type_name("N")
      ->group("DNA (--as dna; with --out and --page)");
}

bool DnaVerb::wanted(const SeriesVerb& series) const {
  if (series.as() == "dna") return true;
  if (app_.count("--window") > 0) fail("live: --window goes with --as dna; add that, or leave it out");
  return false;
}

int DnaVerb::run(const LiveOptions& live, const SeriesVerb& series, const Common& common) const {
  constexpr std::string_view kKnown[] = {"--as",        "--in",     "--model", "--save", "--save-every",
                                         "--overwrite", "--memory", "--out",   "--page", "--window",
                                         "--threads",   "--seed",   "--json",  "--help"};
  for (const CLI::Option* option : app_.get_options())
    if (option->count() > 0 &&
        std::find(std::begin(kKnown), std::end(kKnown), option->get_name()) == std::end(kKnown))
      fail("live: {} is for other streams; leave it out, or --as dna", option->get_name());
  if (!live.start.model.empty() && live.start.episodic.said)
    fail("live: --memory is what {} was begun with; leave it out, or begin anew without --model",
         live.start.model);
  if (app_.count("--window") > 0 && series.options().out.empty() && series.options().page.empty())
    fail("live: --window goes with --out or --page; add one of them, or leave it out");
  const DnaStream stream{.in = live.start.in,
                         .model = live.start.model,
                         .save = live.start.save,
                         .overwrite = live.start.overwrite,
                         .save_every = live.save_every,
                         .megabytes = live.start.episodic.said ? live.start.episodic.megabytes : 128,
                         .window = *window_,
                         .out = series.options().out,
                         .page = series.options().page};
  return DnaRun(stream, common).run();
}

}  // namespace brood::cli
