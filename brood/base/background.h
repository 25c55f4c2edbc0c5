// Background: one piece of work that a thread of its own does now and then, beside the stream: writing to a slow
// disk. Products and sums are not for it: those go to the pool (base/threads.h).
#pragma once

#include <functional>
#include <memory>

namespace brood {

class Background {
 public:
  explicit Background(std::function<void()> task);
  ~Background();  // waits for a run that has begun; one that is only planned is dropped

  // Plans a run for so many seconds from now, unless one is planned for then or before. Does not wait.
  void soon(double seconds);
  // Whether a run is planned or going on.
  bool busy() const;
  // Runs what is planned at once and waits until nothing is going on.
  void wait();
  // Throws what the task threw, once; after that it may be planned again.
  void check();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace brood
