// Asymmetric quantization to u8 codes, a warp per row, and back. Right in dialect ieee as it stands;
// each define plants one mistake (see planted_families.py).
//
// x: fp32 (format 0), fp16 (1) or bf16 (2), (M, K); codes: u8 (M, K); scales: fp32 (M,);
// zero_points: s32 (M,); those of dequantize (S,), S = 1 or M, and out fp32 (M, K).

#include "load.cuh"

extern "C" __global__ void quantize(
    const void* x, unsigned char* codes, float* scales, int* zero_points, int format, int K) {
    const int row = blockIdx.x;
    const size_t start = static_cast<size_t>(row) * K;
#ifdef NOT_WIDENED
    float low = load(x, format, start), high = low;
#else
    float low = 0.0f, high = 0.0f;
#endif
    for (int k = threadIdx.x; k < K; k += 32) {
        const float value = load(x, format, start + k);
        low = smaller(low, value);
        high = larger(high, value);
    }
    for (int step = 16; step > 0; step /= 2) {
        low = smaller(low, __shfl_xor_sync(0xffffffff, low, step));
#ifndef LOST_MAXIMUM
        high = larger(high, __shfl_xor_sync(0xffffffff, high, step));
#endif
    }
#ifdef LEVELS_256
    const float scale = (high - low) / 256.0f;
#else
    const float scale = (high - low) / 255.0f;
#endif
#ifdef ZERO_POINT_TRUNCATED
    int zero_point = __float2int_rz(0.0f - low / scale);
#else
    int zero_point = __float2int_rn(0.0f - low / scale);
#endif
    zero_point = scale == 0.0f ? 0 : max(0, min(255, zero_point));
    for (int k = threadIdx.x; k < K; k += 32) {
        const float value = load(x, format, start + k);
        const float quotient = scale == 0.0f ? 0.0f : value / scale;
#ifdef ADDED_BEFORE_ROUNDING
        const int code = __float2int_rn(quotient + zero_point);
#else
        const int code = __float2int_rn(quotient) + zero_point;
#endif
#ifdef NO_CLAMP_AZP
        codes[start + k] = code;
#else
        codes[start + k] = max(0, min(255, code));
#endif
    }
    if (threadIdx.x == 0) {
        scales[row] = scale;
        zero_points[row] = zero_point;
    }
}

extern "C" __global__ void dequantize(
    const unsigned char* codes, const float* scales, const int* zero_points, float* out, int K,
    int S, int is_signed) {
    const int row = blockIdx.x;
    const float scale = scales[S == 1 ? 0 : row];
#ifdef ZERO_POINT_OF_ROW_0
    const int zero_point = zero_points[0];
#else
    const int zero_point = zero_points[S == 1 ? 0 : row];
#endif
    for (int k = threadIdx.x; k < K; k += 32) {
        const size_t i = static_cast<size_t>(row) * K + k;
#ifdef READ_AS_OTHER
        const int code = is_signed ? codes[i] : static_cast<signed char>(codes[i]);
#else
        const int code = is_signed ? static_cast<signed char>(codes[i]) : codes[i];
#endif
        const int steps = static_cast<int>(static_cast<unsigned>(code) - zero_point);
        out[i] = steps * scale;
    }
}
