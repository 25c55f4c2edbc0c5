// Files of rwkv.cpp: what is in them, what is refused, and that public checkpoints give their known logits.
#include "brood/model/rwkv_file.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmath>
#include <cstring>

#include "brood/model/directory.h"
#include "brood/model/rwkv_weights.h"
#include "tests/fixture/messages.h"
#include "tests/fixture/public_data.h"
#include "tests/fixture/scratch_directory.h"
#include "tests/model/architectures.h"

namespace brood {
namespace {

using nlohmann::json;

// Writes such a file from scratch.
class Writer {
 public:
  Writer(int64_t vocab, int64_t d_model, int64_t n_layer, uint32_t version = 101) {
    for (const int64_t number : {int64_t(0x67676d66), int64_t(version), vocab, d_model, n_layer, int64_t(0)})
      add(uint32_t(number));
  }
  // shape as in PyTorch; type 0 takes the numbers as they are, 1 takes halves.
  template <class T>
  void tensor(const std::string& name, std::vector<int64_t> shape, const std::vector<T>& numbers,
              uint32_t type = sizeof(T) == 4 ? 0 : 1) {
    for (const size_t number : {shape.size(), name.size(), size_t(type)}) add(uint32_t(number));
    for (size_t i = shape.size(); i-- > 0;) add(uint32_t(shape[i]));
    bytes += name;
    bytes.append(reinterpret_cast<const char*>(numbers.data()), numbers.size() * sizeof(T));
  }
  std::string bytes;

 private:
  void add(uint32_t number) { bytes.append(reinterpret_cast<const char*>(&number), sizeof number); }
};

RwkvFile parse(const std::string& bytes) { return RwkvFile::parse(std::as_bytes(std::span(bytes)), "f.bin"); }
std::string refused(const std::string& bytes) {
  return message_of([&] { parse(bytes).config(); });
}

// A model of ours and its weights under the names of RWKV's authors.
class Theirs {
 public:
  explicit Theirs(const char* config) : model(json::parse(config), 3) { testing::enlarge(model); }

  std::vector<float> numbers(const std::string& ours) {
    const Parameter* p = model.parameters().find(ours);
    BROOD_ASSERT(p != nullptr);
    return {p->value.f32(), p->value.f32() + p->size()};
  }
  void copy(Writer& to, const std::string& theirs, const std::string& ours, std::vector<int64_t> shape) {
    to.tensor(theirs, std::move(shape), numbers(ours));
  }
  void norm(Writer& to, const std::string& theirs, const std::string& ours, int64_t width) {
    for (const char* part : {".weight", ".bias"}) copy(to, theirs + part, ours + part, {width});
  }
  // What the file gives must be the model, to the bit.
  void expect_loads(const Writer& file) {
    ScratchDirectory scratch;
    const std::string path = scratch.write("m.bin", file.bytes);
    EXPECT_TRUE(RwkvFile::is_one(path));
    LoadedModel loaded = load_model(path);
    for (const Parameter& p : model.parameters().all()) {
      const Parameter* q = loaded.model->parameters().find(p.name);
      ASSERT_NE(q, nullptr) << p.name;
      for (int64_t i = 0; i < p.size(); ++i)
        ASSERT_NEAR(p.value.f32()[i], q->value.f32()[i], 1e-6f * std::abs(p.value.f32()[i])) << p.name;
    }
    EXPECT_EQ(loaded.model->parameter_count(), model.parameter_count());
  }

  Model model;
};

constexpr const char* kFourth = R"({"architecture":"rwkv4","vocab_size":9,"d_model":4,"n_layer":2,"d_ff":6})";
constexpr const char* kSeventh =
    R"({"architecture":"rwkv7","vocab_size":9,"d_model":4,"n_layer":2,"d_ff":6,"head_dim":2,"decay_low_rank_dim":3,"a_low_rank_dim":5,"v_low_rank_dim":2,"gate_low_rank_dim":7})";

Writer fourth(Theirs& theirs) {
  Writer file(9, 4, 2, 100);
  theirs.copy(file, "emb.weight", "rwkv.embeddings.weight", {9, 4});
  theirs.norm(file, "blocks.0.ln0", "rwkv.blocks.0.pre_ln", 4);
  for (const std::string i : {"0.", "1."}) {
    const std::string a = "blocks." + i, b = "rwkv.blocks." + i;
    theirs.norm(file, a + "ln1", b + "ln1", 4);
    theirs.norm(file, a + "ln2", b + "ln2", 4);
    std::vector<float> decay = theirs.numbers(b + "attention.time_decay");
    for (float& x : decay) x = -std::exp(x);
    file.tensor(a + "att.time_decay", {4}, decay);
    theirs.copy(file, a + "att.time_first", b + "attention.time_first", {4});
    theirs.copy(file, a + "att.time_mix_k", b + "attention.time_mix_key", {4});
    theirs.copy(file, a + "att.time_mix_v", b + "attention.time_mix_value", {4});
    theirs.copy(file, a + "att.time_mix_r", b + "attention.time_mix_receptance", {4});
    for (const std::string map : {"key", "value", "receptance", "output"})
      theirs.copy(file, a + "att." + map + ".weight", b + "attention." + map + ".weight", {4, 4});
    theirs.copy(file, a + "ffn.time_mix_k", b + "feed_forward.time_mix_key", {4});
    theirs.copy(file, a + "ffn.time_mix_r", b + "feed_forward.time_mix_receptance", {4});
    theirs.copy(file, a + "ffn.key.weight", b + "feed_forward.key.weight", {6, 4});
    theirs.copy(file, a + "ffn.receptance.weight", b + "feed_forward.receptance.weight", {4, 4});
    theirs.copy(file, a + "ffn.value.weight", b + "feed_forward.value.weight", {4, 6});
  }
  theirs.norm(file, "ln_out", "rwkv.ln_out", 4);
  theirs.copy(file, "head.weight", "head.weight", {9, 4});
  return file;
}

Writer seventh(Theirs& theirs) {
  Writer file(9, 4, 2);
  theirs.copy(file, "emb.weight", "model.embeddings.weight", {9, 4});
  theirs.norm(file, "blocks.0.ln0", "model.layers.0.pre_norm", 4);
  file.tensor("blocks.0.att.v0", {1, 1, 4},
              std::vector<float>(4));  // some files have these and use them nowhere
  for (const std::string i : {"0.", "1."}) {
    const std::string a = "blocks." + i, b = "model.layers." + i;
    theirs.norm(file, a + "ln1", b + "attn_norm", 4);
    theirs.norm(file, a + "ln2", b + "ffn_norm", 4);
    std::vector<float> shares;
    for (const char* one : {"r", "w", "k", "v", "a", "g"}) {
      const std::vector<float> share = theirs.numbers(b + "attn.x_" + one);
      shares.insert(shares.end(), share.begin(), share.end());
    }
    file.tensor(a + "att.x_rwkvag", {6, 1, 4}, shares);
    struct Rank {
      const char* name;
      int64_t size;
    };
    for (const Rank rank : {Rank{"w", 3}, Rank{"a", 5}, Rank{"v", 2}, Rank{"g", 7}}) {
      if (i == "0." && *rank.name == 'v') continue;
      const std::string x = a + "att." + rank.name, y = b + "attn." + rank.name + "_lora.lora.";
      theirs.copy(file, x + "1", y + "0.weight", {rank.size, 4});
      theirs.copy(file, x + "2", y + "2.weight", {4, rank.size});
      if (*rank.name != 'g') theirs.copy(file, x + "0", y + "2.bias", {1, 1, 4});
    }
    theirs.copy(file, a + "att.k_k", b + "attn.k_k", {1, 1, 4});
    theirs.copy(file, a + "att.k_a", b + "attn.k_a", {1, 1, 4});
    theirs.copy(file, a + "att.r_k", b + "attn.r_k", {2, 2});
    theirs.copy(file, a + "att.receptance.weight", b + "attn.r_proj.weight", {4, 4});
    theirs.copy(file, a + "att.key.weight", b + "attn.k_proj.weight", {4, 4});
    theirs.copy(file, a + "att.value.weight", b + "attn.v_proj.weight", {4, 4});
    theirs.copy(file, a + "att.output.weight", b + "attn.o_proj.weight", {4, 4});
    theirs.norm(file, a + "att.ln_x", b + "attn.g_norm", 4);
    theirs.copy(file, a + "ffn.x_k", b + "ffn.x_k", {1, 1, 4});
    theirs.copy(file, a + "ffn.key.weight", b + "ffn.key.weight", {6, 4});
    theirs.copy(file, a + "ffn.value.weight", b + "ffn.value.weight", {4, 6});
  }
  theirs.norm(file, "ln_out", "model.norm", 4);
  theirs.copy(file, "head.weight", "lm_head.weight", {9, 4});
  return file;
}

TEST(RwkvFile, FourthLoads) {
  Theirs theirs(kFourth);
  theirs.expect_loads(fourth(theirs));
}

TEST(RwkvFile, SeventhLoads) {
  Theirs theirs(kSeventh);
  const Writer file = seventh(theirs);
  theirs.expect_loads(file);
  const json config = parse(file.bytes).config();
  for (const char* key : {"head_dim", "decay_low_rank_dim", "a_low_rank_dim", "v_low_rank_dim",
                          "gate_low_rank_dim", "d_ff", "n_layer", "d_model", "vocab_size"})
    EXPECT_EQ(config[key], json::parse(kSeventh)[key]) << key;
}

TEST(RwkvFile, ReadsHalves) {
  Writer file(9, 4, 2);
  file.tensor("x", {2, 2}, std::vector<uint16_t>{0x3c00, 0xc000, 0x0001, 0x7bff});
  file.tensor("y", {1}, std::vector<uint16_t>{0x7c00});
  const RwkvFile read = parse(file.bytes);
  std::vector<float> x(4), y(1);
  read.read("x", x);
  EXPECT_EQ(x, (std::vector<float>{1, -2, 0x1p-24f, 65504}));
  read.read("x", std::span(x).first(1), 1);
  EXPECT_EQ(x[0], -2);
  expect_contains(message_of([&] { read.read("y", y); }), "\"y\" holds a NaN or an infinity");
  expect_contains(message_of([&] { read.read("x", x, 1); }), "has 4 numbers, but 4 are needed from index 1");
}

// A pipe gives its bytes once: they are left to whoever reads it in earnest.
TEST(RwkvFile, APipeIsNotLookedInto) {
  const ScratchDirectory scratch;
  const std::string path = scratch.path() + "/pipe";
  ASSERT_EQ(::mkfifo(path.c_str(), 0600), 0);
  const int pipe = ::open(path.c_str(), O_RDWR | O_NONBLOCK);
  ASSERT_GE(pipe, 0);
  const std::string written = Writer(9, 4, 2).bytes;
  ASSERT_EQ(::write(pipe, written.data(), written.size()), ssize_t(written.size()));
  EXPECT_FALSE(RwkvFile::is_one(path));
  std::string left(written.size(), ' ');
  EXPECT_EQ(::read(pipe, left.data(), left.size()), ssize_t(written.size()));
  EXPECT_TRUE(left == written);
  ::close(pipe);
}

TEST(RwkvFile, RefusesWhatItIsNot) {
  EXPECT_FALSE(RwkvFile::is_one("/no/such/file"));
  EXPECT_FALSE(RwkvFile::is_one("/"));
  expect_contains(refused("ggmf"), "f.bin: 4 bytes are too few");
  expect_contains(refused(std::string(24, 'x')), "not a file of rwkv.cpp");
  expect_contains(refused(Writer(9, 4, 2, 102).bytes), "version is 102");
  expect_contains(refused(Writer(0, 4, 2).bytes), "size of the vocabulary is 0");
  expect_contains(refused(Writer(9, 4, 1 << 20).bytes), "number of layers is 1048576");
  Writer quantised(9, 4, 2);
  quantised.tensor("x", {32}, std::vector<float>(8), 8);
  expect_contains(refused(quantised.bytes), "\"x\" is of type Q5_1; only files of FP32 and FP16");
  Writer twice(9, 4, 2);
  for (int i = 0; i < 2; ++i) twice.tensor("x", {1}, std::vector<float>(1));
  expect_contains(refused(twice.bytes), "\"x\" is there twice");
  Writer huge(9, 4, 2);
  huge.tensor("x", {0xffffffff, 0xffffffff, 0xffffffff}, std::vector<float>(1));
  expect_contains(refused(huge.bytes), "is impossible");
  Writer empty(9, 4, 2);
  empty.tensor("x", {0, 4}, std::vector<float>());
  expect_contains(refused(empty.bytes), "impossible shape [0,4]");
  Writer fifth(9, 4, 2);
  fifth.tensor("blocks.0.att.time_mix_k", {4}, std::vector<float>(4));
  fifth.tensor("blocks.0.att.ln_x.weight", {4}, std::vector<float>(4));
  expect_contains(refused(fifth.bytes), "neither an RWKV-4 nor an RWKV-7");
}

TEST(RwkvFile, RefusesEveryCut) {
  Theirs theirs(kFourth);
  const std::string whole = fourth(theirs).bytes;
  for (size_t length = 0; length < whole.size(); ++length) {
    const std::string cut = whole.substr(0, length);
    try {
      Model model(parse(cut).config());
      read_weights(parse(cut), model);
      FAIL() << length;
    } catch (const Error&) {
    }
  }
}

TEST(RwkvFile, RefusesWhatDoesNotFit) {
  Theirs theirs(kFourth);
  const auto load = [](const Writer& file) {
    return message_of([&] {
      const RwkvFile read = parse(file.bytes);
      Model model(read.config());
      read_weights(read, model);
    });
  };
  Writer more = fourth(theirs);
  more.tensor("surprise", {1}, std::vector<float>(1));
  expect_contains(load(more), "\"surprise\" belongs to no part");
  Writer other(9, 4, 3, 100);
  other.bytes = other.bytes.substr(0, 24) + fourth(theirs).bytes.substr(24);
  expect_contains(load(other), "\"blocks.2.att.output.weight\" is missing");
  Writer wider(9, 5, 2, 100);
  wider.bytes = wider.bytes.substr(0, 24) + fourth(theirs).bytes.substr(24);
  expect_contains(load(wider), "\"emb.weight\" has the shape [9,4], but [9,5] is needed");
}

// The logits that rwkv.cpp expects of its own test files after three bytes.
TEST(RwkvFile, TinyCheckpointsGiveTheirLogits) {
  const std::string folder = public_data("tiny_rwkv");
  if (folder.empty())
    GTEST_SKIP() << "set BROOD_TEST_DATA to a folder with tiny_rwkv/, which holds tiny-rwkv-*-FP32.bin and "
                    "expected-logits-*.bin of the tests of github.com/RWKV/rwkv.cpp";
  for (const std::string which : {"4v0-660K", "7v0-834K"}) {
    LoadedModel loaded = load_model(folder + "/tiny-rwkv-" + which + "-FP32.bin");
    std::ifstream file(folder + "/expected-logits-" + which + ".bin", std::ios::binary);
    std::vector<float> expected(256);
    ASSERT_TRUE(file.read(reinterpret_cast<char*>(expected.data()), 256 * sizeof(float))) << which;
    for (const std::vector<int64_t>& chunks : {std::vector<int64_t>{3}, {1, 1, 1}}) {
      const std::vector<float> logits = testing::logits_in_chunks(*loaded.model, {'"', 'i', 'n'}, chunks);
      float most = 0;
      for (size_t i = 0; i < 256; ++i) most = std::max(most, std::abs(logits[512 + i] - expected[i]));
      EXPECT_LE(most, 1e-5f) << which;
      RecordProperty(which + "_" + std::to_string(chunks.size()), fmt::format("{:.2e}", most));
    }
  }
}

}  // namespace
}  // namespace brood
