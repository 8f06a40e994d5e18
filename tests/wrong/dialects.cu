// Symmetric quantization as five systems do it: a warp per row. Right in those dialects as it
// stands; each define plants one mistake (see planted_dialects.py).
//
// x: fp32 (format 0), fp16 (1) or bf16 (2), (M, K); codes: s8 (M, K); scales: fp32 (M,).

#include "load.cuh"

__device__ float as_fp16(float value) {
    unsigned short bits;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(value));
    float wide;
    asm("cvt.f32.f16 %0, %1;" : "=f"(wide) : "h"(bits));
    return wide;
}

__device__ float as_format(float value, int format) {
    if (format == 0) return value;
    if (format == 1) return as_fp16(value);
    unsigned short bits;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(value));
    return __uint_as_float(static_cast<unsigned>(bits) << 16);
}

__device__ float canonical(float value) {
    return value != value ? __uint_as_float(0x7fffffffu) : value;
}

// max |x| of the row, NaN above all or left out; all lanes must call it.
template <bool SKIP> __device__ float row_amax(const void* x, int format, size_t start, int K) {
    float amax = 0.0f;
    for (int k = threadIdx.x; k < K; k += 32) {
        const float size = fabsf(load(x, format, start + k));
        amax = SKIP ? fmaxf(amax, size) : larger(amax, size);
    }
    for (int step = 16; step > 0; step /= 2) {
        const float other = __shfl_xor_sync(0xffffffff, amax, step);
        amax = SKIP ? fmaxf(amax, other) : larger(amax, other);
    }
    return amax;
}

// Ties away from zero.
__device__ int round_away(float value) {
#if defined(HALF_ADDED)
    return __float2int_rz(value + copysignf(0.5f, value));
#elif defined(TIES_TO_EVEN)
    return __float2int_rn(value);
#else
    const float whole = truncf(value);
    const bool away = fabsf(value - whole) >= 0.5f;
    return __float2int_rz(away ? whole + copysignf(1.0f, value) : whole);
#endif
}

__device__ int clamped(int code) {
#ifdef NO_CLAMP_DIALECT
    return code;
#else
    return max(-128, min(127, code));
#endif
}

extern "C" __global__ void sglang(
    const void* x, signed char* codes, float* scales, int format, int K) {
    const size_t start = static_cast<size_t>(blockIdx.x) * K;
    float amax = row_amax<true>(x, format, start, K);
#if defined(FLOOR_ON_SCALE)
    const float scale = fmaxf(amax / 127.0f, 1e-10f), factor = amax > 0.0f ? 127.0f / amax : 0.0f;
#elif defined(FLOOR_1E_8)
    amax = fmaxf(amax, 1e-8f);
    const float scale = amax / 127.0f, factor = 127.0f / amax;
#else
    amax = fmaxf(amax, 1e-10f);
    const float scale = amax / 127.0f, factor = 127.0f / amax;
#endif
    for (int k = threadIdx.x; k < K; k += 32)
        codes[start + k] = clamped(round_away(load(x, format, start + k) * factor));
    if (threadIdx.x == 0) scales[blockIdx.x] = scale;
}

extern "C" __global__ void torchao(
    const void* x, signed char* codes, float* scales, int format, int K) {
    const size_t start = static_cast<size_t>(blockIdx.x) * K;
    const float amax = row_amax<false>(x, format, start, K);
#if defined(LEVELS_127)
    float scale = as_format(amax / 127.0f, format);
#elif defined(SCALE_IN_FP32)
    float scale = amax / 127.5f;
#else
    float scale = as_format(amax / 127.5f, format);
#endif
#ifndef NO_LEAST_SCALE
    if (scale < 0x1p-23f) scale = 0x1p-23f;
#endif
#ifdef INVERSE_IN_INPUT
    const float inverse = as_format(1.0f / scale, format);
#else
    const float inverse = 1.0f / scale;
#endif
    for (int k = threadIdx.x; k < K; k += 32)
        codes[start + k] = clamped(__float2int_rn(load(x, format, start + k) * inverse));
    if (threadIdx.x == 0) scales[blockIdx.x] = canonical(scale);
}

extern "C" __global__ void bitsandbytes(
    const void* x, signed char* codes, float* scales, int format, int K) {
    const size_t start = static_cast<size_t>(blockIdx.x) * K;
    const float amax = row_amax<true>(x, format, start, K), factor = 127.0f / amax;
    for (int k = threadIdx.x; k < K; k += 32)
        codes[start + k] = __float2int_rn(load(x, format, start + k) * factor);
#ifdef STORES_SCALE
    if (threadIdx.x == 0) scales[blockIdx.x] = amax / 127.0f;
#else
    if (threadIdx.x == 0) scales[blockIdx.x] = amax;
#endif
}

extern "C" __global__ void modelopt(
    const void* x, signed char* codes, float* scales, int format, int K) {
    const size_t start = static_cast<size_t>(blockIdx.x) * K;
    const float amax = row_amax<false>(x, format, start, K);
#ifdef NO_EPSILON
    const bool zero = amax == 0.0f;
#else
    const bool zero = amax < 0x1p-24f;
#endif
    const float factor = zero ? 0.0f : 127.0f / amax;
    for (int k = threadIdx.x; k < K; k += 32)
        codes[start + k] = clamped(__float2int_rn(load(x, format, start + k) * factor));
    if (threadIdx.x == 0) scales[blockIdx.x] = canonical(amax / 127.0f);
}

// A row is a group here: x: (groups, G).
extern "C" __global__ void gguf(
    const void* x, signed char* codes, float* scales, int format, int G) {
    const size_t start = static_cast<size_t>(blockIdx.x) * G;
    float scale = row_amax<false>(x, format, start, G) / 127.0f;
#ifdef CODES_BY_FP16
    scale = as_fp16(scale);
#endif
    const float inverse = scale == 0.0f ? 0.0f : 1.0f / scale;
    for (int k = threadIdx.x; k < G; k += 32)
        codes[start + k] = clamped(round_away(load(x, format, start + k) * inverse));
#ifdef STORES_FP32
    if (threadIdx.x == 0) scales[blockIdx.x] = canonical(scale);
#else
    if (threadIdx.x == 0) scales[blockIdx.x] = canonical(as_fp16(scale));
#endif
}

// The scale is given, finite and > 0; x: fp32 (M, K), scales: fp32 (S,), S = 1 or M.
extern "C" __global__ void onnx(
    const float* x, const float* scales, signed char* codes, int K, int S) {
    const size_t start = static_cast<size_t>(blockIdx.x) * K;
    const float scale = scales[S == 1 ? 0 : blockIdx.x];
    for (int k = threadIdx.x; k < K; k += 32) {
        const float quotient = x[start + k] / scale;
#ifdef NAN_AS_ZERO
        codes[start + k] = clamped(__float2int_rn(quotient));
#else
        codes[start + k] = clamped(__float2int_rn(fmaxf(quotient, -128.0f)));
#endif
    }
}
