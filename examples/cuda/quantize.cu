// Per-token INT8 quantization as dialect "ieee" has it: scale = amax / 127, code = clamp(rne(x / scale)).
// One block of 256 threads per row. The defines plant one mistake each; README.md shows what the check says.
#include <cstdint>

constexpr int THREADS = 256;

__device__ float row_amax(const float* row, int K) {
    __shared__ float of_warp[THREADS / 32];
    float amax = 0.0f;
    for (int k = threadIdx.x; k < K; k += THREADS) {
        const float magnitude = fabsf(row[k]);
        if (magnitude > amax || isnan(magnitude)) amax = magnitude;
    }
    for (int step = 16; step > 0; step /= 2) {
        const float other = __shfl_xor_sync(0xffffffff, amax, step);
        if (other > amax || isnan(other)) amax = other;
    }
    if (threadIdx.x % 32 == 0) of_warp[threadIdx.x / 32] = amax;
#ifndef NO_BARRIER
    __syncthreads();
#endif
    for (int warp = 0; warp < THREADS / 32; warp++)
        if (of_warp[warp] > amax || isnan(of_warp[warp])) amax = of_warp[warp];
    return amax;
}

__global__ void quantize(const float* x, int8_t* codes, float* scales, int M, int K) {
    const float* row = x + static_cast<size_t>(blockIdx.x) * K;
    const float scale = row_amax(row, K) / 127.0f;
    if (threadIdx.x == 0) scales[blockIdx.x] = scale;
#ifdef TAIL_UNWRITTEN
    const int end = K / 4 * 4;
#else
    const int end = K;
#endif
    for (int k = threadIdx.x; k < end; k += THREADS) {
#if defined(FAST)
        const float quotient = row[k] * __fdividef(1.0f, scale);
#else
        const float quotient = row[k] / scale;
#endif
#if defined(ROUNDF)
        int code = static_cast<int>(roundf(quotient));
#elif defined(TAIL_TRUNCATED)
        int code = k < K / 4 * 4 ? __float2int_rn(quotient) : static_cast<int>(quotient);
#else
        int code = __float2int_rn(quotient);
#endif
        code = scale == 0.0f ? 0 : max(-127, min(127, code));
        codes[static_cast<size_t>(blockIdx.x) * K + k] = static_cast<int8_t>(code);
    }
}
