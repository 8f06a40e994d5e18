// Codes under given scales, and back: a block of 32 x 4 threads takes four rows. Right in dialect
// ieee as it stands; each define plants one mistake (see planted.py).
//
// x: fp32 (format 0), fp16 (1) or bf16 (2), (M, K); scales: fp32 (S,), S = 1 or M; codes: s8 (M, K).

__device__ float load(const void* x, int format, size_t i) {
    if (format == 0) return static_cast<const float*>(x)[i];
    const unsigned short bits = static_cast<const unsigned short*>(x)[i];
    if (format == 2) return __uint_as_float(static_cast<unsigned>(bits) << 16);
    float wide;
    asm("cvt.f32.f16 %0, %1;" : "=f"(wide) : "h"(bits));
    return wide;
}

__device__ float scale_of(const float* scales, int S, int row) {
#ifdef WRONG_ROW
    return scales[S == 1 ? 0 : blockIdx.x * blockDim.y];
#else
    return scales[S == 1 ? 0 : row];
#endif
}

extern "C" __global__ void quantize(
    const void* x, const float* scales, signed char* codes, int format, int M, int K, int S) {
    const int row = blockIdx.x * blockDim.y + threadIdx.y;
    if (row >= M) return;
    const float scale = scale_of(scales, S, row);
    for (int k = threadIdx.x; k < K; k += 32) {
        const size_t i = static_cast<size_t>(row) * K + k;
        const int code = __float2int_rn(load(x, format, i) / scale);
#if defined(NO_CLAMP)
        codes[i] = code;
#elif defined(CLAMP_128)
        codes[i] = max(-128, min(127, code));
#else
        codes[i] = max(-127, min(127, code));
#endif
    }
}

extern "C" __global__ void dequantize(
    const signed char* codes, const float* scales, float* out, int M, int K, int S) {
    const int row = blockIdx.x * blockDim.y + threadIdx.y;
    if (row >= M) return;
#ifdef LAST_ROW
    if (row == M - 1 && M > 1) return;
#endif
    const float scale = scale_of(scales, S, row);
    for (int k = threadIdx.x; k < K; k += 32) {
        const size_t i = static_cast<size_t>(row) * K + k;
#ifdef UNSIGNED
        out[i] = static_cast<unsigned char>(codes[i]) * scale;
#else
        out[i] = codes[i] * scale;
#endif
    }
}
