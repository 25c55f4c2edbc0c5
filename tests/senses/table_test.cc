// Tables as people and programs write them, in any pieces.
#include "brood/senses/table.h"

#include <gtest/gtest.h>

#include <cmath>

#include "brood/base/error.h"
#include "brood/senses/timestamp.h"

namespace brood {
namespace {

struct Read {
  std::vector<std::string> columns, reasons, labels, times;
  std::vector<std::vector<double>> values;
  std::vector<double> seconds;
  std::vector<int64_t> lines, rejected_lines;
  bool operator==(const Read& o) const {
    return columns == o.columns && reasons == o.reasons && labels == o.labels && times == o.times &&
           lines == o.lines && rejected_lines == o.rejected_lines && values.size() == o.values.size();
  }
};

Read read(const std::string& text, TableSettings settings = {}, size_t piece = 1 << 20) {
  Read all;
  TableReader reader(std::move(settings), [&](const RejectedRow& row) {
    all.reasons.emplace_back(row.reason);
    all.rejected_lines.push_back(row.line);
  });
  TableRow row;
  const auto take = [&] {
    while (reader.next(row)) {
      all.values.emplace_back(row.values.begin(), row.values.end());
      all.labels.emplace_back(row.label);
      all.times.emplace_back(row.time_text);
      all.seconds.push_back(row.time);
      all.lines.push_back(row.line);
    }
  };
  for (size_t at = 0; at < text.size(); at += piece) {
    const std::string some = text.substr(at, piece);
    reader.feed({reinterpret_cast<const uint8_t*>(some.data()), some.size()});
    take();
  }
  reader.finish();
  take();
  all.columns = reader.columns();
  return all;
}

using Rows = std::vector<std::vector<double>>;

TEST(Table, PlainCsv) {
  const Read all = read("date,a,b\n2016-07-01 00:00:00,1,-2.5e3\n2016-07-01 01:00:00,3,4\n");
  EXPECT_EQ(all.columns, (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(all.values, (Rows{{1, -2500}, {3, 4}}));
  EXPECT_EQ(all.seconds, (std::vector<double>{1467331200, 1467334800}));
  EXPECT_EQ(all.lines, (std::vector<int64_t>{2, 3}));
  EXPECT_TRUE(all.reasons.empty());
}

TEST(Table, QuotesLineEndsMarksAndSpaces) {
  const Read all =
      read("\xef\xbb\xbf\"a \"\"quoted\"\"\";\"two\r\nlines\";c\r\n\"1\";2;\" x; y\"\r\n\r\n 3 ; 4 ;z");
  EXPECT_EQ(all.columns, (std::vector<std::string>{"a \"quoted\"", "two\r\nlines"}));
  EXPECT_EQ(all.values, (Rows{{1, 2}, {3, 4}}));
  EXPECT_EQ(all.lines, (std::vector<int64_t>{3, 5}));
}

TEST(Table, SameInAnyPieces) {
  const std::string text =
      "\xef\xbb\xbftime,a,b,kind\n1,1,2,x\n2,\"3\",,\"q\"\"uote, "
      "and\nline\"\n3,x,1,\n4,1\n\n5,7,8,z\n\"6,1,1,o\n7,9,9,p\n";
  const Read whole = read(text, {{}, "", "kind"});
  EXPECT_EQ(whole.values.size(), 4u);
  EXPECT_EQ(whole.reasons.size(), 3u);
  for (size_t piece = 1; piece < 20; ++piece) EXPECT_EQ(read(text, {{}, "", "kind"}, piece), whole) << piece;
}

TEST(Table, MissingValuesAreNotANumber) {
  const Read all = read("a,b\n1,2\n,NA\nnull,?\n-,4\n");
  ASSERT_EQ(all.values.size(), 4u);
  EXPECT_TRUE(std::isnan(all.values[1][0]) && std::isnan(all.values[1][1]));
  EXPECT_TRUE(std::isnan(all.values[2][0]) && std::isnan(all.values[2][1]));
  EXPECT_EQ(all.values[3][1], 4);
}

TEST(Table, MalformedRowsAreHandedOverWithTheReason) {
  const Read all = read("a,b\n1,2\n1,2,3\n1\n1,two\n1,inf\n1,1e999\n1,1e101\n1,\"2\"x\n3,4\n");
  EXPECT_EQ(all.values, (Rows{{1, 2}, {3, 4}}));
  ASSERT_EQ(all.reasons.size(), 7u);
  EXPECT_EQ(all.reasons[0], "3 fields where the header has 2");
  EXPECT_EQ(all.reasons[2], "b: two is not a number that was measured");
  EXPECT_EQ(all.rejected_lines, (std::vector<int64_t>{3, 4, 5, 6, 7, 8, 9}));
}

TEST(Table, AQuoteThatIsNeverClosedTakesOneLine) {
  const Read all = read("a,b\n1,2\n\"3,4\n5,6\n7,8\n");
  EXPECT_EQ(all.values, (Rows{{1, 2}, {5, 6}, {7, 8}}));
  EXPECT_EQ(all.rejected_lines, (std::vector<int64_t>{3}));
}

TEST(Table, ALineWithoutEndIsThrownAway) {
  const std::string endless(3 * kMostRowBytes, '7');
  const Read all = read("a,b\n1,2\n" + endless + "\n3,4\n", {}, 1 << 16);
  EXPECT_EQ(all.values, (Rows{{1, 2}, {3, 4}}));
  EXPECT_EQ(all.reasons.size(), 1u);
}

TEST(Table, JsonLines) {
  const Read all = read(
      "{\"t\":\"2020-01-01T00:00:00Z\",\"x\":1.5,\"s\":\"red\"}\n"
      "{\"x\":null,\"t\":\"2020-01-01T00:00:01+01:00\",\"s\":\"blue\"}\n"
      "{\"x\":2,\n[1]\n{\"x\":3,\"t\":\"2020-01-02\"}",
      {{}, "t", "s"});
  EXPECT_EQ(all.columns, (std::vector<std::string>{"x"}));
  ASSERT_EQ(all.values.size(), 3u);
  EXPECT_EQ(all.values[0][0], 1.5);
  EXPECT_TRUE(std::isnan(all.values[1][0]));
  EXPECT_EQ(all.seconds, (std::vector<double>{1577836800, 1577833201, 1577923200}));
  EXPECT_EQ(all.labels, (std::vector<std::string>{"red", "blue", ""}));
  EXPECT_EQ(all.reasons.size(), 2u);
}

TEST(Table, ColumnsByNameAndWithoutHeader) {
  EXPECT_EQ(read("a,b,c\n1,2,3\n", {{"c", "a"}, "", ""}).values, (Rows{{3, 1}}));
  EXPECT_EQ(read("1,2\n3,4\n").values, (Rows{{1, 2}, {3, 4}}));
  EXPECT_THROW(read("a,b\n1,2\n", {{"x"}, "", ""}), Error);
  EXPECT_THROW(read("a,b\nx,y\n"), Error);
  EXPECT_TRUE(read("").values.empty());
  EXPECT_TRUE(read("a,b\n").values.empty());
}

TEST(Timestamp, Forms) {
  const auto seconds = [](std::string_view text) {
    double time = -1;
    return parse_time(text, time) ? time : -1;
  };
  EXPECT_EQ(seconds("1970-01-01"), 0);
  EXPECT_EQ(seconds("2000/02/29 12:30"), 951827400);
  EXPECT_EQ(seconds("2014-04-01T00:00:09.25Z"), 1396310409.25);
  EXPECT_EQ(seconds("2014-04-01 00:00:00+0130"), 1396305000);
  EXPECT_EQ(seconds("17.5"), 17.5);
  for (const char* wrong :
       {"", "2014-02-29", "2014-13-01", "2014-1-01", "2014-01-01 25:00", "2014-01-01x", "nan", "20140101T"})
    EXPECT_EQ(seconds(wrong), -1) << wrong;
}

}  // namespace
}  // namespace brood
