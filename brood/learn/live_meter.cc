#include "brood/learn/live_meter.h"

#include <fmt/format.h>

#include <numbers>
#include <utility>

#include "brood/learn/live_notes.h"

namespace brood {
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
  if (learner_.drift().count() > 0)
    text += fmt::format("; another stream since byte {}", learner_.drift().changes().back().from);
  return text;
}

nlohmann::json LiveMeter::drift() const {
  nlohmann::json changes = nlohmann::json::array();
  for (const auto& change : learner_.drift().changes())
    changes.push_back({{"from", change.from}, {"noticed", change.noticed}});
  return {{"count", learner_.drift().count()}, {"changes", changes}};
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

void LiveMeter::restore(const nlohmann::json& json) {
  const Notes notes = notes_of_stream(json);
  const auto mark = [&](const nlohmann::json& numbers) {
    if (!numbers.is_array() || numbers.size() < 2) notes.refuse("a mark in them is no list of numbers");
    const double nats = notes.cost(numbers[1], "nats");  // a third number is there since there are memories
    return Mark{notes.whole(numbers[0], "scored", 0, Notes::kMostCount), nats,
                numbers.size() > 2 ? notes.cost(numbers[2], "network_nats") : nats};
  };
  const Mark first = mark(notes.at("first"));
  std::deque<Mark> recent;
  for (const auto& numbers : notes.list("recent")) recent.push_back(mark(numbers));
  if (recent.empty()) notes.refuse("they have no mark");
  first_ = first;
  recent_ = std::move(recent);
}

}  // namespace brood
