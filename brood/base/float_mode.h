// Denormal numbers, those below 2^−126, cost some hundred cycles each where they appear: a stream that a
// model has learnt well gives gradients whose squares are nothing but. While a FlushDenormals lives, the
// calling thread, and the pool's threads in the regions that it starts, take them for zero. The mode before
// comes back at its end. Nothing happens on processors without such a mode.
#pragma once

#include <cstdint>

#if defined(__SSE2__)
#include <xmmintrin.h>
#endif

namespace brood {

// The control word of floating-point arithmetic of the calling thread.
#if defined(__SSE2__)
using FloatMode = uint32_t;
inline FloatMode float_mode() { return _mm_getcsr(); }
inline void set_float_mode(FloatMode mode) { _mm_setcsr(mode); }
constexpr FloatMode kFlushDenormals = 0x8040;  // results to zero, and operands
constexpr FloatMode kFloatFlags = 0x3f;        // what arithmetic has met so far: no part of the mode
#elif defined(__aarch64__)
using FloatMode = uint64_t;
inline FloatMode float_mode() {
  FloatMode mode;
  asm volatile("mrs %0, fpcr" : "=r"(mode));
  return mode;
}
inline void set_float_mode(FloatMode mode) { asm volatile("msr fpcr, %0" : : "r"(mode)); }
constexpr FloatMode kFlushDenormals = FloatMode(1) << 24;
constexpr FloatMode kFloatFlags = 0;
#else
using FloatMode = uint32_t;
inline FloatMode float_mode() { return 0; }
inline void set_float_mode(FloatMode) {}
constexpr FloatMode kFlushDenormals = 0;
constexpr FloatMode kFloatFlags = 0;
#endif

class FlushDenormals {
 public:
  FlushDenormals() : before_(float_mode()) { set_float_mode(before_ | kFlushDenormals); }
  ~FlushDenormals() { set_float_mode(before_); }
  FlushDenormals(const FlushDenormals&) = delete;
  FlushDenormals& operator=(const FlushDenormals&) = delete;

 private:
  FloatMode before_;
};

}  // namespace brood
