#include "brood/kernels/dense.h"

#include "brood/base/error.h"

#if BROOD_HAVE_ONEDNN

#include <dnnl.h>
#include <omp.h>

namespace brood::kernels {
namespace {

// oneDNN would start its own OpenMP threads; ours already run. The setting belongs to the calling thread,
// which may be a user's, so it is put back.
class OneOpenMpThread {
 public:
  OneOpenMpThread() : before_(omp_get_max_threads()) {
    if (before_ != 1) omp_set_num_threads(1);
  }
  ~OneOpenMpThread() {
    if (before_ != 1) omp_set_num_threads(before_);
  }

 private:
  int before_;
};

const char* isa_name() {
  switch (dnnl_get_effective_cpu_isa()) {
    case dnnl_cpu_isa_sse41:
      return "SSE41";
    case dnnl_cpu_isa_avx:
      return "AVX";
    case dnnl_cpu_isa_avx2:
      return "AVX2";
    case dnnl_cpu_isa_avx2_vnni:
      return "AVX2_VNNI";
    case dnnl_cpu_isa_avx512_core:
      return "AVX512_CORE";
    case dnnl_cpu_isa_avx512_core_vnni:
      return "AVX512_CORE_VNNI";
    case dnnl_cpu_isa_avx512_core_bf16:
      return "AVX512_CORE_BF16";
    case dnnl_cpu_isa_avx512_core_amx:
      return "AVX512_CORE_AMX";
    default:
      return "generic";
  }
}

}  // namespace

void dense_block(Order a_order, Order b_order, int64_t M, int64_t N, int64_t K, const float* A, int64_t lda,
                 const float* B, int64_t ldb, bool accumulate, float* C, int64_t ldc) {
  const OneOpenMpThread alone;
  const char a = a_order == Order::kPlain ? 'N' : 'T', b = b_order == Order::kPlain ? 'N' : 'T';
  const dnnl_status_t status =
      dnnl_sgemm(a, b, M, N, K, 1.0f, A, lda, B, ldb, accumulate ? 1.0f : 0.0f, C, ldc);
  if (status != dnnl_success)
    fail("product: oneDNN refuses a {}x{}x{} block with status {}", M, N, K, int(status));
}

std::string dense_library() {
  const dnnl_version_t* version = dnnl_version();
  return fmt::format("oneDNN {}.{}.{} ({})", version->major, version->minor, version->patch, isa_name());
}

}  // namespace brood::kernels

#else

#include "brood/kernels/tiles.h"

namespace brood::kernels {

void dense_block(Order a_order, Order b_order, int64_t M, int64_t N, int64_t K, const float* A, int64_t lda,
                 const float* B, int64_t ldb, bool accumulate, float* C, int64_t ldc) {
  tiles_product(a_order, b_order, M, N, K, A, lda, B, ldb, accumulate, C, ldc);
}

std::string dense_library() { return "brood tiles"; }

}  // namespace brood::kernels

#endif  // BROOD_HAVE_ONEDNN
