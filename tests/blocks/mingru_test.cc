// minGRU as its equations read, in double precision.
#include <cmath>

#include "tests/blocks/one_block.h"
#include "tests/reference/activation.h"

namespace brood {
namespace {

using testing::OneBlock;
using testing::times;

constexpr size_t kModel = 6, kSteps = 40;

Numbers equations(OneBlock& block, const Floats& rows, size_t heads) {
  const Numbers x = widen(rows), bias = block.numbers("gate.bias");
  Numbers h(kModel), out;
  for (size_t t = 0; t < kSteps; ++t) {
    const double* now = x.data() + t * kModel;
    const Numbers gate = times(block.numbers("gate.weight"), now, kModel),
                  candidate = times(block.numbers("candidate.weight"), now, kModel);
    for (size_t i = 0; i < kModel; ++i) {
      const size_t head = i / (kModel / heads);
      const double z = reference::sigmoid(gate[head] + bias[head]);
      h[i] = (1 - z) * h[i] + z * candidate[i];
    }
    const Numbers y = times(block.numbers("out.weight"), h.data(), kModel);
    out.insert(out.end(), y.begin(), y.end());
  }
  return out;
}

TEST(MinGru, IsItsEquations) {
  for (const size_t heads : {size_t(1), size_t(2), kModel}) {
    SCOPED_TRACE(heads);
    OneBlock block("mingru", {{"n_head", heads}}, kModel);
    block.redraw(0.8f);  // gates near both their ends
    const Floats x = normals(int64_t(kSteps * kModel), 4);
    // Forty steps, some ten operations each.
    testing::expect_same(block.run(x), equations(block, x, heads), double(kSteps) * 16 * kRoundoff);
  }
}

}  // namespace
}  // namespace brood
