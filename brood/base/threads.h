// One small pool of threads for the whole library.
//
// A parallel region is n tasks, numbered 0..n-1, divided into one contiguous run of tasks per thread, always
// the same run for the same (n, threads). So a thread meets the same weights again at the next step and finds
// them in its own L2 cache. Workers spin for a short while after a region and then sleep: a fork-join costs
// well under a microsecond while work keeps coming and nothing when it does not.
//
// Results never depend on the number of threads: callers split work into tasks by shape alone and never add
// up across tasks except in task order.
#pragma once

#include <cstdint>
#include <type_traits>

namespace brood {

class ThreadPool {
 public:
  // The library's pool. Thread-safe to call; regions themselves are started by one thread at a time (a region
  // started from inside a region runs inline on the calling thread; one started by a second outside thread
  // waits its turn).
  static ThreadPool& instance();

  int size() const;          // threads that take part, the caller included
  void resize(int threads);  // at least 1; not during a region

  // Runs task(i) for every i in [0, n) and returns when all are done. The first exception is rethrown.
  template <class Task>
  void run(int64_t n, Task&& task) {
    using Body = std::remove_reference_t<Task>;
    run_range(n, const_cast<void*>(static_cast<const void*>(&task)),
              [](void* context, int64_t begin, int64_t end) {
                Body& body = *static_cast<Body*>(context);
                for (int64_t i = begin; i < end; ++i) body(i);
              });
  }

  // The same by whole runs: range(begin, end) for the run of tasks that each thread gets. For tasks that read
  // ahead or share a preparation; where a run begins and ends must not change a result.
  template <class Range>
  void run_ranges(int64_t n, Range&& range) {
    using Body = std::remove_reference_t<Range>;
    run_range(n, const_cast<void*>(static_cast<const void*>(&range)),
              [](void* context, int64_t begin, int64_t end) { (*static_cast<Body*>(context))(begin, end); });
  }

  ~ThreadPool();

 private:
  ThreadPool();
  using Body = void (*)(void* context, int64_t begin, int64_t end);
  void run_range(int64_t n, void* context, Body body);

  struct Impl;
  Impl* impl_;
};

// Shorthands for ThreadPool::instance().run and .run_ranges; inline when n is 1 or the pool has one thread.
template <class Task>
void parallel(int64_t n, Task&& task) {
  ThreadPool::instance().run(n, task);
}
template <class Range>
void parallel_ranges(int64_t n, Range&& range) {
  ThreadPool::instance().run_ranges(n, range);
}

}  // namespace brood
