// Saves of a real model that are interrupted: by an error at any call, by a full disk, by SIGKILL.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <thread>

#include "brood/base/error.h"
#include "brood/model/directory.h"
#include "tests/fixture/messages.h"
#include "tests/fixture/scratch_directory.h"
#include "tests/fixture/tiny_models.h"

namespace brood {
namespace {

struct Died {};

// The real file system until the k-th change, which fails as a full disk does, or at which the process dies:
// it and all later ones throw Died. A write that is cut off leaves half of its bytes.
class FaultyFileSystem : public FileSystem {
 public:
  enum class Fault { kOneFails, kDiskFull, kDies };
  FaultyFileSystem(Fault fault, int64_t at) : fault_(fault), at_(at) {}

  std::unique_ptr<WritableFile> create(const std::string& path) override {
    check(true);
    return std::make_unique<File>(*this, real_.create(path));
  }
  std::unique_ptr<WritableFile> extend(const std::string& path, int64_t bytes) override {
    check(true);
    return std::make_unique<File>(*this, real_.extend(path, bytes));
  }
  void rename(const std::string& from, const std::string& to) override {
    check(false), real_.rename(from, to);
  }
  void remove(const std::string& path) override { check(false), real_.remove(path); }
  void make_directory(const std::string& path) override { check(true), real_.make_directory(path); }
  void sync_directory(const std::string& path) override { check(false), real_.sync_directory(path); }
  bool link(const std::string& from, const std::string& to) override {
    check(true);
    return links_ && real_.link(from, to);
  }
  std::unique_ptr<FileLock> lock(const std::string& path, bool exclusive, double wait) override {
    return real_.lock(path, exclusive, wait);
  }
  bool exists(const std::string& path) override { return real_.exists(path); }
  std::string contents(const std::string& path, int64_t most) override { return real_.contents(path, most); }
  std::vector<std::string> names(const std::string& path) override { return real_.names(path); }

  void without_links() { links_ = false; }
  int64_t calls() const { return calls_; }

 protected:
  virtual void check(bool needs_space) {
    const int64_t call = calls_++;
    if (fault_ == Fault::kDies && call >= at_) throw Died{};
    if (call == at_ || (fault_ == Fault::kDiskFull && call > at_ && needs_space))
      fail("writing: No space left on device");
  }

 private:
  class File : public WritableFile {
   public:
    File(FaultyFileSystem& files, std::unique_ptr<WritableFile> file)
        : files_(files), file_(std::move(file)) {}
    void append(std::span<const std::byte> bytes) override {
      try {
        files_.check(true);
      } catch (...) {
        file_->append(bytes.first(bytes.size() / 2));
        throw;
      }
      file_->append(bytes);
    }
    void sync() override { files_.check(true), file_->sync(); }
    void close() override { files_.check(false), file_->close(); }

   private:
    FaultyFileSystem& files_;
    std::unique_ptr<WritableFile> file_;
  };

  FileSystem& real_ = FileSystem::real();
  Fault fault_;
  int64_t at_, calls_ = 0;
  bool links_ = true;
};

// A model all of whose files tell which save they are from.
struct Marked {
  Model model{tiny_config("mamba")};
  State state = model.make_state(1);
  Progress progress;

  void mark(int64_t number) {
    for (Parameter& p : model.parameters().all()) {
      for (Tensor* moment : {&p.moment1, &p.moment2})
        if (moment->empty()) *moment = Tensor::zeros(p.value.shape());
      for (Tensor* t : {&p.value, &p.moment1, &p.moment2}) std::fill_n(t->f32(), t->size(), float(number));
    }
    for (StateTensor& t : state.tensors) std::fill_n(t.value.f32(), t.value.size(), float(number));
    state.positions = {number};
    progress.steps = number;
    progress.extra = number;
  }
  void save(const std::string& directory, int64_t number, FileSystem& files = FileSystem::real()) {
    mark(number);
    save_model(directory, model, &state, &progress, files);
  }
};

// The number of the save that is found; a test failure and -1 when it is not of one piece.
int64_t whole_number(const std::string& directory) {
  const LoadedModel found = load_model(directory);
  if (!found.state || !found.progress) {
    ADD_FAILURE() << "state or progress is missing";
    return -1;
  }
  const int64_t number = found.progress->steps;
  bool same = found.progress->extra == number && found.state->positions[0] == number;
  for (const Parameter& p : found.model->parameters().all())
    for (const Tensor* t : {&p.value, &p.moment1, &p.moment2})
      for (int64_t i = 0; i < t->size(); ++i) same &= t->f32()[i] == float(number);
  for (const StateTensor& s : found.state->tensors)
    for (int64_t i = 0; i < s.value.size(); ++i) same &= s.value.f32()[i] == float(number);
  EXPECT_TRUE(same) << "parts of different saves";
  return same ? number : -1;
}

class InterruptedSave : public testing::TestWithParam<FaultyFileSystem::Fault> {};
INSTANTIATE_TEST_SUITE_P(Faults, InterruptedSave,
                         testing::Values(FaultyFileSystem::Fault::kOneFails,
                                         FaultyFileSystem::Fault::kDiskFull, FaultyFileSystem::Fault::kDies));

TEST_P(InterruptedSave, LeavesTheOldOrTheNewAtEveryCall) {
  ScratchDirectory scratch;
  Marked marked;
  bool finished = false;
  int64_t number = 1;
  marked.save(scratch / "m", number);
  for (int64_t k = 0; !finished; ++k) {
    ASSERT_LT(k, 1000);
    FaultyFileSystem files(GetParam(), k);
    bool died = false;
    try {
      marked.save(scratch / "m", number + 1, files);
      finished = files.calls() <= k;
    } catch (const Error& error) {
      expect_contains(error.what(), "No space left");
    } catch (const Died&) {
      died = true;
    }
    const int64_t found = whole_number(scratch / "m");
    if (finished)
      EXPECT_EQ(found, number + 1);
    else
      EXPECT_TRUE(found == number || found == number + 1) << "call " << k << (died ? ", died" : "");
    if (found < 0) return;
    number = found;
  }
}

TEST(InterruptedSaves, ACopyStandsInWhereThereAreNoLinks) {
  ScratchDirectory scratch;
  Marked marked;
  for (int64_t number : {1, 2}) {
    FaultyFileSystem files(FaultyFileSystem::Fault::kOneFails, -1);
    files.without_links();
    marked.save(scratch / "m", number, files);
    EXPECT_EQ(whole_number(scratch / "m"), number);
  }
  EXPECT_FALSE(FileSystem::real().exists(scratch / "m/.save-ready"));
}

// The real file system, which counts its calls where another process can read the number.
class CountingFileSystem : public FaultyFileSystem {
 public:
  explicit CountingFileSystem(std::atomic<int64_t>& calls)
      : FaultyFileSystem(Fault::kOneFails, -1), calls_(calls) {}

 protected:
  void check(bool needs_space) override {
    calls_.fetch_add(1);
    FaultyFileSystem::check(needs_space);
  }

 private:
  std::atomic<int64_t>& calls_;
};

// Memory that a forked child shares with its parent.
struct SharedCount {
  static_assert(std::atomic<int64_t>::is_always_lock_free);
  std::atomic<int64_t>* value = static_cast<std::atomic<int64_t>*>(
      ::mmap(nullptr, sizeof(*value), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  ~SharedCount() { ::munmap(value, sizeof(*value)); }
};

// A child saves without pause and is killed after a random number of its calls, 60 times; a reader looks on.
// Calls and not seconds, so that every machine, however slow its disk, kills in the midst of the work.
TEST(InterruptedSaves, SurviveSigkillAtAnyMoment) {
  ScratchDirectory scratch;
  const std::string directory = scratch / "m";
  SharedCount calls;
  ASSERT_NE(calls.value, MAP_FAILED);
  Marked marked;
  marked.save(directory, 1);
  CountingFileSystem counting(*calls.value);
  marked.save(directory, 2, counting);
  const int64_t calls_of_one_save = calls.value->load();
  ASSERT_GT(calls_of_one_save, 20);
  int64_t number = 2, seen = 0;
  Random random(2);
  for (int round = 0; round < 60; ++round) {
    const int64_t last_call = int64_t(random.uniform(0, 4 * float(calls_of_one_save)));
    calls.value->store(0);
    const pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      try {
        for (int64_t next = number + 1;; ++next) marked.save(directory, next, counting);
      } catch (...) {
        ::_exit(1);
      }
    }
    // Few looks a round: a writer waits while somebody reads.
    for (int looks = 0; calls.value->load() < last_call && ::waitpid(child, nullptr, WNOHANG) == 0;) {
      if (looks < 20 && calls.value->load() * 20 >= looks * last_call) {
        EXPECT_GE(whole_number(directory), number);
        ++looks, ++seen;
      }
      std::this_thread::sleep_for(std::chrono::microseconds(20));
    }
    ::kill(child, SIGKILL);
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child) << "the child could not save";
    EXPECT_TRUE(WIFSIGNALED(status)) << "the child could not save";
    const int64_t found = whole_number(directory);
    ASSERT_GE(found, number) << "a finished save was lost";
    number = found;
  }
  EXPECT_GT(number, 60) << "the child hardly came to save anything";
  EXPECT_GT(seen, 60);
}

}  // namespace
}  // namespace brood
