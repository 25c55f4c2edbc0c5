#include "brood/base/settings.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "brood/base/json.h"
#include "tests/fixture/messages.h"

namespace brood {
namespace {

using nlohmann::json;

TEST(Json, SaysLineAndColumn) {
  const auto message = [](const char* text) { return message_of([&] { parse_json(text, "c.json"); }); };
  expect_contains(message("{\n  \"a\": 1,\n  b: 2}"), "c.json: line 3, column 3 is not JSON");
  expect_contains(message(""), "line 1, column 1");
  expect_contains(message("{\"a\": 1"), "line 1, column 8");
  expect_contains(message("{\"a\": 1} x"), "line 1, column 10");
  expect_contains(message("{\"a\": nan}"), "line 1");
  expect_contains(message("{\"a\": 1e999}"), "c.json: cannot be read as JSON");
  expect_contains(message("{\"a\": \"\xff\"}"), "line 1");
}

TEST(Json, RefusesAKeyWrittenTwice) {
  expect_contains(message_of([] { parse_json(R"({"a": 1, "b": {"a": 2}, "a": 3})", "c"); }),
                  "\"a\" is written twice");
  EXPECT_EQ(parse_json(R"({"a": 1, "b": {"a": 2}})", "c")["b"]["a"], 2);
  EXPECT_EQ(parse_json(R"([{"a": 1}, {"a": 2}])", "c")[1]["a"], 2);
}

TEST(Json, RefusesDeepNestingAndSurvivesIt) {
  const auto nested = [](int depth) {
    return std::string(size_t(depth), '[') + std::string(size_t(depth), ']');
  };
  EXPECT_NO_THROW(parse_json(nested(kJsonDepth), "c"));
  expect_contains(message_of([&] { parse_json(nested(kJsonDepth + 2), "c"); }), "nested deeper");
  expect_contains(message_of([] { parse_json(std::string(10'000'000, '['), "c"); }), "nested deeper");
}

TEST(Json, ShowsValuesBrieflyInAscii) {
  EXPECT_EQ(shown("a\n\"b\""), R"("a\n\"b\"")");
  EXPECT_EQ(shown("\xff"), R"("\ufffd")");
  EXPECT_EQ(shown(std::string(1000, 'x')).size(), 60u);
}

TEST(Settings, ReadsAndRemembersDefaults) {
  Settings s = Settings::parse(
      R"({"d_model": 64, "dropout": 0.1, "eps": 1, "tied": true, "kind": "b", "name": "n"})", "config.json");
  EXPECT_EQ(s.integer("d_model", 128, 1, 1000), 64);
  EXPECT_EQ(s.integer("n_layer", 4, 1, 1000), 4);
  EXPECT_EQ(s.number("dropout", 0, 0, 1), 0.1);
  EXPECT_EQ(s.number("eps", 0, 0, 1), 1.0);  // a whole number is a number
  EXPECT_TRUE(s.flag("tied", false));
  EXPECT_FALSE(s.flag("parallel", false));
  EXPECT_EQ(s.choice("kind", "a", {"a", "b"}), "b");
  EXPECT_EQ(s.choice("other", "a", {"a", "b"}), "a");
  EXPECT_EQ(s.text("name", ""), "n");
  EXPECT_TRUE(s.has("name"));
  EXPECT_FALSE(s.has("n_layer"));
  s.finish();
  EXPECT_EQ(s.effective(), json({{"d_model", 64},
                                 {"n_layer", 4},
                                 {"dropout", 0.1},
                                 {"eps", 1.0},
                                 {"tied", true},
                                 {"parallel", false},
                                 {"kind", "b"},
                                 {"other", "a"},
                                 {"name", "n"}}));
}

TEST(Settings, EffectiveReadsBackToItself) {
  Settings first(json{{"a", 3}}, "first");
  first.integer("a", 1, 0, 9), first.number("b", 0.3, 0, 1), first.text("c", "x");
  Settings second(first.effective(), "second");
  second.integer("a", 1, 0, 9), second.number("b", 0.5, 0, 1), second.text("c", "y");
  second.finish();
  EXPECT_EQ(first.effective(), second.effective());
}

TEST(Settings, RefusesWrongTypesAndRanges) {
  const auto integer = [](json value) {
    return message_of([&] {
      Settings(json{{"d_model", value}}, "config.json").integer("d_model", 1, 1, 4096);
    });
  };
  EXPECT_EQ(integer(770.5), "config.json: d_model is 770.5, but must be a whole number from 1 to 4096");
  for (const json& bad :
       {json("64"), json(64.0), json(0), json(-1), json(4097), json(true), json(nullptr), json::array(),
        json(std::numeric_limits<uint64_t>::max()), json(std::numeric_limits<int64_t>::min())})
    expect_contains(integer(bad), "d_model is " + shown(bad));

  const auto number = [](json value) {
    return message_of([&] { Settings(json{{"x", value}}).number("x", 0, 0, 0.5); });
  };
  for (const json& bad :
       {json(0.6), json(-0.1), json("0.1"), json(std::nan("")), json(HUGE_VAL), json(false)})
    expect_contains(number(bad), "a number from 0 to 0.5");

  expect_contains(message_of([] { Settings(json{{"x", 1}}).flag("x", false); }), "true or false");
  expect_contains(message_of([] {
                    Settings(json{{"x", "c"}}).choice("x", "a", {"a", "b"});
                  }),
                  "one of \"a\", \"b\"");
  expect_contains(message_of([] { Settings(json{{"x", 1}}).choice("x", "a", {"a", "b"}); }), "x is 1");
  expect_contains(message_of([] { Settings(json{{"x", 1}}).text("x", ""); }), "a text in quotes");
  expect_contains(message_of([] { Settings::parse("[1]", "config.json"); }),
                  "config.json: must be a JSON object");
}

TEST(Settings, NamesTheNearestKnownKey) {
  const auto unknown = [](const char* key) {
    Settings s(json{{key, 1}}, "config.json");
    for (const char* known : {"d_model", "n_layer", "dropout"}) s.integer(known, 1, 0, 9);
    return message_of([&] { s.finish(); });
  };
  EXPECT_EQ(unknown("d_modle"), "config.json: unknown key \"d_modle\"; did you mean \"d_model\"?");
  expect_contains(unknown("n_layers"), "did you mean \"n_layer\"?");
  expect_contains(unknown("num_layer"), "did you mean \"n_layer\"?");
  expect_contains(unknown("zzz"), "known keys are d_model, dropout, n_layer");
  expect_contains(unknown(""), "known keys are");
  expect_contains(unknown(std::string(100'000, 'd').c_str()), "known keys are");
}

}  // namespace
}  // namespace brood
