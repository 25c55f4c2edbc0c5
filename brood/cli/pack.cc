// brood pack, brood unpack: lossless compression by a learner that lives on the file.
#include "brood/learn/pack.h"

#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>

#include "brood/base/error.h"
#include "brood/base/file_system.h"
#include "brood/base/progress.h"
#include "brood/cli/interrupt.h"
#include "brood/cli/numbers.h"
#include "brood/cli/output.h"
#include "brood/cli/verb.h"
#include "brood/learn/pack_network.h"
#include "brood/model/presets.h"
#include "brood/senses/bytes.h"

namespace brood::cli {
namespace {

constexpr const char* kPackExamples =
    "Each byte is predicted, coded by what it surprised, and learnt: the better the learner, the smaller "
    "the\n"
    "file. No model is stored: unpack learns the same from what it has decoded. It takes as long as pack.\n"
    "\n"
    "Examples:\n"
    "  brood pack book.txt -o book.packed                from nothing: counts, matches and a small network\n"
    "  brood pack book.txt -o book.packed --model none   counts and matches alone: faster, a little larger\n"
    "  brood pack new.txt -o new.packed --model library  begin with what the model in library/ has learnt\n"
    "  brood unpack book.packed -o book.txt\n"
    "Unpack with the same build on the same kind of processor: predictions must be the same to the bit.\n";

constexpr const char* kUnpackExamples =
    "Examples:\n"
    "  brood unpack book.packed -o book.txt\n"
    "  brood unpack new.packed -o new.txt --model library    what was packed with a trained model needs it\n"
    "  brood unpack book.packed -o - | less\n"
    "A file of another build, processor, format or model is refused; a damaged one is found out. OUT "
    "appears\n"
    "only when all of it is right.\n";

using Clock = std::chrono::steady_clock;

struct PackOptions {
  std::string in, out, model;
  int64_t megabytes = 64;
  bool overwrite = false;
};

// Where the result goes: standard output as it comes, or a file that appears once it is whole.
class Target {
 public:
  Target(const PackOptions& options, const char* doing) : path_(options.out) {
    if (path_ == "-") return;
    if (!options.overwrite && std::filesystem::exists(path_))
      fail("{}: {} is there already; choose another name, or --overwrite it", doing, path_);
    require_writable(path_);
  }

  // work(write) does everything.
  void fill(const std::function<void(const PackWrite&)>& work) {
    const auto chars = [](std::span<const uint8_t> bytes) {
      return std::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    };
    if (path_ == "-") return work([&](std::span<const uint8_t> bytes) { write_out(chars(bytes)); });
    FileSystem& files = FileSystem::real();
    write_durably(files, path_, [&](const std::string& aside) {
      const auto file = files.create(aside);
      work([&](std::span<const uint8_t> bytes) { file->append(std::as_bytes(bytes)); });
      file->sync();
      file->close();
    });
  }

 private:
  std::string path_;
};

struct Stopped : Error {
  Stopped() : Error("interrupted: nothing was written") {}
};

// Says how far it is, and ends the work at Ctrl-C.
class Watch {
 public:
  explicit Watch(const char* doing) : doing_(doing) {}

  PackProgress progress(int64_t total, bool of_packed) {
    return [this, total, of_packed](const Packed& done) {
      if (interrupted()) throw Stopped();
      if (!line_.due()) return;
      const double seconds = this->seconds();
      std::string text = fmt::format("{} {} at {}/s, {}", doing_, bytes_text(double(done.bytes)),
                                     bytes_text(double(done.bytes) / seconds), ratio(done));
      const double share = double(of_packed ? done.packed : done.bytes) / double(total);
      if (total > 0) text += fmt::format(", {} left", duration_text(seconds / share - seconds));
      line_.show(text);
    };
  }
  double seconds() const { return std::chrono::duration<double>(Clock::now() - begin_).count(); }

  static double bits_per_byte(const Packed& done) {
    return done.bytes == 0 ? 0 : 8 * double(done.packed) / double(done.bytes);
  }
  static std::string ratio(const Packed& done) {
    return fmt::format("{:.3f} bits per byte", bits_per_byte(done));
  }

 private:
  const char* doing_;
  ProgressLine line_{STDERR_FILENO};
  Clock::time_point begin_ = Clock::now();
};

PackRead reader(ByteStream& stream) {
  return [&stream](std::span<uint8_t> into) { return size_t(stream.read(into)); };
}

void report(const Packed& done, double seconds, const std::string& sentence, const Common& common) {
  const double rate = seconds > 0 ? double(done.bytes) / seconds : 0;
  say(fmt::format("{} in {} ({}/s): {}", sentence, duration_text(seconds), bytes_text(rate),
                  Watch::ratio(done)));
  if (!common.json) return;
  write_json({{"bytes", done.bytes},
              {"packed_bytes", done.packed},
              {"bits_per_byte", Watch::bits_per_byte(done)},
              {"seconds", rounded(seconds)},
              {"bytes_per_second", rounded(rate)},
              {"peak_memory_bytes", peak_memory_bytes()}});
}

void refuse_json_amid_bytes(const PackOptions& options, const Common& common, const char* doing) {
  if (common.json && options.out == "-")
    fail("{}: --json and the bytes both want standard output; name a file by -o", doing);
}

std::optional<PackNetwork> network_to_pack_with(const std::string& model) {
  if (model == "none") return std::nullopt;
  if (std::filesystem::is_directory(model)) return PackNetwork::trained(load_model(model));
  return PackNetwork::anew(find_preset(model) ? model : load_config(model).dump());
}

int run_pack(const PackOptions& options, const Common& common) {
  refuse_json_amid_bytes(options, common, "pack");
  ByteStream stream = ByteStream::open(options.in);
  Target target(options, "pack");
  PackModel model;
  model.log2_memory = 20;
  while ((int64_t(1) << (model.log2_memory - 20)) < options.megabytes) ++model.log2_memory;
  auto network = network_to_pack_with(options.model);
  if (network) network->describe(model);
  Watch watch("packed");
  Packed done;
  target.fill([&](const PackWrite& write) {
    done = pack(model, network ? network->opinion() : nullptr, reader(stream), write,
                watch.progress(stream.total(), false));
  });
  report(done, watch.seconds(),
         fmt::format("{} became {}", bytes_text(double(done.bytes)), bytes_text(double(done.packed))),
         common);
  return 0;
}

std::optional<PackNetwork> network_to_unpack_with(const PackModel& model, const PackOptions& options) {
  const bool trained = model.network == kTrainedNetwork;
  if (!trained && !options.model.empty())
    fail("unpack: {} was packed without a trained model; leave out --model", options.in);
  if (model.network.empty()) return std::nullopt;
  if (trained && options.model.empty())
    fail("unpack: {} was packed with a trained model; name its folder by --model", options.in);
  auto network = trained ? PackNetwork::trained(load_model(options.model)) : PackNetwork::anew(model.network);
  network.require_same(model);
  return network;
}

int run_unpack(const PackOptions& options, const Common& common) {
  refuse_json_amid_bytes(options, common, "unpack");
  ByteStream stream = ByteStream::open(options.in);
  Unpacker unpacker(reader(stream), options.in == "-" ? "standard input" : options.in);
  Target target(options, "unpack");
  auto network = network_to_unpack_with(unpacker.model(), options);
  Watch watch("unpacked");
  Packed done;
  target.fill([&](const PackWrite& write) {
    done =
        unpacker.unpack(network ? network->opinion() : nullptr, write, watch.progress(stream.total(), true));
  });
  report(done, watch.seconds(), fmt::format("{} unpacked", bytes_text(double(done.bytes))), common);
  return 0;
}

void add_files(CLI::App& app, PackOptions& options, const char* in) {
  app.add_option("file", options.in, in)->required()->type_name("FILE|-");
  app.add_option("-o,--out", options.out, "where to; - for standard output")->required()->type_name("OUT|-");
  app.add_flag("--overwrite", options.overwrite, "replace OUT when it is there");
}

}  // namespace

Action define_pack(CLI::App& app, const Common& common) {
  auto options = std::make_shared<PackOptions>();
  options->model = "mamba-xs";
  app.footer(kPackExamples);
  add_files(app, *options, "what to pack; - for standard input");
  app.add_option("--model", options->model,
                 "the network: a preset or JSON config, from nothing; a model folder; none")
      ->capture_default_str()
      ->type_name("PRESET|CONFIG|DIR|none");
  app.add_option("--memory", options->megabytes, "MB for the memory of contexts, up to the next power of two")
      ->capture_default_str()
      ->check(whole(1, 4096))
      ->type_name("MB");
  return [options, &common] { return run_pack(*options, common); };
}

Action define_unpack(CLI::App& app, const Common& common) {
  auto options = std::make_shared<PackOptions>();
  app.footer(kUnpackExamples);
  add_files(app, *options, "what was packed; - for standard input");
  app.add_option("--model", options->model, "the trained model that it was packed with")->type_name("DIR");
  return [options, &common] { return run_unpack(*options, common); };
}

}  // namespace brood::cli
