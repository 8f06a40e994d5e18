// out = a @ b.T with its scales and bias, a thread per result: four products at a time by __dp4a.
// As dialect "ieee" has it: acc * sB * sA + bias, every step rounded, then rounded to Out. The defines
// plant one mistake each; README.md shows what the check says.
//
// a: s8 (M, K); b: s8 (N, K); a_scales: fp32 (M,); b_scales: fp32 (N,); bias: fp32 (N,) or null;
// out: Out (M, N). Block: 16 x 16 threads.
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cstdint>

__device__ void store(float* to, float value) { *to = value; }
__device__ void store(__half* to, float value) { *to = __float2half_rn(value); }
__device__ void store(__nv_bfloat16* to, float value) { *to = __float2bfloat16_rn(value); }

__device__ int dot(const int8_t* a, const int8_t* b, int K) {
    int sum = 0, k = 0;
#ifdef MISALIGNED
    const bool whole = true;
#else
    const bool whole = (reinterpret_cast<size_t>(a) | reinterpret_cast<size_t>(b)) % 4 == 0;
#endif
    if (whole)
        for (; k + 4 <= K; k += 4)
            sum = __dp4a(*reinterpret_cast<const int*>(a + k), *reinterpret_cast<const int*>(b + k), sum);
#if defined(TAIL)
    const int end = K / 4 * 4;
#elif defined(OFF_BY_ONE)
    const int end = K - 1;
#else
    const int end = K;
#endif
    for (; k < end; k++) sum += a[k] * b[k];
    return sum;
}

template <typename Out>
__global__ void gemm(const int8_t* a, const int8_t* b, const float* a_scales, const float* b_scales,
                     const float* bias, Out* out, int M, int N, int K) {
    const int n = blockIdx.x * blockDim.x + threadIdx.x, m = blockIdx.y * blockDim.y + threadIdx.y;
    if (m >= M || n >= N) return;
    const int acc = dot(a + static_cast<size_t>(m) * K, b + static_cast<size_t>(n) * K, K);
    float value = __int2float_rn(acc) * b_scales[n] * a_scales[m];
    if (bias != nullptr) value = value + bias[n];
    store(out + static_cast<size_t>(m) * N + n, value);
}
