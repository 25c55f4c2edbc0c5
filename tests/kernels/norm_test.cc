#include "brood/kernels/norm.h"

#include <gtest/gtest.h>

#include "tests/kernels/compare.h"
#include "tests/kernels/targets.h"
#include "tests/reference/norm.h"

namespace brood::kernels {
namespace {

constexpr float kEps = 1e-5f;

// Sums over a row of n terms lose at most n roundings, and a handful of operations follow.
double rounding(int64_t cols) { return double(cols + 16) * kRoundoff; }

struct Case {
  int64_t rows, cols;
  Floats x, weight, dy, dx_before, dweight_before;
  Case(int64_t rows, int64_t cols)
      : rows(rows),
        cols(cols),
        x(normals(rows * cols, 1)),
        weight(normals(cols, 2)),
        dy(normals(rows * cols, 3)),
        dx_before(normals(rows * cols, 4)),
        dweight_before(normals(cols, 5)) {}
};

double norm_of_row(const Floats& x, int64_t cols, size_t i) {
  const size_t at = i / size_t(cols) * size_t(cols);
  double squares = 0;
  for (size_t c = at; c < at + size_t(cols); ++c) squares += double(x[c]) * double(x[c]);
  return std::sqrt(squares);
}

void check_rms(const Case& c) {
  const Numbers x = widen(c.x), weight = widen(c.weight), dy = widen(c.dy);
  Floats y(c.x.size()), rstd(size_t(c.rows), -1.0f);
  rms_norm_forward(c.rows, c.cols, c.x.data(), c.weight.data(), kEps, y.data(), rstd.data());
  const Numbers expected = reference::rms_norm(c.cols, x, weight, kEps);
  expect_close("y", y, expected, [&](size_t i) { return rounding(c.cols) * std::abs(expected[i]); });
  Floats again(c.x.size());
  rms_norm_forward(c.rows, c.cols, c.x.data(), c.weight.data(), kEps, again.data(), nullptr);
  EXPECT_EQ(y, again);

  Numbers dx, dweight;
  reference::rms_norm_backward(c.cols, x, weight, kEps, dy, dx, dweight);
  Floats got_dx = c.dx_before, got_dweight = c.dweight_before;
  rms_norm_backward(c.rows, c.cols, c.x.data(), c.weight.data(), rstd.data(), c.dy.data(), got_dx.data(),
                    got_dweight.data());
  // |x̂|² <= cols, so each of dx's terms is at most 4·r·|dy| in size: the weights here are below 4.
  expect_close("dx", got_dx, sum(dx, c.dx_before), [&](size_t i) {
    const double size = 4 * double(rstd[i / size_t(c.cols)]) * norm_of_row(c.dy, c.cols, i);
    return rounding(c.cols) * (std::abs(double(c.dx_before[i])) + 2 * size);
  });
  expect_close("dweight", got_dweight, sum(dweight, c.dweight_before), [&](size_t i) {
    double size = std::abs(double(c.dweight_before[i]));
    for (int64_t row = 0; row < c.rows; ++row) {
      const size_t at = size_t(row * c.cols) + i;
      size += std::abs(dy[at] * x[at] * double(rstd[size_t(row)]));
    }
    return (double(c.rows) * kRoundoff + rounding(c.cols)) * size;
  });
}

void check_layer(const Case& c) {
  const Numbers x = widen(c.x), dy = widen(c.dy);
  Floats y(c.x.size()), rstd(size_t(c.rows), -1.0f);
  layer_norm_forward(c.rows, c.cols, c.x.data(), kEps, y.data(), rstd.data());
  const Numbers expected = reference::layer_norm(c.cols, x, kEps);
  // The mean is off by at most rounding·|x|, which counts r times; a row of one number is all mean.
  const auto bound = [&](size_t i) {
    const double r = double(rstd[i / size_t(c.cols)]);
    return 2 * rounding(c.cols) * (std::abs(expected[i]) + r * norm_of_row(c.x, c.cols, i));
  };
  expect_close("y", y, expected, bound);
  Floats again(c.x.size());
  layer_norm_forward(c.rows, c.cols, c.x.data(), kEps, again.data(), nullptr);
  EXPECT_EQ(y, again);

  const Numbers dx = reference::layer_norm_backward(c.cols, x, kEps, dy);
  Floats got = c.dx_before;
  layer_norm_backward(c.rows, c.cols, y.data(), rstd.data(), c.dy.data(), got.data());
  expect_close("dx", got, sum(dx, c.dx_before), [&](size_t i) {
    const double r = double(rstd[i / size_t(c.cols)]);
    const double g = norm_of_row(c.dy, c.cols, i);
    // y's own error acts through mean(dy∘y) and through r.
    const double y_error = r * norm_of_row(c.x, c.cols, i) * (1 + r * norm_of_row(c.x, c.cols, i));
    return rounding(c.cols) * (std::abs(double(c.dx_before[i])) + r * g * (4 + 4 * y_error));
  });
}

// Rows take the weights and biases of the parts in turn.
void check_affine(const Case& c, int64_t parts) {
  const Floats weight = normals(parts * c.cols, 6), bias = normals(parts * c.cols, 7);
  const auto own = [&](size_t i) {  // the place of number i's weight
    return i / size_t(c.cols) % size_t(parts) * size_t(c.cols) + i % size_t(c.cols);
  };
  const Numbers x = widen(c.x), normalised = reference::layer_norm(c.cols, x, kEps);
  Numbers expected(x.size()), g(x.size()), dweight(weight.size()), dbias(weight.size()), size(weight.size());
  for (size_t i = 0; i < x.size(); ++i) {
    expected[i] = normalised[i] * double(weight[own(i)]) + double(bias[own(i)]);
    g[i] = double(c.dy[i]) * double(weight[own(i)]);
    dweight[own(i)] += double(c.dy[i]) * normalised[i];
    dbias[own(i)] += double(c.dy[i]);
    size[own(i)] += std::abs(double(c.dy[i]));
  }
  Floats y(c.x.size()), moments(size_t(2 * c.rows));
  affine_layer_norm_forward(c.rows, c.cols, parts, c.x.data(), weight.data(), bias.data(), kEps, y.data(),
                            moments.data());
  // As of the plain one; |x̂| <= sqrt(cols), and r·|x| is what an error of the mean counts.
  const auto x_error = [&](size_t i) {
    const double r = double(moments[2 * (i / size_t(c.cols)) + 1]);
    return 2 * rounding(c.cols) * (std::sqrt(double(c.cols)) + r * norm_of_row(c.x, c.cols, i));
  };
  expect_close("y", y, expected, [&](size_t i) {
    return x_error(i) * std::abs(double(weight[own(i)])) + kRoundoff * std::abs(double(bias[own(i)]));
  });
  Floats again(c.x.size());
  affine_layer_norm_forward(c.rows, c.cols, parts, c.x.data(), weight.data(), bias.data(), kEps, again.data(),
                            nullptr);
  EXPECT_EQ(y, again);

  Floats dx = c.dx_before, dw(weight.size()), db(weight.size());
  affine_layer_norm_backward(c.rows, c.cols, parts, c.x.data(), weight.data(), moments.data(), c.dy.data(),
                             dx.data(), dw.data(), db.data());
  const Numbers expected_dx = reference::layer_norm_backward(c.cols, x, kEps, g);
  const Floats g_float(g.begin(), g.end());
  expect_close("dx", dx, sum(expected_dx, c.dx_before), [&](size_t i) {
    const double r = double(moments[2 * (i / size_t(c.cols)) + 1]);
    const double y_size = r * norm_of_row(c.x, c.cols, i);
    return rounding(c.cols) * (std::abs(double(c.dx_before[i])) +
                               r * norm_of_row(g_float, c.cols, i) * (5 + 4 * y_size * (1 + y_size)));
  });
  double worst = 0;
  for (size_t i = 0; i < x.size(); ++i) worst = std::max(worst, x_error(i));
  const double rows = double(c.rows) * kRoundoff;
  expect_close("dweight", dw, dweight,
               [&](size_t i) { return size[i] * (worst + rows * std::sqrt(double(c.cols))); });
  expect_close("dbias", db, dbias, [&](size_t i) { return size[i] * rows; });
}

TEST(Norm, ReferenceGradients) {
  constexpr double kSmooth =
      0.1;  // the eps of kernels bends a row of one number too sharply to take differences
  for (int64_t cols : {1, 2, 5}) {
    const Case c(3, cols);
    const Numbers x = widen(c.x), weight = widen(c.weight), dy = widen(c.dy);
    Numbers dx, dweight;
    reference::rms_norm_backward(cols, x, weight, kSmooth, dy, dx, dweight);
    expect_gradient("rms dx", x, dx, [&](const Numbers& at) {
      return dot(dy, reference::rms_norm(cols, at, weight, kSmooth));
    });
    expect_gradient("rms dweight", weight, dweight,
                    [&](const Numbers& at) { return dot(dy, reference::rms_norm(cols, x, at, kSmooth)); });
    if (cols > 1)  // one number less its mean is nothing
      expect_gradient("layer dx", x, reference::layer_norm_backward(cols, x, kSmooth, dy),
                      [&](const Numbers& at) { return dot(dy, reference::layer_norm(cols, at, kSmooth)); });
  }
}

TEST(Norm, SmallShapes) {
  for_every_target([] {
    for (int64_t rows = 1; rows <= 4; ++rows)
      for (int64_t cols = 1; cols <= 70; ++cols) {
        SCOPED_TRACE(std::to_string(rows) + " x " + std::to_string(cols));
        const Case c(rows, cols);
        check_rms(c);
        if (cols > 1) check_layer(c);
        if (cols > 1)
          for (int64_t parts = 1; parts <= rows; ++parts)
            if (rows % parts == 0) check_affine(c, parts);
        if (testing::Test::HasFatalFailure()) return;
      }
  });
}

TEST(Norm, LargeShapes) {
  for_every_target([] {
    check_rms(Case(40, 501));
    check_layer(Case(40, 501));
    for (int64_t parts : {1, 5, 40}) check_affine(Case(40, 501), parts);
  });
}

TEST(Norm, EachGradientAlone) {
  const Case c(5, 37);
  Floats y(c.x.size()), rstd(5), dx = c.dx_before, dweight = c.dweight_before;
  rms_norm_forward(5, 37, c.x.data(), c.weight.data(), kEps, y.data(), rstd.data());
  rms_norm_backward(5, 37, c.x.data(), c.weight.data(), rstd.data(), c.dy.data(), dx.data(), dweight.data());
  Floats dx_alone = c.dx_before, dweight_alone = c.dweight_before;
  rms_norm_backward(5, 37, c.x.data(), c.weight.data(), rstd.data(), c.dy.data(), dx_alone.data(), nullptr);
  rms_norm_backward(5, 37, c.x.data(), c.weight.data(), rstd.data(), c.dy.data(), nullptr,
                    dweight_alone.data());
  EXPECT_EQ(dx, dx_alone);
  EXPECT_EQ(dweight, dweight_alone);
}

TEST(Norm, SameForAnyThreads) {
  for (int64_t rows : {1, 300}) {
    const Case c(rows, 391);
    expect_same_for_threads([&] {
      Floats y(c.x.size()), rstd(static_cast<size_t>(rows)), dx = c.dx_before, dweight = c.dweight_before;
      rms_norm_forward(rows, c.cols, c.x.data(), c.weight.data(), kEps, y.data(), rstd.data());
      rms_norm_backward(rows, c.cols, c.x.data(), c.weight.data(), rstd.data(), c.dy.data(), dx.data(),
                        dweight.data());
      layer_norm_forward(rows, c.cols, c.x.data(), kEps, y.data(), rstd.data());
      layer_norm_backward(rows, c.cols, y.data(), rstd.data(), c.dy.data(), dx.data());
      const int64_t parts = rows == 300 ? 3 : 1;
      const Floats weights = normals(parts * c.cols, 6);
      Floats affine(c.x.size()), moments(size_t(2 * rows)), grown(2 * weights.size());
      affine_layer_norm_forward(rows, c.cols, parts, c.x.data(), weights.data(), weights.data(), kEps,
                                affine.data(), moments.data());
      affine_layer_norm_backward(rows, c.cols, parts, c.x.data(), weights.data(), moments.data(), c.dy.data(),
                                 dx.data(), grown.data(), grown.data() + weights.size());
      dx.insert(dx.end(), affine.begin(), affine.end());
      dx.insert(dx.end(), grown.begin(), grown.end());
      dx.insert(dx.end(), y.begin(), y.end());
      dx.insert(dx.end(), dweight.begin(), dweight.end());
      return dx;
    });
  }
}

TEST(Norm, NanSpreadsOverItsRowOnly) {
  Case c(2, 40);
  c.x[7] = NAN;
  Floats y(c.x.size());
  rms_norm_forward(2, 40, c.x.data(), c.weight.data(), kEps, y.data(), nullptr);
  for (size_t i = 0; i < 80; ++i) EXPECT_EQ(std::isnan(y[i]), i < 40);
  layer_norm_forward(2, 40, c.x.data(), kEps, y.data(), nullptr);
  for (size_t i = 0; i < 80; ++i) EXPECT_EQ(std::isnan(y[i]), i < 40);
  affine_layer_norm_forward(2, 40, 1, c.x.data(), c.weight.data(), c.weight.data(), kEps, y.data(), nullptr);
  for (size_t i = 0; i < 80; ++i) EXPECT_EQ(std::isnan(y[i]), i < 40);
}

}  // namespace
}  // namespace brood::kernels
