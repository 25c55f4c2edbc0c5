#include "brood/learn/bit_predictor.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <utility>

#include "brood/base/error.h"

namespace brood {

namespace {

constexpr int kLong = 12, kShort = 5;
constexpr std::array<int, 6> kGates = {256, 256, 16 * 8, 7 * 8, 256, 256 * 3};
constexpr float kRefinementRate = 0.02f;
constexpr float kLeastP = 1.0f / 65536;
constexpr int kPerMatch = 2;     // inputs
constexpr int kLeastLine = 3;    // bytes, the end of the line before among them
constexpr float kRecall = 0.6f;  // share of what is recalled in the whole, while something is
// What a match expects is at least as likely as not, and more by so much in stretch(p), before it was ever tested.
constexpr float kUntestedLeast = 0.5f, kUntestedShift = 4;

int log2_entries(const PredictorSettings& settings) { return std::max(10, settings.log2_memory - 4); }

}  // namespace

BitPredictor::BitPredictor(const PredictorSettings& settings)
    : settings_(settings),
      past_(std::min(settings.log2_memory, 26)),
      contexts_(settings.log2_memory),
      long_match_(kLong, log2_entries(settings)),
      short_match_(kShort, log2_entries(settings)),
      refined_(size_t(1) << std::clamp(settings.log2_memory - 8, 8, 16)),
      mixer_(contexts_.inputs() + kPerMatch * (settings.recall ? 3 : 2) + (settings.network ? 2 : 0) + 1,
             kGates, 256) {
  for (int i = 0; i < 2; ++i) refinements_.emplace_back(refined_, kRefinementRate);
  if (settings.network) network_.resize(512);
  if (settings.recall) {
    line_match_ = std::make_unique<MatchMemory>(MatchMemory::kWholeLine, log2_entries(settings));
    recall_ = std::make_unique<Refinement>(size_t(2 * MatchMemory::kLengths * 8), kRefinementRate,
                                           kUntestedLeast, kUntestedShift);
  }
  next_byte(false);
}

template <class Do>
void BitPredictor::each_source(Do&& act) {
  act(contexts_);
  act(long_match_);
  act(short_match_);
  if (line_match_) act(*line_match_);
}

void BitPredictor::next_byte(bool remember) {
  each_source([&](BitSource& source) { source.next_byte(past_, remember); });
}

void BitPredictor::set_bytes(std::span<const float> probabilities) {
  std::copy(probabilities.begin(), probabilities.end(), network_.begin() + 256);
  for (size_t n = 255; n > 0; --n) network_[n] = network_[2 * n] + network_[2 * n + 1];
}

float BitPredictor::p() {
  float* x = mixer_.inputs().data();
  each_source([&](BitSource& source) { source.predict(past_, std::exchange(x, x + source.inputs())); });
  return mixed(x);
}

float BitPredictor::considered() {
  float* x = mixer_.inputs().data();
  each_source([&](BitSource& source) { source.consider(past_, std::exchange(x, x + source.inputs())); });
  return mixed(x);
}

float BitPredictor::mixed(float* x) {
  const uint32_t partial = past_.partial();
  if (settings_.network) {
    const float sum = network_[partial], p = sum > 0 ? network_[2 * partial + 1] / sum : 0.5f;
    x[0] = stretch(p);
    x[1] = (p - 0.5f) * 4;
    x += 2;
  }
  *x = 0.3f;
  const int bit = past_.bit();
  int confidence = std::max(long_match_.confidence(), short_match_.confidence());
  int expected = long_match_.expected() >= 0 ? long_match_.expected() : short_match_.expected();
  if (line_match_ && line_match_->expected() >= 0) {
    confidence = std::max(confidence, line_match_->confidence());
    expected = line_match_->expected();
  }
  const std::array<int, 6> gates = {int(partial),
                                    int(past_.last8() & 255),
                                    confidence * 8 + bit,
                                    contexts_.longest() * 8 + bit,
                                    int(contexts_.situation()),
                                    int((past_.last8() >> 8 & 255) * 3 + uint32_t(bit / 3))};
  const float weighed = mixer_.p(gates, int(partial)), s = mixer_.stretched();
  const float p = weighed * 0.3f + refined(s, expected);
  return std::clamp(recall_ ? recalled(p, s) : p, kLeastP, 1 - kLeastP);
}

// What the refinements have to say, 0.7 of the whole.
float BitPredictor::refined(float stretched, int expected) {
  const uint32_t partial = past_.partial(), last = uint32_t(past_.last8() & 255);
  const uint32_t hash2 = (uint32_t(past_.last8() & 0xffff) * 0x9e3779b1u ^ partial * 0x85ebca6bu) >> 16;
  const uint32_t after_last = last * 256 + partial;
  const uint32_t after_expected = expected >= 0 ? uint32_t(expected) * 256 + partial : hash2;
  return refinements_[0].p(stretched, after_last % refined_) * 0.3f +
         refinements_[1].p(stretched, after_expected % refined_) * 0.4f;
}

// Most of it is what a match expects, as often as it was right when everything together said what it says now;
// and more than that as long as this was never tested.
float BitPredictor::recalled(float p, float stretched) {
  const bool line = line_match_->expected_bit(past_) >= 0 && line_match_->length() >= kLeastLine;
  const MatchMemory& match = line ? *line_match_ : long_match_;
  recall_expects_ = match.expected_bit(past_);
  if (recall_expects_ < 0) return p;
  const int situation = ((line ? MatchMemory::kLengths : 0) + match.length_class()) * 8 + past_.bit();
  const float right = recall_->p(recall_expects_ == 1 ? stretched : -stretched, size_t(situation));
  return p + kRecall * ((recall_expects_ == 1 ? right : 1 - right) - p);
}

void BitPredictor::learn(int bit) {
  each_source([&](BitSource& source) { source.learn(past_, bit); });
  mixer_.learn(bit);
  for (Refinement& r : refinements_) r.learn(bit);
  if (recall_expects_ >= 0) recall_->learn(bit == recall_expects_);
  past_.add(bit);
  if (past_.bit() == 0) next_byte(true);
}

void BitPredictor::distribution(std::span<float> probabilities) {
  BROOD_ASSERT(past_.bit() == 0 && probabilities.size() == 256);
  // Of the nodes of the tree of bits; those of the first four bits before those of the last four, which the
  // memories look up anew for each of their 16 trees.
  std::array<float, 512> node;
  node[1] = 1;
  const auto branch = [&](uint32_t at) {
    past_.suppose(at);
    const float one = considered();
    node[2 * at] = node[at] * (1 - one);
    node[2 * at + 1] = node[at] * one;
  };
  for (uint32_t at = 1; at < 16; ++at) branch(at);
  for (uint32_t half = 16; half < 32; ++half)
    for (int depth = 0; depth < 4; ++depth)
      for (uint32_t i = 0; i < 1u << depth; ++i) branch((half << depth) + i);
  past_.suppose(1);
  std::copy_n(node.begin() + 256, 256, probabilities.begin());
}

double BitPredictor::cost(uint8_t byte) {
  BROOD_ASSERT(past_.bit() == 0);
  double nats = 0;
  for (int place = 7; place >= 0; --place) {
    const int bit = byte >> place & 1;
    const float one = considered();
    nats -= std::log(double(bit ? one : 1 - one));
    if (place > 0) past_.suppose(past_.partial() << 1 | uint32_t(bit));
  }
  past_.suppose(1);
  return nats;
}

uint8_t BitPredictor::follow(uint8_t byte) {
  const uint8_t gave_way = past_.add_byte(byte);
  next_byte(false);
  return gave_way;
}

BitPredictor::Cursor BitPredictor::cursor() const {
  return {past_.bytes(), contexts_.cursor(), long_match_.cursor(), short_match_.cursor(),
          line_match_ ? line_match_->cursor() : MatchMemory::Cursor{}};
}

void BitPredictor::return_to(const Cursor& cursor, std::span<const uint8_t> gave_way) {
  BROOD_ASSERT(past_.bytes() - cursor.bytes == gave_way.size());
  for (size_t i = gave_way.size(); i > 0; --i) past_.take_back(gave_way[i - 1]);
  contexts_.return_to(cursor.contexts, past_);
  long_match_.return_to(cursor.long_match, past_);
  short_match_.return_to(cursor.short_match, past_);
  if (line_match_) line_match_->return_to(cursor.line_match, past_);
}

void BitPredictor::name_parts(MemoryParts& parts) {
  contexts_.name_parts(parts);
  long_match_.name_parts("long_match", parts);
  short_match_.name_parts("short_match", parts);
  if (line_match_) line_match_->name_parts("line_match", parts);
  if (recall_) recall_->name_parts("recall", parts);
  mixer_.name_parts("mixer", parts);
  for (size_t i = 0; i < refinements_.size(); ++i)
    refinements_[i].name_parts(fmt::format("refinements.{}", i), parts);
}

MemoryParts BitPredictor::parts() const {
  MemoryParts parts;
  const_cast<BitPredictor*>(this)->name_parts(parts);  // naming them changes nothing
  return parts;
}

void BitPredictor::copy_from(const BitPredictor& other) {
  const MemoryParts from = other.parts(), to = parts();
  BROOD_ASSERT(from.size() == to.size());
  for (size_t i = 0; i < from.size(); ++i) {
    BROOD_ASSERT(from[i].name == to[i].name && from[i].bytes() == to[i].bytes());
    std::memcpy(to[i].data, from[i].data, from[i].bytes());
  }
  past_ = other.past_;
  return_to(other.cursor(), {});
}

bool BitPredictor::resume(const Cursor& cursor, std::span<const uint8_t> last_bytes) {
  constexpr uint64_t kMostBytes = uint64_t(1) << 62;  // counting on from there does not overflow
  if (cursor.bytes > kMostBytes || last_bytes.size() != std::min(cursor.bytes, past_.capacity()))
    return false;
  for (const Refinement& r : refinements_)
    if (!r.sound()) return false;
  if (recall_ && !recall_->sound()) return false;
  if (!contexts_.sound() || !mixer_.sound() || !cursor.contexts.possible(cursor.bytes) ||
      !cursor.long_match.possible(cursor.bytes) || !cursor.short_match.possible(cursor.bytes) ||
      !cursor.line_match.possible(cursor.bytes))
    return false;
  past_.resume(cursor.bytes, last_bytes);
  return_to(cursor, {});
  return true;
}

}  // namespace brood
