// Comparison: models of about the same size trained on the same text, in the same order, with the same
// budget, and then measured in the same way. What comes out is one JSON document, from which table and page
// (comparison_report.h) are made, so that all three say the same.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <vector>

#include "brood/learn/trainer.h"
#include "brood/model/model.h"

namespace brood {

struct ComparisonSettings {
  TrainerSettings training;  // its directory is where the model is kept
  bool train = true;         // false: only speeds are measured, of weights as they are
  std::vector<int64_t> contexts{1024, 8192, 65536};  // bytes before the clock starts, rising
  double seconds = 0.5;                              // that each speed is measured for, at least
};

struct ComparisonEvents {
  std::function<bool()> stop;                             // asked often; true ends the work
  std::function<void(const std::string& what)> progress;  // what is being done; called often
};

// One model's part of the document; null when it was stopped on the way.
//   parameters, config, steps, bytes           what it is and how much it read
//   seconds, train_bytes_per_second            of training
//   bits_per_byte                              of `valid`; null without training or text
//   curve                                      [[seconds, bytes, bits per byte], ...], a running mean in training
//   peak_memory_bytes                          while training, above what the process held before; null where
//                                              the system does not say
//   awake                                      share of neurons awake while reading; null where none are counted
//   contexts                                   [{context, prefill_bytes_per_second, decode_bytes_per_second,
//                                              state_bytes}, ...]
// A window of attention of kWholePast or more stands for the whole past and grows to the longest context; a
// shorter one is taken as meant. Throws Error.
nlohmann::json compare_one(std::unique_ptr<Model> model, std::span<const uint8_t> data,
                           std::span<const uint8_t> valid, const ComparisonSettings& settings,
                           const ComparisonEvents& events = {});
constexpr int64_t kWholePast = 1024;

// Adds seconds_to_loss to every model of a document that has "models" and "loss_bits_per_byte", the loss in
// question; null there: the highest of the losses that the models ended with is put there, which all of them
// have reached.
void add_time_to_loss(nlohmann::json& document);

}  // namespace brood
