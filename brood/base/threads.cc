// How a region runs. The caller writes the job, then opens one slot per worker by storing a new ticket in it;
// the worker that watches the slot claims the ticket with a compare-and-swap, runs its range and stores the
// ticket's number in `done`. The caller meanwhile runs range 0 and then waits for every slot.
//
// A worker that is asleep, or that the operating system has taken off its core, would make the caller wait
// for a wake-up far longer than most regions. So a caller that has nothing left to do claims tickets that
// nobody has taken, by the same compare-and-swap, and runs those ranges itself. Tickets only grow, so a
// worker that comes late finds its ticket gone and touches nothing of the job.
#include "brood/base/threads.h"

#include <pthread.h>
#include <signal.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <exception>
#include <memory>
#include <mutex>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#ifdef __linux__
#include <sched.h>
#endif

#include "brood/base/error.h"
#include "brood/base/float_mode.h"

namespace brood {
namespace {

constexpr int kMaxThreads = 1024;

// Spinning costs power and a core that others may want; a wake-up costs some 10 µs (more inside a virtual
// machine). Spinning about as long as a few wake-ups take loses at most a small factor either way.
constexpr auto kSpin = std::chrono::microseconds(50);

// A worker that spins sees its ticket within 0.1-0.2 µs. Only after several times that does the caller take
// it away, so that threads keep their own ranges (and what lies in their caches) while work keeps coming.
constexpr int kPausesBeforeTaking = 24;

thread_local bool inside_region = false;

void pause() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("isb");
#endif
}

// Spins until ready() or until kSpin has passed; says whether ready.
template <class Ready>
bool spin_until(bool may_spin, Ready&& ready) {
  if (ready()) return true;
  if (!may_spin) return false;
  const auto start = std::chrono::steady_clock::now();
  do {
    for (int i = 0; i < 64; ++i) {
      if (ready()) return true;
      pause();
    }
  } while (std::chrono::steady_clock::now() - start < kSpin);
  return ready();
}

int hardware_threads() {
#ifdef __linux__
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof(set), &set) == 0 && CPU_COUNT(&set) > 0) return CPU_COUNT(&set);
#endif
  return std::max(1, int(std::thread::hardware_concurrency()));
}

int default_threads() {
  const char* wish = std::getenv("BROOD_THREADS");
  if (wish == nullptr || *wish == '\0') return std::min(hardware_threads(), kMaxThreads);
  char* end = nullptr;
  const long threads = std::strtol(wish, &end, 10);
  if (*end != '\0' || threads < 1 || threads > kMaxThreads)
    fail("threads: BROOD_THREADS is \"{}\", give a whole number from 1 to {}", wish, kMaxThreads);
  return int(threads);
}

class InsideRegion {
 public:
  InsideRegion() { inside_region = true; }
  ~InsideRegion() { inside_region = false; }
};

}  // namespace

struct ThreadPool::Impl {
  // One worker's slot, alone on its cache lines: the caller and one worker pass it back and forth.
  struct alignas(128) Slot {
    std::atomic<uint64_t> ticket{1};  // 2·number while open, 2·number + 1 once claimed
    std::atomic<uint64_t> done{0};    // number of the last ticket finished
    std::atomic<bool> asleep{false};
    std::mutex mutex;
    std::condition_variable wake;
    std::exception_ptr error;
    std::thread thread;

    bool claim(uint64_t number) {
      uint64_t open = 2 * number;
      return ticket.compare_exchange_strong(open, open + 1, std::memory_order_acq_rel);
    }
  };

  std::mutex regions;  // one region at a time
  std::vector<std::unique_ptr<Slot>> slots;
  std::atomic<int> threads{1};
  bool may_spin = true;
  std::atomic<bool> stopping{false};

  // The job; written by the caller while every ticket is finished.
  uint64_t number = 0;
  int64_t n = 0;
  int64_t parts = 0;
  void* context = nullptr;
  Body body = nullptr;
  FloatMode float_mode{};  // the caller's: the same numbers wherever a task runs
  std::atomic<bool> failed{false};

  std::atomic<bool> caller_asleep{false};
  std::mutex caller_mutex;
  std::condition_variable caller_wake;

  void start(int wanted);  // throws Error when the system refuses; the pool then has one thread
  void stop();
  void work(Slot& slot, int64_t part);
  void run_part(int64_t part, std::exception_ptr& error);
  void run(int64_t count, void* job_context, Body job_body);
  void open(Slot& slot);
  void finish(Slot& slot, int64_t part);
  void wait_for(Slot& slot);
  void rethrow(std::exception_ptr& own);
};

// While it lives, no signal that a handler may wait for is delivered to this thread, nor ever to those that it
// starts: signals are the program's, and its handlers must not run in the midst of a worker's kernel.
class SignalsHeldBack {
 public:
  SignalsHeldBack() {
    sigset_t held;
    sigfillset(&held);
    for (int fault : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT, SIGSYS}) sigdelset(&held, fault);
    pthread_sigmask(SIG_BLOCK, &held, &before_);
  }
  SignalsHeldBack(const SignalsHeldBack&) = delete;
  SignalsHeldBack& operator=(const SignalsHeldBack&) = delete;
  ~SignalsHeldBack() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

 private:
  sigset_t before_;
};

void ThreadPool::Impl::start(int wanted) {
  stopping.store(false);
  slots.reserve(size_t(wanted));
  may_spin = wanted <= hardware_threads();
  const SignalsHeldBack held;
  try {
    for (int part = 1; part < wanted; ++part) {
      auto slot = std::make_unique<Slot>();
      slot->thread = std::thread([this, part, &slot = *slot] { work(slot, part); });
      slots.push_back(std::move(slot));
      threads.store(part + 1);
    }
  } catch (const std::system_error&) {
    const size_t got = slots.size() + 1;
    stop();
    fail("threads: the system gives {} threads, {} were asked for; ask for fewer", got, wanted);
  }
}

void ThreadPool::Impl::stop() {
  stopping.store(true);
  for (auto& slot : slots) {
    { std::lock_guard lock(slot->mutex); }
    slot->wake.notify_one();
    slot->thread.join();
  }
  slots.clear();
  threads.store(1);
}

void ThreadPool::Impl::work(Slot& slot, int64_t part) {
  inside_region = true;  // whatever a worker runs is inside a region
  FloatMode mode = brood::float_mode();
  const auto called = [&] { return (slot.ticket.load() & 1) == 0 || stopping.load(); };
  while (true) {
    if (!spin_until(may_spin, called)) {
      std::unique_lock lock(slot.mutex);
      slot.asleep.store(true);
      slot.wake.wait(lock, called);
      slot.asleep.store(false);
    }
    if (stopping.load()) return;
    const uint64_t ticket = slot.ticket.load();
    if ((ticket & 1) != 0 || !slot.claim(ticket / 2)) continue;  // the caller took it
    if (mode != float_mode) set_float_mode(mode = float_mode);
    run_part(part, slot.error);
    slot.done.store(ticket /
                    2);  // sequentially consistent, as is caller_asleep: one of the two sees the other
    if (caller_asleep.load()) {
      { std::lock_guard lock(caller_mutex); }
      caller_wake.notify_one();
    }
  }
}

void ThreadPool::Impl::run_part(int64_t part, std::exception_ptr& error) {
  try {
    body(context, n * part / parts, n * (part + 1) / parts);
  } catch (...) {
    error = std::current_exception();
    failed.store(true, std::memory_order_relaxed);
  }
}

void ThreadPool::Impl::open(Slot& slot) {
  slot.ticket.store(2 * number);  // sequentially consistent, as is asleep: one of the two sees the other
  if (slot.asleep.load()) {
    { std::lock_guard lock(slot.mutex); }
    slot.wake.notify_one();
  }
}

void ThreadPool::Impl::wait_for(Slot& slot) {
  const auto is_done = [&] { return slot.done.load() == number; };
  if (spin_until(may_spin, is_done)) return;
  std::unique_lock lock(caller_mutex);
  caller_asleep.store(true);
  caller_wake.wait(lock, is_done);
  caller_asleep.store(false);
}

void ThreadPool::Impl::finish(Slot& slot, int64_t part) {
  for (int i = 0; i < kPausesBeforeTaking; ++i) {
    if (slot.done.load(std::memory_order_acquire) == number) return;
    if (!may_spin) break;
    pause();
  }
  if (slot.claim(number)) {
    run_part(part, slot.error);
    slot.done.store(number, std::memory_order_relaxed);
  } else {
    wait_for(slot);
  }
}

void ThreadPool::Impl::rethrow(std::exception_ptr& own) {
  std::exception_ptr first = std::move(own);
  for (auto& slot : slots) {
    std::exception_ptr error = std::exchange(slot->error, nullptr);
    if (!first) first = std::move(error);
  }
  std::rethrow_exception(first);
}

void ThreadPool::Impl::run(int64_t count, void* job_context, Body job_body) {
  std::lock_guard lock(regions);
  ++number;
  n = count;
  parts = std::min<int64_t>(count, int64_t(slots.size()) + 1);
  context = job_context;
  body = job_body;
  float_mode = brood::float_mode() & ~kFloatFlags;
  failed.store(false, std::memory_order_relaxed);
  for (int64_t part = 1; part < parts; ++part) open(*slots[size_t(part - 1)]);
  std::exception_ptr own;
  {
    InsideRegion inside;
    run_part(0, own);
    for (int64_t part = 1; part < parts; ++part) finish(*slots[size_t(part - 1)], part);
  }
  if (failed.load(std::memory_order_relaxed)) rethrow(own);
}

ThreadPool& ThreadPool::instance() {
  static ThreadPool pool;
  return pool;
}

ThreadPool::ThreadPool() {
  const int threads = default_threads();
  impl_ = new Impl;
  impl_->start(threads);
}

ThreadPool::~ThreadPool() {
  impl_->stop();
  delete impl_;
}

int ThreadPool::size() const { return impl_->threads.load(std::memory_order_relaxed); }

void ThreadPool::resize(int threads) {
  BROOD_ASSERT(!inside_region);
  if (threads < 1 || threads > kMaxThreads)
    fail("threads: {} is not a number of threads, give one from 1 to {}", threads, kMaxThreads);
  std::lock_guard lock(impl_->regions);
  if (threads == size()) return;
  impl_->stop();
  impl_->start(threads);
}

void ThreadPool::run_range(int64_t n, void* context, Body body) {
  if (n <= 0) return;
  if (n == 1 || inside_region || size() == 1) return body(context, 0, n);
  impl_->run(n, context, body);
}

}  // namespace brood
