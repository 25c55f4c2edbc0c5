// Tables as people and programs write them, in any pieces.
#include "brood/senses/table.h"

#include <gtest/gtest.h>

#include <cmath>

#include "brood/base/error.h"
#include "brood/senses/timestamp.h"

namespace brood {
namespace {

struct Read {
  std::vector<std::string> columns, reasons, labels, times, told;
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
  TableReader reader(
      std::move(settings),
      [&](const RejectedRow& row) {
        all.reasons.emplace_back(row.reason);
        all.rejected_lines.push_back(row.line);
      },
      [&](const std::string& sentence) { all.told.push_back(sentence); });
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

// A reader that is saved at any place goes on as if nothing had happened.
TEST(Table, GoesOnFromASave) {
  const std::string text = "\n \ntime;a;b;c;kind\n1;1,5;;x;\"q\n;\"\n2;2;oops;;r\n3;3\n\n4;4;5;;" +
                           std::string(40, 's') + "\n5;7;8;;t";
  const TableSettings settings{{}, "", "kind"};
  const Read whole = read(text, settings);
  ASSERT_EQ(whole.values.size(), 4u);
  for (size_t at = 0; at <= text.size(); ++at) {
    Read parts;
    std::vector<std::byte> saved;
    const auto rejected = [&](const RejectedRow& row) { parts.reasons.emplace_back(row.reason); };
    TableRow row;
    for (const std::string& part : {text.substr(0, at), text.substr(at)}) {
      TableReader reader(settings, rejected);
      if (!saved.empty()) {
        Archive in(saved, "table");
        reader.archive(in);
        in.end();
      }
      reader.feed({reinterpret_cast<const uint8_t*>(part.data()), part.size()});
      if (!saved.empty()) reader.finish();
      for (bool more = true; more;) {
        more = reader.next(row);
        if (more) parts.labels.emplace_back(row.label), parts.lines.push_back(row.line);
        if (more && saved.empty()) break;  // with rows that are still to be taken
      }
      parts.columns = reader.columns();
      Archive out;
      reader.archive(out);
      saved = out.take();
    }
    EXPECT_EQ(parts.labels, whole.labels) << at;
    EXPECT_EQ(parts.lines, whole.lines) << at;
    EXPECT_EQ(parts.reasons, whole.reasons) << at;
    EXPECT_EQ(parts.columns, whole.columns) << at;
  }
}

TEST(Table, ColumnsThatBeginWithNothing) {
  const Read all = read("a,b,kind,note,\n1,,red,,\n2,3,blue,some,\n3,4,red,words,\n");
  EXPECT_EQ(all.columns, (std::vector<std::string>{"a", "b", "note"}));
  ASSERT_EQ(all.values.size(), 3u);
  EXPECT_TRUE(std::isnan(all.values[0][1]));
  EXPECT_EQ(all.values[1][1], 3);
  EXPECT_TRUE(std::isnan(all.values[1][2]) && std::isnan(all.values[2][2]));
  ASSERT_EQ(all.told.size(), 2u);
  EXPECT_EQ(all.told[0], "columns taken as numbers: a, b, note; left out: kind (begins with red)");
  EXPECT_NE(all.told[1].find("note: its first value is some"), std::string::npos);
}

TEST(Table, DecimalCommas) {
  const Read all = read("t;a\n1,5;2,25\n2;-3,5\n3;1,2,3\n");
  EXPECT_EQ(all.values, (Rows{{1.5, 2.25}, {2, -3.5}}));
  EXPECT_EQ(all.told.front(), "decimal commas: 1,5 is read as 1.5");
  EXPECT_EQ(all.reasons.size(), 1u);
  EXPECT_EQ(read("1,5;2,25\n2,5;3\n").values, (Rows{{1.5, 2.25}, {2.5, 3}}));
  const Read other = read("a,b\n1,2\n1,\"2,5\"\n");
  ASSERT_EQ(other.reasons.size(), 1u);
  EXPECT_NE(other.reasons[0].find("decimal comma"), std::string::npos);
}

TEST(Table, TwoColumnsOfANameAreRefused) {
  EXPECT_THROW(read("a,b,a\n1,2,3\n"), Error);
  EXPECT_THROW(read("a,b\n1,2\n", {{"a", "a"}, "", ""}), Error);
  EXPECT_EQ(read("a,b,a\n1,2,3\n", {{"b"}, "", ""}).values, (Rows{{2}}));
}

// However many blanks come first: they are not kept, and not looked at again and again.
TEST(Table, BlanksAtTheStartTakeNoMemory) {
  TableReader reader({}, [](const RejectedRow&) {});
  const std::string blanks(1 << 16, '\n');
  TableRow row;
  for (int i = 0; i < 1000; ++i) {
    reader.feed({reinterpret_cast<const uint8_t*>(blanks.data()), blanks.size()});
    EXPECT_FALSE(reader.next(row));
  }
  Archive out;
  reader.archive(out);
  EXPECT_LT(out.take().size(), 1000u);
  const std::string table = "a\n1\n";
  reader.feed({reinterpret_cast<const uint8_t*>(table.data()), table.size()});
  ASSERT_TRUE(reader.next(row) || reader.next(row));
  EXPECT_EQ(row.line, 1000 * 65536 + 2);
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
