// A dialect's arithmetic on one element. Its fields come in as defines, <FIELD>_RULE for each field
// of reference/dialect_fields.py: the index of a word in that file's FIELDS (quoted below).
//
// Contract: every operation is one correctly rounded fp32 operation (or one fused one where the
// dialect says so), subnormals kept, NaN canonical. NaN quotient: code 0 or the clamp's lower end;
// infinite: the clamp's end. The whole of a group's rules (floor, zero group, NaN, infinity) is in
// make_multiplier. A source that does not define one of FLOOR_RULE, NAN_CODE_RULE, SCALE_RULE,
// LEAST_SCALE_RULE and STORED_RULE has that field's first word.
#pragma once

#include "formats.cuh"

enum Arithmetic {
    IN_FP32 = 0,         // "fp32"
    IN_INPUT = 1,        // "input"
    SCALE_IN_INPUT = 2,  // "input scale"
};
enum ScaleRule {
    AMAX_OVER_127 = 0,    // "amax/127"
    AMAX_OVER_127_5 = 1,  // "amax/127.5"
    BOTH_ENDS = 2,        // "max(-min/128,max/127)"
    AMAX_TIMES = 3,       // "amax*(1/127)"
};
enum LeastScale {
    NO_LEAST = 0,          // "none"
    LEAST_2_23 = 1,        // "2^-23"
    LEAST_NORMAL = 2,      // "smallest normal"
    EPSILON_FOR_ZERO = 3,  // "eps where 0"
};
enum Stored {
    STORED_SCALE = 0,  // "scale"
    STORED_AMAX = 1,   // "amax"
    STORED_FP16 = 2,   // "fp16 scale"
};
enum MultiplierRule {
    X_OVER_S = 0,         // "x/s"
    X_TIMES_INVERSE = 1,  // "x*(1/s)"
    X_TIMES_QMAX = 2,     // "x*(127/amax)"
};
enum Rounding {
    RNE = 0,        // "rne"
    TRUNCATE = 1,   // "truncate"
    HALF_AWAY = 2,  // "half away"
};
enum Clamp {
    SYMMETRIC = 0,  // "-127..127"
    FULL = 1,       // "-128..127"
};
enum ZeroRule {
    CODE0 = 0,        // "code0"
    UNGUARDED = 1,    // "unguarded"
    CODE0_BELOW = 2,  // "code0 below 2^-24"
};
enum NanRule {
    PROPAGATE = 0,  // "propagate"
    SKIP = 1,       // "skip"
};
enum NanCode {
    NAN_ZERO = 0,  // "zero"
    NAN_LOW = 1,   // "low"
};
enum Floor {
    NO_FLOOR = 0,     // "none"
    FLOOR_1E_10 = 1,  // "1e-10"
    FLOOR_1E_5 = 2,   // "1e-5"
};
enum Epilogue {
    ACC_SB_SA_BIAS = 0,  // "acc*sB*sA+bias"
    SA_SBACC_FMA = 1,    // "sA*(sB*acc) fma bias"
    ACC_SA_SB_BIAS = 2,  // "acc*sA*sB+bias"
};

#define INFINITE __uint_as_float(0x7f800000u)
#define CANONICAL_NAN __uint_as_float(0x7fffffffu)

#ifdef INPUT  // kernels that quantize: INPUT is the Format of x

#ifndef FLOOR_RULE
#define FLOOR_RULE NO_FLOOR
#endif
#ifndef NAN_CODE_RULE
#define NAN_CODE_RULE NAN_ZERO
#endif
#ifndef SCALE_RULE
#define SCALE_RULE AMAX_OVER_127
#endif
#ifndef LEAST_SCALE_RULE
#define LEAST_SCALE_RULE NO_LEAST
#endif
#ifndef STORED_RULE
#define STORED_RULE STORED_SCALE
#endif

// Bounds of a kernel whose block may have 1024 threads. Left to itself, ptxas spills registers of the
// longer words for a second block.
#if SCALE_RULE != 0 || STORED_RULE != 0
#define LARGE_BLOCK __launch_bounds__(1024, 1)
#else
#define LARGE_BLOCK __launch_bounds__(1024)
#endif

using Input = Storage<INPUT>::type;

static_assert(SCALE_RULE != BOTH_ENDS || NAN_RULE == PROPAGATE, "scale_key has no other NaN rule");

// Rounds to x's dtype. Of a NaN the bits are lost.
__device__ inline float round_as_input(float value) {
    if (INPUT == FP16) return fp16_to_float(float_to_fp16(value));
    if (INPUT == BF16) return __uint_as_float(float_to_bf16(value) << 16);
    return value;
}

// Rounds to the dtype in which the dialect computes.
__device__ inline float narrow(float value) {
    return ARITHMETIC_RULE == IN_INPUT ? round_as_input(value) : value;
}

// The scale that x alone would have where each end has its own, -x / 128 or x / 127: bits of a
// non-negative float. x / 127 = fma(x - 127 q, r, q) with r = RN(1/127), q = RN(x r): correctly
// rounded for every x whose quotient is normal (bench/prove_division.py); below, the least scale
// hides the difference.
__device__ inline unsigned scale_key(float x) {
    if (x < 0.0f) return __float_as_uint(__fmul_rn(x, -0x1p-7f));
    const float inverse = 0x1.020408p-7f, q = __fmul_rn(x, inverse);
    const float exact = __fmaf_rn(__fmaf_rn(-q, 127.0f, x), inverse, q);
    return __float_as_uint(q == INFINITE ? q : exact) & 0x7fffffffu;
}

// max(amax, |x|) under the NaN rule, on the bits of non-negative floats: their order is the
// integers' order with NaN on top, so that any order of reduction gives the same bits. Where each
// end has its own scale it is their maximum in place of amax.
__device__ inline unsigned absolute_maximum(unsigned amax, float x) {
    if (SCALE_RULE == BOTH_ENDS) return max(amax, scale_key(x));
    if (NAN_RULE == SKIP) return __float_as_uint(fmaxf(__uint_as_float(amax), fabsf(x)));
    return max(amax, __float_as_uint(x) & 0x7fffffffu);
}

// How one group's elements become codes.
struct Multiplier {
    float scale;          // what is stored: of amax, see STORED_RULE
    float factor;         // codes are x times this, or x over this in a dialect that divides
    float inverse, tail;  // 1 / factor in two floats, for the fast division
    bool fast;            // whether the fast division may be used
};

constexpr bool divides(int rule) { return rule == X_OVER_S; }

// Division by s without a division per element. With r = RN(1/s) and t = (1 - s r) r, the quotient
// q = fma(x, r, x t) lies within one ulp of x/s, x - q s is exact, and fma(x - q s, r, q) is x/s
// correctly rounded (Markstein 1990; Handbook of Floating-Point Arithmetic, section 4.7). This
// needs s far from the ends of the exponent range and |x/s| <= 256 and not tiny; a quotient below
// 1/4 may come out a few ulps off, which no code can tell: it is 0, rounded to nearest or cut.
__device__ inline void prepare_division(Multiplier& m) {
    m.fast = m.factor >= 0x1p-64f && m.factor <= 0x1p64f;
    m.inverse = __frcp_rn(m.factor);
    m.tail = __fmul_rn(__fmaf_rn(-m.factor, m.inverse, 1.0f), m.inverse);
}

__device__ inline float divide_fast(float x, const Multiplier& m) {
    const float q = __fmaf_rn(x, m.inverse, __fmul_rn(x, m.tail));
    return __fmaf_rn(__fmaf_rn(-q, m.factor, x), m.inverse, q);
}

// The larger of two non-negative floats, or NaN.
__device__ inline float at_least(float value, float least) {
    return __uint_as_float(max(__float_as_uint(value), __float_as_uint(least)));
}

// A scale that is too small, made larger; value is no NaN.
__device__ inline float least_scale(float value) {
    constexpr int KEPT_IN = ARITHMETIC_RULE == IN_FP32 ? static_cast<int>(FP32) : INPUT;
    const float normal = KEPT_IN == FP16 ? 0x1p-14f : 0x1p-126f;
    const float epsilon = KEPT_IN == FP16 ? 0x1p-10f : KEPT_IN == BF16 ? 0x1p-7f : 0x1p-23f;
    if (LEAST_SCALE_RULE == LEAST_2_23) return at_least(value, 0x1p-23f);
    if (LEAST_SCALE_RULE == LEAST_NORMAL) return at_least(value, normal);
    return LEAST_SCALE_RULE == EPSILON_FOR_ZERO && value == 0.0f ? epsilon : value;
}

// The scale of a group with this amax (BOTH_ENDS: this maximum of scale_key).
__device__ inline float scale_of(float amax) {
    float scale = amax;
    if (SCALE_RULE == AMAX_OVER_127) scale = __fdiv_rn(amax, 127.0f);
    if (SCALE_RULE == AMAX_OVER_127_5) scale = __fdiv_rn(amax, 127.5f);
    if (SCALE_RULE == AMAX_TIMES) scale = __fmul_rn(amax, 0x1.020408p-7f);
    if (ARITHMETIC_RULE != IN_FP32) scale = round_as_input(scale);
    return amax != amax ? CANONICAL_NAN : least_scale(scale);
}

// What is given out for this amax and scale.
__device__ inline float stored(float amax, float scale) {
    if (STORED_RULE == STORED_AMAX) return amax;
    if (STORED_RULE != STORED_FP16 || scale != scale) return scale;
    return fp16_to_float(float_to_fp16(scale));
}

// The multiplier of a group whose largest magnitude has these bits. A NaN lies above the floor.
__device__ inline Multiplier make_multiplier(unsigned amax_bits) {
    if (FLOOR_RULE == FLOOR_1E_10) amax_bits = max(amax_bits, __float_as_uint(1e-10f));
    if (FLOOR_RULE == FLOOR_1E_5) amax_bits = max(amax_bits, __float_as_uint(narrow(1e-5f)));
    const float amax = __uint_as_float(amax_bits), scale = scale_of(amax);
    const float divisor = MULTIPLIER_RULE == X_TIMES_QMAX ? amax : scale;
    const bool zero = ZERO_RULE == CODE0         ? divisor == 0.0f
                      : ZERO_RULE == CODE0_BELOW ? amax < 0x1p-24f
                                                 : false;
    Multiplier m = {};
    m.scale = stored(amax, scale);
    if (divides(MULTIPLIER_RULE)) {
        m.factor = zero ? INFINITE : scale;  // x / inf is 0 or NaN: code 0 for every x
        prepare_division(m);
    } else {
        const float quotient = __fdiv_rn(MULTIPLIER_RULE == X_TIMES_QMAX ? 127.0f : 1.0f, divisor);
        m.factor = zero ? 0.0f : narrow(quotient);
    }
    return m;
}

// The multiplier under a given scale, finite and > 0.
__device__ inline Multiplier static_multiplier(float scale) {
    Multiplier m = {};
    m.scale = scale;
    m.factor = divides(STATIC_MULTIPLIER_RULE) ? scale : narrow(__fdiv_rn(1.0f, scale));
    if (divides(STATIC_MULTIPLIER_RULE)) prepare_division(m);
    return m;
}

// Whether the FAST form of quantize_dynamic, or of quantize_given, may be used.
__device__ inline bool fast_dynamic(const Multiplier& m) {
    return !divides(MULTIPLIER_RULE) || m.fast;
}

// A dialect that computes in fp16 is given scales of fp16: none is too small or large.
__device__ inline bool fast_given(const Multiplier& m) {
    constexpr bool in_fp16 = ARITHMETIC_RULE == IN_INPUT && INPUT == FP16;
    return !divides(STATIC_MULTIPLIER_RULE) || in_fp16 || m.fast;
}

// To an integer, 0 for NaN; what int32 cannot hold saturates. Half away from zero: with the float
// below 1/2 added, the sum reaches the next integer from a half on, where it rounds up to it, and
// from nothing less; 1/2 itself would lift the float below 1/2 to 1.
__device__ inline int to_integer(float value) {
    if (ROUNDING_RULE == TRUNCATE) return __float2int_rz(value);
    if (ROUNDING_RULE == HALF_AWAY)
        return __float2int_rz(__fadd_rn(value, copysignf(0x1.fffffep-2f, value)));
    return __float2int_rn(value);
}

// Rounds and clamps. fmaxf gives its other operand for NaN.
__device__ inline int to_code(float quotient) {
    const int lowest = CLAMP_RULE == SYMMETRIC ? -127 : -128;
    const float kept = narrow(quotient);
    if (NAN_CODE_RULE == NAN_LOW)
        return min(to_integer(fmaxf(kept, static_cast<float>(lowest))), 127);
    return min(max(to_integer(kept), lowest), 127);
}

// The code of x by its group's own amax: |x| <= amax (or x is NaN).
template <bool FAST> __device__ int quantize_dynamic(float x, const Multiplier& m) {
    if (!divides(MULTIPLIER_RULE)) return to_code(__fmul_rn(x, m.factor));
    return to_code(FAST ? divide_fast(x, m) : __fdiv_rn(x, m.factor));
}

// The code of x under a given scale: x may be anything.
template <bool FAST> __device__ int quantize_given(float x, const Multiplier& m) {
    if (!divides(STATIC_MULTIPLIER_RULE)) return to_code(__fmul_rn(x, m.factor));
    if (!FAST) return to_code(__fdiv_rn(x, m.factor));
    const bool saturates = fabsf(x) >= __fmul_rn(256.0f, m.factor);
    return to_code(saturates ? copysignf(256.0f, x) : divide_fast(x, m));
}

#endif  // INPUT

// What stands for no bias: x + -0 is x for every x, -0 and NaN included, fused or not.
#define NO_BIAS -0.0f

// scale where rule is chosen, else 1: one instruction, since of a condition in C++ the compiler makes
// a copy of the epilogue for each rule.
__device__ inline float factor_under(int rule, int chosen, float scale) {
    float factor;
    asm("{\n.reg .pred same;\nsetp.eq.s32 same, %1, %2;\nselp.f32 %0, %3, 0f3F800000, same;\n}"
        : "=f"(factor)
        : "r"(rule), "r"(chosen), "f"(scale));
    return factor;
}

// A row's part in the epilogue, by rule (an Epilogue: the dialect's EPILOGUE_RULE, which kernels
// are told when they run): of the three factors two are 1 and change nothing.
struct RowScale {
    float before, after, fused;  // before the column's scale, after it, and fused with the bias

    RowScale() = default;
    __device__ RowScale(int rule, float scale)
        : before(factor_under(rule, ACC_SA_SB_BIAS, scale)),
          after(factor_under(rule, ACC_SB_SA_BIAS, scale)),
          fused(factor_under(rule, SA_SBACC_FMA, scale)) {}
};

// One accumulator to fp32, without a branch on the rule.
__device__ inline float dequantize_accumulator(
    int acc, const RowScale& row, float b_scale, float bias) {
    const float inner = __fmul_rn(__fmul_rn(__int2float_rn(acc), row.before), b_scale);
    return __fmaf_rn(__fmul_rn(inner, row.after), row.fused, bias);
}
