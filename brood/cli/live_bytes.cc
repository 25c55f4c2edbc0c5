#include "brood/cli/live_bytes.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "brood/base/progress.h"
#include "brood/cli/input.h"
#include "brood/cli/interrupt.h"
#include "brood/cli/live_options.h"
#include "brood/cli/live_source.h"
#include "brood/cli/output.h"
#include "brood/learn/live_folder.h"
#include "brood/learn/live_meter.h"

namespace brood::cli {
namespace {

using Clock = std::chrono::steady_clock;

double since(Clock::time_point begin) { return std::chrono::duration<double>(Clock::now() - begin).count(); }

double share(double sum, const Activity& activity) {
  return activity.samples == 0 ? 0 : sum / double(activity.samples);
}

std::string progress_text(const LiveMeter& meter, const Activity& activity, double rate, int64_t left) {
  std::string text =
      fmt::format("{} at {}/s, {}", bytes_text(double(meter.scored())), bytes_text(rate), meter.text());
  if (activity.samples > 0) text += fmt::format(", {:.1f} % awake", 100 * share(activity.active, activity));
  if (left > 0 && rate > 0) text += fmt::format(", {} left", duration_text(double(left) / rate));
  return text;
}

class Run {
 public:
  Run(const LiveOptions& options, const Common& common)
      : options_(options),
        common_(common),
        begun_(begin_live(options.start, common.seed)),
        guard_(*begun_.loaded.model, begun_.memory.state, fitted(options.live, *begun_.loaded.model),
               options.guard, events(), begun_.episodes.get()),
        meter_(guard_.learner()) {}

  int run() {
    OpenedSource opened =
        open_source(options_.start.in, begun_.stream ? std::optional(begun_.stream->source) : std::nullopt,
                    options_.again);
    if (options_.start.in == "-" && isatty(STDIN_FILENO)) say("live: reading what you type; Ctrl-D ends it");
    restore();
    if (!options_.start.save.empty()) open_folder(opened);
    begin_ = Clock::now();
    before_ = guard_.learner().scored();
    if (begun_.stream) read_journal(opened);
    if (!interrupted()) read(opened);
    if (folder_ && is_new()) {
      guard_.keep();
      save_and_wait();
    }
    report();
    return interrupted() ? interrupted_exit_code() : 0;
  }

 private:
  GuardEvents events() {
    return {
        .scored = [this] { meter_.tick(); },
        .kept = [this] { return stream_now().json(); },
        .went_back =
            [this](const nlohmann::json& notes) {
              meter_.restore(notes.at("meter"));
              say("live: it went back to its last good copy, and learns at half the rate");
            },
        .rejected = [this](int64_t position, std::span<const int32_t> bytes) { reject(position, bytes); }};
  }

  StoredStream stream_now() const {
    StoredStream stream;
    stream.name = stream_name_;
    stream.begun_with = begun_.begun_with;
    stream.meter = meter_.notes();
    stream.rejects_bytes = folder_ ? folder_->rejects_bytes() : 0;
    stream.notes = notes_;
    stream.source = source_;
    return stream;
  }

  // What the save knows.
  void restore() {
    LiveLearner& learner = guard_.learner();
    if (!begun_.optimiser.is_null()) learner.restore_optimiser(begun_.optimiser);
    if (begun_.memory.last >= 0) learner.begin_after(begun_.memory.last);
    if (begun_.learner.is_null()) return;
    saved_stream_ = begun_.stream ? stored_stream(begun_.learner) : std::nullopt;
    waiting_ = guard_.restore(begun_.learner, saved_stream_ ? saved_stream_->guard : nlohmann::json());
    meter_.begin();
    if (saved_stream_) {
      const StoredStream& saved = *saved_stream_;
      const int64_t from = guard_.needs_from();
      const auto past = journal_tokens(options_.start.save, saved.name, from, guard_.taken());
      if (int64_t(past.size()) < guard_.taken() - from)
        say(fmt::format("live: the journal in {} lacks {} of the past that rehearsal looks back on",
                        options_.start.save,
                        bytes_text(double(guard_.taken() - from) - double(past.size()))));
      guard_.remember(past);
      meter_.restore(saved.meter);
      source_ = saved.source;
      notes_ = saved.notes;
      stream_name_ = saved.name;
    }
    if (begun_.loaded.rehearsal) guard_.learner().remember_distant(*begun_.loaded.rehearsal);
    guard_.observe(waiting_);
  }

  void open_folder(OpenedSource& opened) {
    if (begun_.stream) {
      folder_.emplace(options_.start.save, with_rejects_of_save(), options_.sync_every,
                      std::move(begun_.alone));
      if (begun_.stream->damage > 0)
        say(fmt::format("live: {} at the end of the journal in {} are damaged and left out",
                        bytes_text(double(begun_.stream->damage)), options_.start.save));
      guard_.keep();
      return;
    }
    stream_name_ = new_stream_name();
    source_ = opened.source;
    opened.goes_on = true;  // the save says where it begins
    folder_.emplace(options_.start.save, stream_now(), options_.sync_every, std::move(begun_.alone));
    folder_->append(std::vector<uint8_t>(waiting_.begin(), waiting_.end()));
    guard_.keep();
    save_and_wait();
  }

  StoredStream with_rejects_of_save() const {
    StoredStream stream = *begun_.stream;
    stream.rejects_bytes = saved_stream_->rejects_bytes;
    return stream;
  }

  // What came after the save and is in the journal: learnt again, in the same way.
  void read_journal(const OpenedSource& opened) {
    const StoredStream& stream = *begun_.stream;
    ProgressLine line(STDERR_FILENO);
    if (stream.has_tail)
      folder_->read_again(*saved_stream_, {.begin =
                                               [&](const StreamSource& source) {
                                                 ++notes_;
                                                 begin_source(source);
                                               },
                                           .end_source =
                                               [&] {
                                                 ++notes_;
                                                 end_source();
                                               },
                                           .bytes =
                                               [&](std::span<const uint8_t> bytes) {
                                                 return learn(bytes, stream.end - guard_.taken(), line);
                                               }});
    if (interrupted()) return;
    const std::string name = opened.source.name == "-" ? "standard input" : opened.source.name;
    if (opened.goes_on && !source_.ended)
      say(fmt::format("live: going on with {} after its first {} bytes", name, source_.taken));
    else if (opened.goes_on)
      say(fmt::format("live: {} was read to its end, {} bytes; going on with what has come since", name,
                      source_.taken));
  }

  void read(OpenedSource& opened) {
    ProgressLine line(STDERR_FILENO);
    if (!opened.goes_on) begin_noted(opened.source);
    std::vector<uint8_t> block(size_t(1) << 16);
    const auto idle = [this] {
      if (folder_) save_when_due();
    };
    while (wait_for(options_.start.in, idle)) {
      const size_t n = read_some(opened.stream, block);
      if (n == 0 && source_.ended) return;  // nothing has come since
      if (n == 0) {
        if (folder_) folder_->end_source();
        ++notes_;
        return end_source();
      }
      const auto bytes = std::span(block).first(n);
      if (source_.ended) {
        source_.ended = false;
        begin_noted(source_);
      }
      if (folder_) folder_->append(bytes);
      if (!learn(bytes, opened.stream.total() - source_.taken, line)) return;
    }
  }

  void begin_noted(const StreamSource& source) {
    if (folder_) folder_->begin(source);
    ++notes_;
    begin_source(source);
  }
  void begin_source(const StreamSource& source) {
    source_ = source;
    meter_.begin();
  }
  void end_source() {
    guard_.flush();
    source_.ended = true;
  }

  // Whether something came after the save that it began with.
  bool is_new() const {
    return !saved_stream_ || guard_.taken() != saved_stream_->end || notes_ != saved_stream_->notes;
  }

  // What was learnt before a stream broke is kept.
  size_t read_some(ByteStream& stream, std::span<uint8_t> block) {
    try {
      return size_t(stream.read(block));
    } catch (const Error& error) {
      if (!folder_) throw;
      guard_.keep();
      save_and_wait();
      fail_as(error, fmt::format("{} (what was learnt until then is saved in {})", error.what(),
                                 options_.start.save));
    }
  }

  // False when Ctrl-C came. Copies are made where a chunk is full: there source_ must be up to it.
  bool learn(std::span<const uint8_t> bytes, int64_t left, ProgressLine& line) {
    for (; !bytes.empty() && !interrupted();) {
      const auto piece = bytes.first(std::min(bytes.size(), size_t(guard_.room())));
      source_.take(piece);
      tokens_.assign(piece.begin(), piece.end());
      guard_.observe(tokens_);
      bytes = bytes.subspan(piece.size());
      left -= int64_t(piece.size());
      if (line.due()) line.show(progress_text(meter_, guard_.learner().activity(), rate(), left));
      if (folder_) save_when_due();
    }
    return !interrupted();
  }

  double rate() const {
    const double seconds = since(begin_);
    return seconds > 0 ? double(guard_.learner().scored() - before_) / seconds : 0;
  }

  void save_when_due() {
    if (folder_->saving()) return;
    end_save();
    if (since(saved_) >= options_.save_every && guard_.latest().taken != saved_at_) save();
  }
  // A save that failed is tried again: the journal has what came since.
  void end_save() {
    try {
      folder_->check();
    } catch (const Error& error) {
      say(fmt::format("live: {}; it will be tried again", error.what()));
      saved_at_ = -1;
    }
    guard_.let_go();
  }
  void save() {
    const GuardedLearner::Copy& copy = guard_.hold();
    saved_at_ = copy.taken;
    saved_ = Clock::now();
    const int64_t looked_back = options_.live.rehearsals > 0 ? options_.live.rehearsal_memory : 0;
    folder_->save(copy, copy.taken - looked_back - 2 * guard_.rejected());
  }
  void save_and_wait() {
    folder_->wait();
    end_save();
    save();
    folder_->wait();
    folder_->check();
    guard_.let_go();
  }

  void reject(int64_t position, std::span<const int32_t> bytes) {
    if (folder_) folder_->reject(position, bytes);
    say(fmt::format("live: the cost is not a number any more; bytes {} to {} of the stream are passed over{}",
                    position, position + int64_t(bytes.size()) - 1,
                    folder_ ? " and kept in " + options_.start.save + "/rejects.jsonl" : ""));
  }

  void report() const {
    say(fmt::format("{} in {} ({}/s): {}{}", bytes_text(double(meter_.scored())),
                    duration_text(since(begin_)), bytes_text(rate()), meter_.text(),
                    options_.start.save.empty() ? "" : "; saved in " + options_.start.save));
    if (!common_.json) return;
    const Activity& activity = guard_.learner().activity();
    write_json({{"bytes", meter_.scored()},
                {"bits_per_byte", meter_.bits_per_byte()},
                {"last_bits_per_byte", meter_.last_bits_per_byte()},
                {"network_bits_per_byte", meter_.network_bits_per_byte()},
                {"drift", meter_.drift()},
                {"taken", source_.taken},
                {"rejected", guard_.rejected()},
                {"seconds", rounded(since(begin_))},
                {"bytes_per_second", rounded(rate())},
                {"parameters", begun_.loaded.model->parameter_count()},
                {"active_fraction", share(activity.active, activity)},
                {"gated_fraction", share(activity.gated, activity)},
                {"peak_memory_bytes", peak_memory_bytes()}});
  }

  const LiveOptions& options_;
  const Common& common_;
  LiveBeginning begun_;
  GuardedLearner guard_;
  LiveMeter meter_;

  uint64_t stream_name_ = 0;
  StreamSource source_;
  int64_t notes_ = 0;  // of the journal's, so many have been followed
  std::optional<StoredStream> saved_stream_;
  Clock::time_point begin_, saved_ = Clock::now();
  int64_t before_ = 0, saved_at_ = -1;
  std::vector<int32_t> tokens_, waiting_;
  std::optional<LiveFolder> folder_;  // the last member: it ends before what it saves
};

}  // namespace

int live_on_bytes(const LiveOptions& options, const Common& common) { return Run(options, common).run(); }

}  // namespace brood::cli
