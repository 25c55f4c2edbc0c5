#include "brood/cli/live_meter.h"

#include <fmt/format.h>

#include <numbers>

#include "brood/base/error.h"

namespace brood::cli {
namespace {

constexpr int64_t kLastBytes = 10240;  // "the last 10 KB"

}  // namespace

void LiveMeter::begin() {
  first_ = {learner_.scored(), learner_.nats(), learner_.network_nats()};
  recent_.assign(1, first_);
}

void LiveMeter::tick() {
  if (learner_.scored() == recent_.back().scored) return;
  recent_.push_back({learner_.scored(), learner_.nats(), learner_.network_nats()});
  while (recent_.size() > 2 && learner_.scored() - recent_[1].scored >= kLastBytes) recent_.pop_front();
}

std::string LiveMeter::text() const {
  if (scored() == 0) return "nothing predicted yet";
  std::string text = fmt::format("{:.3f} bits per byte", bits_per_byte());
  if (scored() > kLastBytes) text += fmt::format(", {:.3f} over the last 10 KB", last_bits_per_byte());
  if (learner_.nats() != learner_.network_nats())
    text += fmt::format(" (the network alone {:.3f})", network_bits_per_byte());
  return text;
}

double LiveMeter::network_bits_per_byte() const {
  if (scored() == 0) return 0;
  return (learner_.network_nats() - first_.network_nats) / double(scored()) / std::numbers::ln2;
}

double LiveMeter::since(const Mark& mark) const {
  const int64_t n = learner_.scored() - mark.scored;
  return n == 0 ? 0 : (learner_.nats() - mark.nats) / double(n) / std::numbers::ln2;
}

nlohmann::json LiveMeter::notes() const {
  nlohmann::json recent = nlohmann::json::array();
  for (const Mark& mark : recent_) recent.push_back({mark.scored, mark.nats, mark.network_nats});
  return {{"first", {first_.scored, first_.nats, first_.network_nats}}, {"recent", recent}};
}

void LiveMeter::restore(const nlohmann::json& notes) {
  try {
    const auto mark = [](const nlohmann::json& pair) {
      const auto nats = pair.at(1).get<double>();  // a third number is there since there are memories
      return Mark{pair.at(0).get<int64_t>(), nats, pair.size() > 2 ? pair.at(2).get<double>() : nats};
    };
    const Mark first = mark(notes.at("first"));
    std::deque<Mark> recent;
    for (const auto& pair : notes.at("recent")) recent.push_back(mark(pair));
    if (recent.empty()) throw std::out_of_range("no mark");
    first_ = first;
    recent_ = std::move(recent);
  } catch (const std::exception&) {  // of the JSON library, too
    fail(
        "live: what the folder says of its figures cannot be read; start from its weights alone by deleting "
        "optimizer.safetensors and journal/");
  }
}

}  // namespace brood::cli
