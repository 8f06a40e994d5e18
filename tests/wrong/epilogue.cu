// Accumulators to floats: a thread per element. Right in dialect ieee (acc*sB*sA+bias, one rounding
// each) as it stands; each define plants one mistake (see planted.py).
//
// acc: s32 (M, N); a_scales: fp32 (M,); b_scales: fp32 (N,); bias: fp32 (N,) or null;
// out: fp32, or fp16 where HALF is set, (M, N).

__device__ float through_half(float value) {
    unsigned short narrow;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(narrow) : "f"(value));
    asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(narrow));
    return value;
}

__device__ float dequantized(int acc, float a_scale, float b_scale, const float* bias) {
#ifdef SCALE_FP16
    a_scale = through_half(a_scale);
#endif
#ifdef ACCUMULATOR_TRUNCATED
    const float wide = __int2float_rz(acc);
#else
    const float wide = __int2float_rn(acc);
#endif
#if defined(BIAS_FIRST)
    return (bias ? wide + *bias : wide) * b_scale * a_scale;
#elif defined(FMA)
    return bias ? __fmaf_rn(wide * b_scale, a_scale, *bias) : wide * b_scale * a_scale;
#elif defined(SCALES_FIRST)
    return bias ? wide * (a_scale * b_scale) + *bias : wide * (a_scale * b_scale);
#else
    const float scaled = wide * b_scale * a_scale;
    return bias ? scaled + *bias : scaled;
#endif
}

extern "C" __global__ void epilogue(
    const int* acc, const float* a_scales, const float* b_scales, const float* bias, void* out,
    int M, int N) {
    const int n = blockIdx.x * blockDim.x + threadIdx.x, m = blockIdx.y;
    if (n >= N) return;
    const size_t i = static_cast<size_t>(m) * N + n;
#ifdef SWAPPED_AXES
    const float a_scale = a_scales[n % M], b_scale = b_scales[m % N];
#else
    const float a_scale = a_scales[m], b_scale = b_scales[n];
#endif
    const float value = dequantized(acc[i], a_scale, b_scale, bias ? bias + n : nullptr);
#if defined(HALF) && defined(HALF_TRUNCATED)
    asm("{ .reg .b16 h; cvt.rz.f16.f32 h, %1; st.global.b16 [%0], h; }" ::
            "l"(static_cast<unsigned short*>(out) + i), "f"(value) : "memory");
#elif defined(HALF)
    asm("{ .reg .b16 h; cvt.rn.f16.f32 h, %1; st.global.b16 [%0], h; }" ::
            "l"(static_cast<unsigned short*>(out) + i), "f"(value) : "memory");
#else
    static_cast<float*>(out)[i] = value;
#endif
}
