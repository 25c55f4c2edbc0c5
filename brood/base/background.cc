#include "brood/base/background.h"

#include <signal.h>

#include <chrono>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <thread>
#include <utility>

namespace brood {

using Clock = std::chrono::steady_clock;

struct Background::Impl {
  explicit Impl(std::function<void()> work) : task(std::move(work)) {}

  void loop() {
    std::unique_lock lock(mutex);
    for (;;) {
      if (ending) return;
      if (!planned) {
        changed.wait(lock);
      } else if (Clock::now() < due) {
        changed.wait_until(lock, due);
      } else {
        run(lock);
      }
    }
  }

  void run(std::unique_lock<std::mutex>& lock) {
    planned = false;
    running = true;
    lock.unlock();
    std::exception_ptr thrown;
    try {
      task();
    } catch (...) {
      thrown = std::current_exception();
    }
    lock.lock();
    running = false;
    if (thrown && !error) error = thrown;
    changed.notify_all();
  }

  const std::function<void()> task;
  std::mutex mutex;
  std::condition_variable changed;
  Clock::time_point due;
  bool planned = false, running = false, ending = false;
  std::exception_ptr error;
  std::thread thread;
};

Background::Background(std::function<void()> task) : impl_(std::make_unique<Impl>(std::move(task))) {
  sigset_t all, before;  // signals are for the thread that reads
  sigfillset(&all);
  pthread_sigmask(SIG_BLOCK, &all, &before);
  impl_->thread = std::thread([impl = impl_.get()] { impl->loop(); });
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

Background::~Background() {
  {
    const std::lock_guard lock(impl_->mutex);
    impl_->ending = true;
  }
  impl_->changed.notify_all();
  impl_->thread.join();
}

void Background::soon(double seconds) {
  const auto due =
      Clock::now() + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
  const std::lock_guard lock(impl_->mutex);
  if (impl_->planned && impl_->due <= due) return;
  impl_->planned = true;
  impl_->due = due;
  impl_->changed.notify_all();
}

bool Background::busy() const {
  const std::lock_guard lock(impl_->mutex);
  return impl_->planned || impl_->running;
}

void Background::wait() {
  std::unique_lock lock(impl_->mutex);
  if (impl_->planned) impl_->due = Clock::now();
  impl_->changed.notify_all();
  impl_->changed.wait(lock, [&] { return !impl_->planned && !impl_->running; });
}

void Background::check() {
  std::exception_ptr error;
  {
    const std::lock_guard lock(impl_->mutex);
    error = std::exchange(impl_->error, nullptr);
  }
  if (error) std::rethrow_exception(error);
}

}  // namespace brood
