// Bits per byte of a live learner, so far and over the last 10 KB, which go on over a kill.
#pragma once

#include <cstdint>
#include <deque>
#include <nlohmann/json.hpp>
#include <string>

#include "brood/learn/live.h"

namespace brood {

class LiveMeter {
 public:
  explicit LiveMeter(const LiveLearner& learner) : learner_(learner) { begin(); }

  void begin();  // counts from here on
  void tick();   // after every chunk
  int64_t scored() const { return learner_.scored() - first_.scored; }
  double bits_per_byte() const { return since(first_); }
  double last_bits_per_byte() const { return since(recent_.front()); }
  double network_bits_per_byte() const;  // of the network alone, whatever the memory knew
  std::string text() const;
  // Where the stream became another one (drift.h), in all of it.
  nlohmann::json drift() const;

  nlohmann::json notes() const;
  void restore(const nlohmann::json& notes);  // throws Error

 private:
  struct Mark {
    int64_t scored;
    double nats, network_nats;
  };
  double since(const Mark& mark) const;

  const LiveLearner& learner_;
  Mark first_{};
  std::deque<Mark> recent_;
};

}  // namespace brood
