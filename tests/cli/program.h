// The built program, run as people run it: a process with arguments, input, two outputs and an exit code.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

namespace brood::test {

// A folder of the test's own, gone when the test is over.
class Folder {
 public:
  Folder() {
    std::string name = (std::filesystem::temp_directory_path() / "brood-cli-XXXXXX").string();
    path_ = ::mkdtemp(name.data());
  }
  ~Folder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }
  std::string write(const std::string& name, const std::string& text) const {
    std::ofstream(*this / name, std::ios::binary) << text;
    return *this / name;
  }

 private:
  std::string path_;
};

inline std::string read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

// A safetensors file without the mark that tells saves apart: equal when the tensors are equal to the bit.
inline std::string tensors_of(const std::string& path) {
  std::string bytes = read_file(path);
  const std::string mark = "\"save\":\"";
  const size_t at = bytes.find(mark);
  if (at != std::string::npos) bytes.erase(at, bytes.find('"', at + mark.size()) - at);
  return bytes;
}

struct Result {
  int code = -1;  // 128 + number when a signal ended it
  std::string out, err;
  nlohmann::json json() const {  // the last line of standard output
    const auto end = out.find_last_not_of('\n');
    if (end == std::string::npos) return nlohmann::json();
    const auto begin = out.find_last_of('\n', end);
    return nlohmann::json::parse(out.substr(begin == std::string::npos ? 0 : begin + 1), nullptr, false);
  }
};

struct Surroundings {
  std::string input = "/dev/null";  // path of what stands at standard input
  std::string output;               // path of standard output when it is not to be captured
  int output_pipe = -1;             // or the end of a pipe
  int input_pipe = -1;
  long largest_file = -1;         // bytes; a stand-in for a full disk
  bool permissions_hold = false;  // for root, too
};

class Process {
 public:
  Process(const std::vector<std::string>& arguments, const Surroundings& around = {}) {
    std::vector<std::string> words{BROOD_PROGRAM_PATH};
    words.insert(words.end(), arguments.begin(), arguments.end());
    std::vector<char*> argv;
    for (auto& word : words) argv.push_back(word.data());
    argv.push_back(nullptr);
    const std::string out = around.output.empty() ? folder_ / "out" : around.output, err = folder_ / "err";
    child_ = ::fork();
    if (child_ != 0) return;
    ::dup2(around.input_pipe >= 0 ? around.input_pipe : ::open(around.input.c_str(), O_RDONLY), 0);
    ::dup2(around.output_pipe >= 0 ? around.output_pipe : ::open(out.c_str(), O_WRONLY | O_CREAT, 0600), 1);
    ::dup2(::open(err.c_str(), O_WRONLY | O_CREAT, 0600), 2);
    for (int other = 3; other < 64; ++other) ::close(other);
    if (around.largest_file >= 0) {
      const rlimit limit{rlim_t(around.largest_file), rlim_t(around.largest_file)};
      ::setrlimit(RLIMIT_FSIZE, &limit);
      std::signal(SIGXFSZ, SIG_IGN);  // the write fails, as it does on a full disk
    }
    if (around.permissions_hold)
      for (const int capability : {CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH})
        ::prctl(PR_CAPBSET_DROP, capability);
    ::execv(argv[0], argv.data());
    ::_exit(127);
  }
  ~Process() {
    if (child_ > 0) {
      kill(SIGKILL);
      wait();
    }
  }
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  void kill(int signal) const { ::kill(child_, signal); }
  Result wait() {
    int status = 0;
    ::waitpid(child_, &status, 0);
    child_ = -1;
    return {WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status), read_file(folder_ / "out"),
            read_file(folder_ / "err")};
  }

 private:
  Folder folder_;
  pid_t child_ = -1;
};

constexpr double kLongestWait = 120;  // seconds; only something that hangs takes as long

// Waits until it is so; how long that took, in seconds.
inline double seconds_until(const std::function<bool()>& it_is_so) {
  const auto begin = std::chrono::steady_clock::now();
  for (;;) {
    const std::chrono::duration<double> passed = std::chrono::steady_clock::now() - begin;
    if (it_is_so()) return passed.count();
    if (passed.count() > kLongestWait) {
      ADD_FAILURE() << "waited in vain";
      return passed.count();
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
}

inline Result run(const std::vector<std::string>& arguments, const Surroundings& around = {}) {
  return Process(arguments, around).wait();
}

// A user's mistake: exit code 2, one sentence on standard error that names the thing, nothing on standard
// output.
inline void expect_refused(const Result& result, const std::string& named) {
  EXPECT_EQ(result.code, 2) << result.err;
  EXPECT_EQ(result.out, "");
  EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 1) << result.err;
  EXPECT_NE(result.err.find(named), std::string::npos) << result.err;
}

// Something to read that can be learnt: words of a small language.
inline std::string some_text(size_t bytes) {
  const char* const words[] = {"the ", "stream ", "of ",    "bytes ", "goes ",
                               "on ",  "and ",    "never ", "ends. "};
  std::string text;
  uint32_t chance = 12345;
  while (text.size() < bytes) {
    chance = chance * 1664525 + 1013904223;
    text += words[(chance >> 16) % std::size(words)];
  }
  text.resize(bytes);
  return text;
}

inline const char* const kTinyMamba = R"({"architecture": "mamba", "d_model": 16, "n_layer": 1})";
inline const char* const kBroadMamba = R"({"architecture": "mamba", "d_model": 96, "n_layer": 2})";
inline const char* const kTinyBdh =
    R"({"architecture": "bdh", "d_model": 16, "n_neuron": 64, "n_head": 2, "n_layer": 2})";
inline const char* const kTinyTransformer =
    R"({"architecture": "transformer", "d_model": 16, "n_head": 2, "n_layer": 1, "window": 64})";

}  // namespace brood::test
