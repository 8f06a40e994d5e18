// exp, erf and the activations made of them: the steps of reference/functions.py, bit for bit.
//
// Contract: every operation is one correctly rounded fp32 operation or integer arithmetic on bits;
// no approximate instruction, no table. Subnormals are kept, NaN is canonical. What the functions
// give, and how far they are from exact, stands at the head of reference/functions.py.
#pragma once

// The polynomial with these coefficients, lowest power first.
template <int COUNT> __device__ float horner(const float (&coefficient)[COUNT], float x) {
    float total = coefficient[COUNT - 1];
#pragma unroll
    for (int i = COUNT - 2; i >= 0; i--) total = __fmaf_rn(total, x, coefficient[i]);
    return total;
}

// e^bounded = mantissa * 2^k for -104 <= bounded <= 89: 0.7 < mantissa < 1.42, and an integer whose
// lower bits are those of k.
struct Exponential {
    float mantissa;
    int k;
};

__device__ inline Exponential exponential(float bounded) {
    constexpr float TO_INTEGER = 0x1.8p+23f;
    constexpr float EXP[] = {0x1p+0f,         0x1p+0f,         0x1.fffffcp-2f, 0x1.555492p-3f,
                             0x1.5558aap-5f, 0x1.12396ep-7f, 0x1.6a5250p-10f};
    const float shifted = __fmaf_rn(bounded, 0x1.715476p+0f, TO_INTEGER);
    const float k = __fsub_rn(shifted, TO_INTEGER);
    const float r = __fmaf_rn(-k, -0x1.05c610p-29f, __fmaf_rn(-k, 0x1.62e430p-1f, bounded));
    return {horner(EXP, r), __float_as_int(shifted) - __float_as_int(TO_INTEGER)};
}

__device__ inline float power_of_two(int k) { return __int_as_float((k + 127) << 23); }

__device__ inline float exp_fma(float x) {
    const Exponential e = exponential(fminf(fmaxf(x, -104.0f), 89.0f));
    const int half = e.k >> 1;
    const float value =
        __fmul_rn(__fmul_rn(e.mantissa, power_of_two(half)), power_of_two(e.k - half));
    return x != x ? __uint_as_float(0x7fffffffu) : value;
}

// 1 + exp_fma(x), to the bit, where x is no NaN: from -80 downwards the sum is 1, above it 2^(k - 1)
// is a normal number, and doubling in the addition rounds nothing that the product would not.
__device__ inline float one_plus_exp(float x) {
    const Exponential e = exponential(fminf(fmaxf(x, -80.0f), 89.0f));
    const int halved = __float_as_int(e.mantissa) + ((e.k - 1) << 23);
    return __fmaf_rn(__int_as_float(halved), 2.0f, 1.0f);
}

__device__ inline float erf_fma(float x) {
    constexpr float NEAR[] = {0x1.06eba8p-3f, -0x1.81273ep-2f, 0x1.ce2ce6p-4f, -0x1.b7f71ap-6f,
                              0x1.53f224p-8f, -0x1.a3515ep-11f, 0x1.4771fcp-14f};
    constexpr float FAR[] = {0x1.ffc102p-1f,  0x1.4d74bap-9f,  -0x1.9bb1f2p-8f, 0x1.37035ap-7f,
                             -0x1.3af370p-7f, 0x1.b35d08p-8f,  -0x1.80753cp-9f, 0x1.001368p-11f,
                             0x1.806438p-12f, -0x1.3756a2p-12f, 0x1.c8b566p-15f, 0x1.9a0868p-16f,
                             -0x1.340e70p-17f};
    const float size = fabsf(x);
    const float near = __fmaf_rn(horner(NEAR, __fmul_rn(x, x)), x, x);
    const float far = horner(FAR, __fsub_rn(size, 2.46875f));
    return size >= 1.0f ? copysignf(size >= 3.92f ? 1.0f : far, x) : near;
}

__device__ inline float silu(float x) { return __fdiv_rn(x, one_plus_exp(-x)); }

__device__ inline float gelu_erf(float x) {
    const float whole = __fadd_rn(1.0f, erf_fma(__fmul_rn(x, 0x1.6a09e6p-1f)));
    return __fmul_rn(__fmul_rn(0.5f, x), whole);
}

__device__ inline float gelu_tanh(float x) {
    const float factor = __fmaf_rn(__fmul_rn(x, x), 0x1.2444f2p-4f, 0x1.988454p+0f);
    return __fdiv_rn(x, one_plus_exp(-__fmul_rn(x, factor)));
}
