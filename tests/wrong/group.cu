// Symmetric quantization by groups along K: a warp per row and group. Right in dialect ieee as it
// stands; each define plants one mistake (see planted_families.py).
//
// x: fp32 (format 0), fp16 (1) or bf16 (2), (M, Q * G); codes: s8 (M, Q * G); scales: fp32 (M, Q),
// given ones fp32 (S, Q), S = 1 or M.

#include "load.cuh"

__device__ int code_of(float x, float scale) {
    if (scale == 0.0f) return 0;
#ifdef TRUNCATED
    const int code = __float2int_rz(x / scale);
#else
    const int code = __float2int_rn(x / scale);
#endif
    return max(-127, min(127, code));
}

extern "C" __global__ void quantize(
    const void* x, signed char* codes, float* scales, int format, int Q, int G) {
    const int q = blockIdx.x, row = blockIdx.y, K = Q * G;
    const size_t start = static_cast<size_t>(row) * K;
#if defined(WHOLE_ROW)
    const int first = 0, end = K;
#elif defined(LATE_GROUP)
    const int first = min(q * G + 1, K - 1), end = min((q + 1) * G + 1, K);
#else
    const int first = q * G, end = (q + 1) * G;
#endif
    float amax = 0.0f;
    for (int k = first + threadIdx.x; k < end; k += 32)
        amax = larger(amax, fabsf(load(x, format, start + k)));
    for (int step = 16; step > 0; step /= 2)
        amax = larger(amax, __shfl_xor_sync(0xffffffff, amax, step));
    const float scale = amax / 127.0f;
    for (int k = q * G + threadIdx.x; k < (q + 1) * G; k += 32)
        codes[start + k] = code_of(load(x, format, start + k), scale);
#if defined(TRANSPOSED_SCALES)
    if (threadIdx.x == 0) scales[static_cast<size_t>(q) * gridDim.y + row] = scale;
#elif defined(ONE_SCALE_A_ROW)
    if (threadIdx.x == 0) scales[static_cast<size_t>(row) * Q] = scale;
#else
    if (threadIdx.x == 0) scales[static_cast<size_t>(row) * Q + q] = scale;
#endif
}

extern "C" __global__ void quantize_static(
    const void* x, const float* scales, signed char* codes, int format, int Q, int G, int S) {
    const int row = blockIdx.x, K = Q * G;
    const float* of_row = scales + (S == 1 ? 0 : static_cast<size_t>(row) * Q);
    for (int k = threadIdx.x; k < K; k += 32) {
#if defined(GROUP_OFF_BY_ONE)
        const int q = min((k + 1) / G, Q - 1);
#elif defined(INTERLEAVED)
        const int q = k % Q;
#else
        const int q = k / G;
#endif
        const size_t i = static_cast<size_t>(row) * K + k;
        codes[i] = code_of(load(x, format, i), of_row[q]);
    }
}
