// Learning series live: honest, the same to the bit however it is run, and not to be upset by any number.
#include "brood/learn/series.h"

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <cstring>
#include <limits>
#include <numbers>

#include "brood/base/crc32.h"
#include "brood/base/error.h"
#include "brood/base/memory.h"
#include "brood/base/random.h"
#include "brood/base/threads.h"
#include "brood/learn/series_column.h"
#include "brood/learn/series_file.h"
#include "tests/fixture/scratch_directory.h"

namespace brood {
namespace {

using Rows = std::vector<std::vector<double>>;
constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();

// Waves with noise, of which the second follows the first.
Rows waves(int64_t rows, uint64_t seed, int64_t columns = 2) {
  Random random(seed);
  Rows all;
  for (int64_t t = 0; t < rows; ++t) {
    std::vector<double> row;
    for (int64_t c = 0; c < columns; ++c) {
      const double before = t > 0 && c > 0 ? all.back()[0] : 0;
      row.push_back(10 * std::sin(2 * std::numbers::pi * double(t) / 24) + before + double(100 * c) +
                    random.normal());
    }
    all.push_back(row);
  }
  return all;
}

// Everything that is said of every row, bit by bit.
std::vector<uint64_t> said(SeriesLearner& learner, const Rows& rows, size_t begin, size_t end) {
  std::vector<uint64_t> bits;
  const auto add = [&](double x) {
    uint64_t word;
    std::memcpy(&word, &x, sizeof word);
    bits.push_back(word);
  };
  for (size_t t = begin; t < end; ++t) {
    learner.observe(rows[t], 1);
    for (const SeriesReport& report : learner.reports())
      for (const double x :
           {report.expected, report.low, report.high, report.surprise, report.anomaly, report.forecast})
        add(x);
    for (int64_t c = 0; c < learner.columns(); ++c)
      for (const double x : learner.forecast(c)) add(x);
  }
  return bits;
}

SeriesSettings small(int64_t horizon = 3) {
  SeriesSettings settings;
  settings.horizon = horizon;
  settings.season = 24;
  settings.lags = 8;
  return settings;
}

TEST(Series, ForecastsBetterThanRepeating) {
  SeriesLearner learner(2, small(6));
  const Rows rows = waves(3000, 1);
  for (size_t t = 0; t < rows.size(); ++t) {
    learner.observe(rows[t], 1);
    if (t == 500) learner.begin_scores();
  }
  for (int64_t c = 0; c < 2; ++c) {
    const SeriesScore& score = learner.score(c);
    EXPECT_LT(score.squared, 0.2 * score.last_squared);
    EXPECT_LT(score.squared, 0.8 * score.season_squared);
    EXPECT_NEAR(double(score.inside) / double(score.intervals), 0.8, 0.03);
  }
}

// A forecast for h rows ahead is that of a learner that was never shown what came after the row it was made at;
// so whatever comes later changes nothing said before.
TEST(Series, TheFutureChangesNothingThatWasSaid) {
  const Rows rows = waves(120, 2);
  for (const size_t changed : {60u, 90u, 119u}) {
    Rows other = rows;
    for (size_t t = changed; t < other.size(); ++t) other[t] = {1e6, -1e6};
    SeriesLearner one(2, small()), two(2, small());
    EXPECT_EQ(said(one, rows, 0, changed), said(two, other, 0, changed));
    EXPECT_NE(said(one, rows, changed, rows.size()), said(two, other, changed, rows.size()));
  }
}

// What was expected of a row is what was forecast `horizon` rows earlier, unchanged by what came between.
TEST(Series, ExpectationsAreTheForecastsOfBefore) {
  const int64_t horizon = 5;
  SeriesLearner learner(2, small(horizon));
  const Rows rows = waves(100, 3);
  std::vector<double> forecasts;
  for (size_t t = 0; t < rows.size(); ++t) {
    learner.observe(rows[t], 1);
    const SeriesReport& report = learner.reports()[1];
    if (t >= size_t(horizon)) {
      EXPECT_EQ(report.expected, forecasts[t - size_t(horizon)]);
    }
    forecasts.push_back(report.forecast);
    EXPECT_EQ(report.forecast, learner.forecast(1).back());
  }
}

TEST(Series, GoesOnToTheBitAfterASave) {
  const ScratchDirectory folder;
  Rows rows = waves(700, 4, 3);
  rows[100][1] = kNaN;
  rows[301][0] = kNaN;
  SeriesLearner whole(3, small());
  const auto expected = [&] {
    said(whole, rows, 0, 300);
    return said(whole, rows, 300, 700);
  }();
  KeptSeries kept{.columns = {"a", "b", "c"}, .time = "when", .last_time = 17, .settings = small()};
  kept.begin();
  said(*kept.forecasts, rows, 0, 300);
  write_series(folder / "series", kept);
  KeptSeries again = read_series(folder / "series");
  EXPECT_EQ(again.columns, kept.columns);
  EXPECT_EQ(again.time, "when");
  EXPECT_EQ(again.last_time, 17);
  EXPECT_EQ(said(*again.forecasts, rows, 300, 700), expected);
}

// How much memory a file asks for is known before it is taken: a learner that has learnt nothing writes exactly that.
TEST(Series, SizesAreKnownBefore) {
  for (const auto& [horizon, season, lags, columns] :
       {std::array<int64_t, 4>{1, 0, 1, 1}, {3, 24, 8, 2}, {7, 5, 8, 40}}) {
    SeriesSettings settings;
    settings.horizon = horizon;
    settings.season = season;
    settings.lags = lags;
    EXPECT_EQ(archived_bytes(SeriesLearner(columns, settings)),
              SeriesLearner::least_bytes(columns, settings));
    const ClassSettings classes{.delay = horizon, .season = season, .window = lags};
    EXPECT_EQ(archived_bytes(ClassLearner(columns, classes)), ClassLearner::least_bytes(columns, classes));
  }
}

KeptSeries some_series(bool classes) {
  KeptSeries kept{.columns = {"a", "b"}, .label = classes ? "kind" : "", .settings = small()};
  kept.begin();
  SeriesStream& stream = kept.stream.emplace();
  stream.source = {.name = "/somewhere/table.csv", .taken = 1234, .check = 77, .ended = true};
  stream.rows = 50;
  stream.first_rejected = "line 3: what";
  if (!classes) stream.plot.emplace(2);
  const Rows rows = waves(50, 5);
  for (size_t t = 0; t < rows.size(); ++t) {
    if (classes) kept.classes->observe(rows[t], t % 3 == 0 ? "x" : "y");
    if (classes) continue;
    kept.forecasts->observe(rows[t], 1);
    stream.plot->add(int64_t(t), rows[t], kept.forecasts->reports());
  }
  return kept;
}

// Whatever is turned over behind a check that is right: refused with an Error, or a series that goes on; written again it
// is the same bytes.
TEST(Series, ForgedFilesAreRefusedOrGoOn) {
  for (const bool classes : {false, true}) {
    KeptSeries kept = some_series(classes);
    const std::vector<std::byte> good = series_bytes(kept);
    const auto body = std::span(good).first(good.size() - 4);
    int refused = 0, tries = 0;
    for (size_t at = 0; at < body.size(); at += at < 600 ? 1 : body.size() / 400 + 1, ++tries) {
      std::vector<std::byte> forged(body.begin(), body.end());
      forged[at] ^= std::byte(0x90);
      const uint32_t crc = crc32({reinterpret_cast<const uint8_t*>(forged.data()), forged.size()});
      for (int shift = 0; shift < 32; shift += 8) forged.push_back(std::byte(crc >> shift));
      try {
        KeptSeries read = parse_series(forged, "forged");
        EXPECT_TRUE(series_bytes(read) == forged) << at;
        if (read.forecasts) read.forecasts->observe(std::vector<double>(read.columns.size(), 1.5), 1);
        if (read.classes) read.classes->observe(std::vector<double>(read.columns.size(), 1.5), "x");
      } catch (const Error&) {
        ++refused;
      }
    }
    EXPECT_GT(refused, tries / 10);
  }
}

TEST(Series, PlotsKeepTheStrongestAlarms) {
  SeriesPlot plot(1);
  const int64_t rows = 2 * int64_t(SeriesPlot::kMostAlarms);
  for (int64_t t = 0; t < rows; ++t) {
    SeriesReport report{};
    report.alarm = true;
    report.anomaly = double(t * 7919 % rows);
    const double value = 1;
    plot.add(t, {&value, 1}, {&report, 1});
  }
  const SeriesPlot::Track& track = plot.tracks()[0];
  EXPECT_EQ(track.alarms.size(), SeriesPlot::kMostAlarms);
  EXPECT_EQ(track.weaker, rows - int64_t(SeriesPlot::kMostAlarms));
  for (const SeriesPlot::Alarm& alarm : track.alarms) EXPECT_GE(alarm.anomaly, double(rows / 2));
  EXPECT_LT(track.points.size(), SeriesPlot::kMostPoints);
}

TEST(Series, DamagedFilesAreRefused) {
  const ScratchDirectory folder;
  KeptSeries kept{.columns = {"a", "b"}, .settings = small()};
  kept.begin();
  said(*kept.forecasts, waves(50, 5), 0, 50);
  write_series(folder / "series", kept);
  const std::string bytes = folder.read("series");
  for (size_t at = 0; at < bytes.size(); at += bytes.size() / 50) {
    EXPECT_THROW(read_series(folder.write("short", bytes.substr(0, at))), Error);
    std::string flipped = bytes;
    flipped[at] = char(flipped[at] ^ 4);
    EXPECT_THROW(read_series(folder.write("flipped", flipped)), Error);
  }
  EXPECT_THROW(read_series(folder.write("longer", bytes + "x")), Error);
  EXPECT_THROW(read_series(folder / "absent"), Error);
}

TEST(Series, SameForAnyThreads) {
  SeriesSettings settings = small(24);
  settings.lags = 48;
  const Rows rows = waves(120, 6, 9);
  const int before = ThreadPool::instance().size();
  std::vector<uint64_t> expected;
  for (const int threads : {1, 2, 3}) {
    ThreadPool::instance().resize(threads);
    SeriesLearner learner(9, settings);
    const auto bits = said(learner, rows, 0, rows.size());
    if (threads == 1) expected = bits;
    EXPECT_EQ(bits, expected) << threads;
  }
  ThreadPool::instance().resize(before);
}

TEST(Series, NoNumberUpsetsIt) {
  Rows rows = waves(3000, 7);
  const double strange[] = {kNaN, kInfinity, -kInfinity, 1e30, -1e30, 1e100, 1e308, 5e-324, 0};
  for (size_t i = 0; i < std::size(strange); ++i) {
    rows[400 + 30 * i][0] = strange[i];
    for (size_t t = 1000 + 40 * i; t < 1020 + 40 * i; ++t) rows[t][1] = strange[i];
  }
  SeriesLearner learner(2, small());
  for (size_t t = 0; t < rows.size(); ++t) {
    if (t == 2500) learner.begin_scores();
    learner.observe(rows[t], t % 100 == 0 ? kNaN : 1);
    for (int64_t c = 0; c < 2; ++c) {
      for (const double x : learner.forecast(c)) ASSERT_TRUE(std::isfinite(x)) << t;
      const SeriesReport& report = learner.reports()[size_t(c)];
      if (std::isfinite(rows[t][size_t(c)]) && std::abs(rows[t][size_t(c)]) <= 1e100) {
        ASSERT_TRUE(std::isfinite(report.anomaly) && std::isfinite(report.expected) == (t >= 3)) << t;
      }
    }
  }
  // And it forecasts as before.
  EXPECT_LT(learner.score(0).squared, 0.5 * learner.score(0).last_squared);
}

TEST(Series, ConstantsAndRampsAreForecast) {
  SeriesLearner learner(2, small(1));
  for (int64_t t = 0; t < 4000; ++t) learner.observe(std::vector<double>{5, 1e-3 * double(t)}, 1);
  EXPECT_EQ(learner.reports()[0].expected, 5);
  EXPECT_EQ(learner.reports()[0].anomaly, 0);
  EXPECT_NEAR(learner.reports()[1].expected, 3.999, 2e-3);
}

// An outlier does not widen it for long, a change of scale does, also after something next to constant.
TEST(Series, ScalesFollowChangesAndNotOutliers) {
  Random random(10);
  RunningScale scale;
  for (int i = 0; i < 1000; ++i) scale.add(i == 500 ? 1e30 : random.normal());
  EXPECT_NEAR(scale.deviation(), 1, 0.25);
  for (int i = 0; i < 200; ++i) scale.add(1e6 + 1e6 * random.normal());
  EXPECT_GT(scale.deviation(), 1e5);
  RunningScale constant, nearly;
  for (int i = 0; i < 1000; ++i) constant.add(0), nearly.add(1e-12 * random.normal());
  for (int i = 0; i < 200; ++i) constant.add(random.normal()), nearly.add(random.normal());
  EXPECT_GT(constant.deviation(), 0.2);
  EXPECT_GT(nearly.deviation(), 0.2);
}

TEST(Series, WhatWasNeverSeenIsAnAlarmOnce) {
  SeriesLearner learner(1, small(1));
  const Rows rows = waves(2000, 8, 1);
  int64_t alarms = 0;
  for (size_t t = 0; t < rows.size(); ++t) {
    const bool strange = t >= 1500 && t < 1510;
    learner.observe(std::vector<double>{strange ? 60.0 : rows[t][0]}, 1);
    if (t >= 1000) alarms += learner.reports()[0].alarm;
    if (t == 1500) {
      EXPECT_TRUE(learner.reports()[0].alarm && learner.reports()[0].surprise > 2.5);
    }
  }
  EXPECT_LE(alarms, 3);
}

TEST(Series, MemoryDoesNotGrow) {
  SeriesLearner learner(1, small(1));
  Random random(9);
  double value = 0;
  const auto run = [&](int64_t rows) {
    for (int64_t t = 0; t < rows; ++t) {
      value = random.normal() * double(t % 1000);
      learner.observe({&value, 1}, 1);
    }
  };
  run(20000);
  const int64_t before = learner.prototypes();
  PeakMemory peak;
  run(200000);
  EXPECT_LE(learner.prototypes(), 4 * 2048);
  EXPECT_GT(before, 0);
  if (peak.known()) {
    EXPECT_LT(peak.bytes(), 1 << 20);
  }
}

}  // namespace
}  // namespace brood
