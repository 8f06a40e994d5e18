// Per-token INT8 quantization in its simplest form: a block per row, one read for amax, one for the
// codes. Right in dialect ieee as it stands; each define plants one mistake (see planted.py).
//
// x: fp32 (format 0), fp16 (1) or bf16 (2), (M, K); codes: s8 (M, K); scales: fp32 (M,).

constexpr int THREADS = 128;
constexpr int WARPS = THREADS / 32;

__device__ float load(const void* x, int format, size_t i) {
    if (format == 0) return static_cast<const float*>(x)[i];
    const unsigned short bits = static_cast<const unsigned short*>(x)[i];
    if (format == 2) return __uint_as_float(static_cast<unsigned>(bits) << 16);
    float wide;
    asm("cvt.f32.f16 %0, %1;" : "=f"(wide) : "h"(bits));
    return wide;
}

__device__ float input(const void* x, int format, size_t i) {
    const float value = load(x, format, i);
#ifdef FLUSHED
    if (fabsf(value) < 1.17549435e-38f) return copysignf(0.0f, value);
#endif
    return value;
}

__device__ float magnitude(float value) {
#ifdef SIGNED_AMAX
    return value;
#else
    return fabsf(value);
#endif
}

// The larger of two, NaN above all.
__device__ float larger(float a, float b) {
#ifdef NAN_IGNORED
    return fmaxf(a, b);
#else
    return b > a || b != b ? b : a;
#endif
}

__device__ float over_warp(float amax) {
#ifdef LOST_STEP
    constexpr int FIRST = 8;
#else
    constexpr int FIRST = 16;
#endif
#ifdef SHUFFLE_MASK
    constexpr unsigned LANES = 0x0000ffff;
#else
    constexpr unsigned LANES = 0xffffffff;
#endif
    for (int step = FIRST; step > 0; step /= 2)
        amax = larger(amax, __shfl_xor_sync(LANES, amax, step));
    return amax;
}

__device__ float over_block(float amax) {
    __shared__ float of_warp[32];
    amax = over_warp(amax);
    if (threadIdx.x % 32 == 0) of_warp[threadIdx.x / 32] = amax;
#ifndef MISSING_BARRIER
    __syncthreads();
#endif
#ifdef FIRST_WARP
    return of_warp[0];
#endif
#ifdef UNINITIALISED_SHARED
    constexpr int COUNT = 32;
#else
    constexpr int COUNT = WARPS;
#endif
    amax = of_warp[0];
    for (int warp = 1; warp < COUNT; warp++) amax = larger(amax, of_warp[warp]);
    return amax;
}

__device__ float scale_of(float amax) {
#ifdef LEVELS_128
    float scale = amax / 128.0f;
#else
    float scale = amax / 127.0f;
#endif
#ifdef SCALE_FP16
    unsigned short narrow;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(narrow) : "f"(scale));
    asm("cvt.f32.f16 %0, %1;" : "=f"(scale) : "h"(narrow));
#endif
#ifdef ZERO_ROW_NAN
    if (amax == 0.0f) scale = __uint_as_float(0x7fffffff);
#endif
#ifdef ZERO_ROW_ONE
    if (amax == 0.0f) scale = 1.0f;
#endif
    return scale;
}

__device__ int rounded(float value) {
#if defined(TRUNCATED)
    return __float2int_rz(value);
#elif defined(HALF_AWAY)
    return __float2int_rz(roundf(value));
#elif defined(HALF_UP)
    return __float2int_rd(value + 0.5f);
#else
    return __float2int_rn(value);
#endif
}

__device__ int code_of(float x, float scale) {
    if (scale == 0.0f) return 0;
#ifdef RECIPROCAL
    const int code = rounded(x * (1.0f / scale));
#else
    const int code = rounded(x / scale);
#endif
#if defined(NO_CLAMP)
    return code;
#elif defined(CLAMP_128)
    return max(-128, min(127, code));
#else
    return max(-127, min(127, code));
#endif
}

extern "C" __global__ void quantize(
    void* x, signed char* codes, float* scales, int format, int M, int K) {
    const int row = blockIdx.x;
    const size_t start = static_cast<size_t>(row) * K;
#ifdef PAST_THE_ROW
    const int end = K + 1;
#else
    const int end = K;
#endif
    float amax = 0.0f;
    for (int k = threadIdx.x; k < end; k += THREADS)
        amax = larger(amax, magnitude(input(x, format, start + k)));
    amax = over_block(amax);
    const float scale = scale_of(amax);
#ifdef ZERO_ROW_SKIPPED
    if (amax == 0.0f) {
        if (threadIdx.x == 0) scales[row] = scale;
        return;
    }
#endif
#ifdef UNWRITTEN_TAIL
    const int written = K / 4 * 4;
#else
    const int written = K;
#endif
    for (int k = threadIdx.x; k < written; k += THREADS) {
        const float value = input(x, format, start + k);
        codes[start + k] = code_of(value, scale);
#ifdef MODIFIES_INPUT
        if (format == 0) static_cast<float*>(x)[start + k] = codes[start + k] * scale;
#endif
    }
    if (threadIdx.x == 0) scales[row] = scale;
}

// As quantize, for fp32 rows read four at a time.
extern "C" __global__ void quantize_vectors(
    void* x, signed char* codes, float* scales, int format, int M, int K) {
    const int row = blockIdx.x;
    const size_t start = static_cast<size_t>(row) * K;
    float amax = 0.0f;
#ifdef MISALIGNED
    const bool whole = format == 0;
#else  // other rows do not start at a multiple of 16 bytes
    const bool whole = format == 0 && K % 4 == 0 && reinterpret_cast<size_t>(x) % 16 == 0;
#endif
    const int vectors = whole ? K / 4 : 0;
    for (int v = threadIdx.x; v < vectors; v += THREADS) {
        const float4 four = reinterpret_cast<const float4*>(static_cast<float*>(x) + start)[v];
        amax = larger(larger(amax, fabsf(four.x)), fabsf(four.y));
        amax = larger(larger(amax, fabsf(four.z)), fabsf(four.w));
    }
    for (int k = 4 * vectors + threadIdx.x; k < K; k += THREADS)
        amax = larger(amax, fabsf(load(x, format, start + k)));
    amax = over_block(amax);
    const float scale = scale_of(amax);
    for (int k = threadIdx.x; k < K; k += THREADS)
        codes[start + k] = code_of(load(x, format, start + k), scale);
    if (threadIdx.x == 0) scales[row] = scale;
}
