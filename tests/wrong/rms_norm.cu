// RMSNorm and per-token INT8 codes: a block per row, as many threads as the row has lanes (sums go
// in lanes of 8). Right in dialect ieee as it stands; each define plants one mistake (see
// planted_families.py).
//
// x: fp32 (format 0), fp16 (1) or bf16 (2), (M, K); weight: of x's dtype (K,); codes: s8 (M, K);
// scales: fp32 (M,).

#include "load.cuh"

#ifdef LANES_OF_4
constexpr int CHUNK = 4;
#else
constexpr int CHUNK = 8;
#endif

__device__ float warp_sum(float value) {
    for (int step = 16; step > 0; step /= 2) value += __shfl_xor_sync(0xffffffff, value, step);
    return value;
}

__device__ float row_sum(float value) {
    __shared__ float of_warp[32];
    value = warp_sum(value);
    if (blockDim.x == 32) return value;
    if (threadIdx.x < 32) of_warp[threadIdx.x] = 0.0f;
    __syncthreads();
    if (threadIdx.x % 32 == 0) of_warp[threadIdx.x / 32] = value;
#ifndef MISSING_BARRIER
    __syncthreads();
#endif
    return warp_sum(of_warp[threadIdx.x % 32]);
}

__device__ float row_maximum(float value) {
    __shared__ float of_warp[32];
    for (int step = 16; step > 0; step /= 2)
        value = larger(value, __shfl_xor_sync(0xffffffff, value, step));
    if (threadIdx.x % 32 == 0) of_warp[threadIdx.x / 32] = value;
    __syncthreads();
    value = of_warp[0];
    for (int warp = 1; warp < blockDim.x / 32; warp++) value = larger(value, of_warp[warp]);
    return value;
}

extern "C" __global__ void normalize(
    const void* x, const void* weight, float eps, signed char* codes, float* scales, int format,
    int K) {
    const size_t start = static_cast<size_t>(blockIdx.x) * K;
    float squares = 0.0f;
    for (int c = threadIdx.x * CHUNK; c < K; c += blockDim.x * CHUNK)
        for (int k = c; k < min(c + CHUNK, K); k++) {
            const float value = load(x, format, start + k);
#ifdef PRODUCT_ROUNDED
            squares = squares + value * value;
#else
            squares = __fmaf_rn(value, value, squares);
#endif
        }
    squares = row_sum(squares);
#ifdef K_MINUS_ONE
    const float mean = squares / (K - 1);
#else
    const float mean = squares / K;
#endif
#if defined(EPS_AFTER_ROOT)
    const float r = 1.0f / (sqrtf(mean) + eps);
#elif defined(NO_EPS)
    const float r = 1.0f / sqrtf(mean);
#else
    const float r = 1.0f / sqrtf(mean + eps);
#endif
#ifdef NO_WEIGHT
    const auto z = [&](int k) { return load(x, format, start + k) * r; };
#else
    const auto z = [&](int k) { return load(x, format, start + k) * r * load(weight, format, k); };
#endif
    float amax = 0.0f;
    for (int k = threadIdx.x; k < K; k += blockDim.x) amax = larger(amax, fabsf(z(k)));
    amax = row_maximum(amax);
    const float scale = amax / 127.0f;
    for (int k = threadIdx.x; k < K; k += blockDim.x) {
        const int code = scale == 0.0f ? 0 : __float2int_rn(z(k) / scale);
        codes[start + k] = max(-127, min(127, code));
    }
    if (threadIdx.x == 0) scales[blockIdx.x] = scale == scale ? scale : __uint_as_float(0x7fffffff);
}
