// How elementwise kernels cut their work into tasks: by shape alone, in blocks large enough to be worth a
// thread.
#pragma once

#include <algorithm>
#include <cstdint>

#include "brood/base/threads.h"

namespace brood::kernels {

// Numbers per task. At some 0.1 to 0.5 ns a number this is a few µs, ten times what handing out a task costs.
constexpr int64_t kBlock = 16384;

// work(begin, end) over [0, n) in blocks of `block`, in parallel.
template <class Work>
void parallel_blocks(int64_t n, int64_t block, const Work& work) {
  parallel((n + block - 1) / block, [&](int64_t i) { work(i * block, std::min(n, (i + 1) * block)); });
}

// work(begin, end) over rows of `cols` numbers each, in blocks of whole rows.
template <class Work>
void parallel_rows(int64_t rows, int64_t cols, const Work& work) {
  parallel_blocks(rows, std::max<int64_t>(1, kBlock / std::max<int64_t>(1, cols)), work);
}

// work(begin, end) over the columns of [rows, cols], in strips of a multiple of 64 columns, so that no cache
// line is shared between tasks. For sums over rows, which then need no partial sums.
template <class Work>
void parallel_columns(int64_t rows, int64_t cols, const Work& work) {
  const int64_t wanted = kBlock / std::max<int64_t>(1, rows);
  parallel_blocks(cols, std::max<int64_t>(1, (wanted + 63) / 64) * 64, work);
}

}  // namespace brood::kernels
