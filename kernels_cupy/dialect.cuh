// A dialect's arithmetic on one element. Its fields come in as defines, <FIELD>_RULE for each field
// of reference/dialects.py: the index of a word in that file's FIELDS (quoted below).
//
// Contract: every operation is one correctly rounded fp32 operation (or one fused one where the
// dialect says so), subnormals kept, NaN canonical. NaN quotient: code 0 or the clamp's lower end;
// infinite: the clamp's end. The whole of a group's rules (floor, zero group, NaN, infinity) is in
// make_multiplier. A source that defines no FLOOR_RULE or NAN_CODE_RULE has the first word of each.
#pragma once

#include "formats.cuh"

enum Arithmetic {
    IN_FP32 = 0,   // "fp32"
    IN_INPUT = 1,  // "input"
};
enum MultiplierRule {
    X_OVER_S = 0,         // "x/s"
    X_TIMES_INVERSE = 1,  // "x*(1/s)"
    X_TIMES_QMAX = 2,     // "x*(127/amax)"
};
enum Rounding {
    RNE = 0,       // "rne"
    TRUNCATE = 1,  // "truncate"
};
enum Clamp {
    SYMMETRIC = 0,  // "-127..127"
    FULL = 1,       // "-128..127"
};
enum ZeroRule {
    CODE0 = 0,      // "code0"
    UNGUARDED = 1,  // "unguarded"
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

using Input = Storage<INPUT>::type;

static_assert(ARITHMETIC_RULE == IN_FP32 || INPUT == FP16, "input arithmetic is for fp16 only");

// Rounds to the dtype in which the dialect computes.
__device__ inline float narrow(float value) {
    return ARITHMETIC_RULE == IN_INPUT ? fp16_to_float(float_to_fp16(value)) : value;
}

// max(amax, |x|) under the NaN rule, on the bits of non-negative floats: their order is the
// integers' order with NaN on top, so that any order of reduction gives the same bits.
__device__ inline unsigned absolute_maximum(unsigned amax, float x) {
    if (NAN_RULE == SKIP) return __float_as_uint(fmaxf(__uint_as_float(amax), fabsf(x)));
    return max(amax, __float_as_uint(x) & 0x7fffffffu);
}

// How one group's elements become codes.
struct Multiplier {
    float scale;          // what is stored: amax / 127
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

// The multiplier of a group whose largest magnitude has these bits. A NaN lies above the floor.
__device__ inline Multiplier make_multiplier(unsigned amax_bits) {
    if (FLOOR_RULE == FLOOR_1E_10) amax_bits = max(amax_bits, __float_as_uint(1e-10f));
    const float amax = __uint_as_float(amax_bits);
    const bool nan = amax != amax;
    Multiplier m = {};
    m.scale = nan ? CANONICAL_NAN : narrow(__fdiv_rn(amax, 127.0f));
    if (divides(MULTIPLIER_RULE)) {
        // x / inf is 0 or NaN: code 0 for every x.
        m.factor = ZERO_RULE == CODE0 && m.scale == 0.0f ? INFINITE : m.scale;
        prepare_division(m);
    } else {
        const float divisor = MULTIPLIER_RULE == X_TIMES_QMAX ? amax : m.scale;
        const float quotient = __fdiv_rn(MULTIPLIER_RULE == X_TIMES_QMAX ? 127.0f : 1.0f, divisor);
        m.factor = ZERO_RULE == CODE0 && divisor == 0.0f ? 0.0f : quotient;
    }
    return m;
}

// The multiplier under a given scale, finite and > 0.
__device__ inline Multiplier static_multiplier(float scale) {
    Multiplier m = {};
    m.scale = scale;
    m.factor = divides(STATIC_MULTIPLIER_RULE) ? scale : __fdiv_rn(1.0f, scale);
    if (divides(STATIC_MULTIPLIER_RULE)) prepare_division(m);
    return m;
}

// Whether the FAST form of quantize_dynamic, or of quantize_given, may be used.
__device__ inline bool fast_dynamic(const Multiplier& m) {
    return !divides(MULTIPLIER_RULE) || m.fast;
}

// A dialect that computes in fp16 is given scales of fp16: none is too small or large.
__device__ inline bool fast_given(const Multiplier& m) {
    return !divides(STATIC_MULTIPLIER_RULE) || ARITHMETIC_RULE == IN_INPUT || m.fast;
}

// To an integer, 0 for NaN; what int32 cannot hold saturates.
__device__ inline int to_integer(float value) {
    return ROUNDING_RULE == TRUNCATE ? __float2int_rz(value) : __float2int_rn(value);
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
