// Forecasts in the batch protocol of ETTh1 (Zhou et al., AAAI 2021; rows 0-8639 to train, 8640-11519 to choose by,
// 11520-14399 to test, standardised with the first) by the closed form alone: ridge regression from the last L
// values of a column to its next H, one W for all seven columns, the last value taken off before and put back
// after. Each column's statistics are made by themselves and added up.
//
//   series_ridge_bench ETTh1.csv [ETTh2.csv ...]
#include <fmt/format.h>

#include <cmath>
#include <cstdio>
#include <span>
#include <string>
#include <vector>

#include "brood/base/error.h"
#include "brood/base/threads.h"
#include "brood/learn/closed_form.h"
#include "brood/senses/bytes.h"
#include "brood/senses/table.h"

namespace {

using namespace brood;
using Column = std::vector<double>;

constexpr int64_t kTrain = 8640, kValid = 11520, kTest = 14400;

std::vector<Column> read_columns(const std::string& path) {
  std::vector<Column> columns;
  TableReader reader({}, [](const RejectedRow& row) { fail("line {}: {}", row.line, row.reason); });
  ByteStream bytes = ByteStream::open(path);
  std::vector<uint8_t> block(1 << 16);
  TableRow row;
  for (int64_t n = 1; n > 0;) {
    n = bytes.read(block);
    if (n > 0)
      reader.feed(std::span(block).first(size_t(n)));
    else
      reader.finish();
    while (reader.next(row)) {
      columns.resize(row.values.size());
      for (size_t i = 0; i < columns.size(); ++i) columns[i].push_back(row.values[i]);
    }
  }
  return columns;
}

void standardise(Column& column) {
  double mean = 0, variance = 0;
  for (int64_t t = 0; t < kTrain; ++t) mean += column[size_t(t)] / double(kTrain);
  for (int64_t t = 0; t < kTrain; ++t) variance += std::pow(column[size_t(t)] - mean, 2) / double(kTrain);
  for (double& x : column) x = (x - mean) / std::sqrt(variance);
}

// The inputs and targets of the forecast made after row `at`.
void window(const Column& column, int64_t at, std::span<double> z, std::span<double> y) {
  const double last = column[size_t(at)];
  z[0] = 1;
  for (size_t i = 1; i < z.size(); ++i) z[i] = column[size_t(at) - i + 1] - last;
  for (size_t h = 0; h < y.size(); ++h) y[h] = column[size_t(at) + 1 + h] - last;
}

// The first lag is always 0, so the bias stands for it: L inputs in all.
RidgeStatistics statistics(const std::vector<Column>& columns, int64_t lags, int64_t horizon) {
  std::vector<RidgeStatistics> parts(columns.size(), {lags, horizon});
  parallel(int64_t(columns.size()), [&](int64_t c) {
    std::vector<double> z(static_cast<size_t>(lags)), y(static_cast<size_t>(horizon));
    for (int64_t at = lags - 1; at + horizon < kTrain; ++at) {
      window(columns[size_t(c)], at, z, y);
      parts[size_t(c)].add(z, y);
    }
  });
  for (size_t c = 1; c < parts.size(); ++c) parts[0].merge(parts[c]);
  return parts[0];
}

// Mean squared error of the forecasts whose targets all lie in [begin, end).
double error_of(const std::vector<Column>& columns, std::span<const double> weights, int64_t lags,
                int64_t horizon, int64_t begin, int64_t end) {
  std::vector<double> sums(columns.size());
  parallel(int64_t(columns.size()), [&](int64_t c) {
    std::vector<double> z(static_cast<size_t>(lags)), y(static_cast<size_t>(horizon));
    for (int64_t at = begin - 1; at + horizon < end; ++at) {
      window(columns[size_t(c)], at, z, y);
      for (size_t h = 0; h < y.size(); ++h) {
        double forecast = 0;
        for (size_t i = 0; i < z.size(); ++i) forecast += weights[h * z.size() + i] * z[i];
        sums[size_t(c)] += (forecast - y[h]) * (forecast - y[h]);
      }
    }
  });
  double sum = 0;
  for (const double part : sums) sum += part;
  return sum / double(columns.size()) / double(horizon) / double(end - begin - horizon + 1);
}

void forecast(const std::string& path) {
  std::vector<Column> columns = read_columns(path);
  for (Column& column : columns) {
    if (int64_t(column.size()) < kTest)
      fail("{} has {} rows, but the protocol wants {}", path, column.size(), kTest);
    standardise(column);
  }
  for (const int64_t horizon : {96, 720}) {
    double best = INFINITY;
    std::string chosen;
    for (const int64_t lags : {336, 512, 720}) {
      const RidgeStatistics sums = statistics(columns, lags, horizon);
      for (const double ridge : {1e3, 1e4, 1e5}) {
        const std::vector<double> weights = sums.solve(ridge);
        const double valid = error_of(columns, weights, lags, horizon, kTrain, kValid),
                     test = error_of(columns, weights, lags, horizon, kValid, kTest);
        const std::string line =
            fmt::format("{} H {:3}  look-back {}  ridge {:6g}: validation {:.4f}  test {:.4f}", path, horizon,
                        lags, ridge, valid, test);
        std::puts(line.c_str());
        std::fflush(stdout);
        if (valid < best) best = valid, chosen = line;
      }
    }
    std::printf("chosen by validation: %s\n", chosen.c_str());
  }
}

}  // namespace

int main(int argc, char** argv) {
  try {
    for (int i = 1; i < argc; ++i) forecast(argv[i]);
  } catch (const Error& error) {
    std::fprintf(stderr, "series_ridge_bench: %s\n", error.what());
    return 2;
  }
  return 0;
}
