// A dialect's asymmetric arithmetic: range, scale, zero point and codes of one group. Its fields
// come in as defines, as dialect.cuh says; the contract is that of reference/int8_asymmetric.py and
// reference/asymmetric.py.
//
// Codes are u8 or s8 by `lowest`, 0 or -128, a number of the running kernel: nothing else differs.
#pragma once

#include "dialect.cuh"
#include "reduce.cuh"

enum AzpRange {
    WITH_ZERO = 0,  // "with 0"
    AS_IS = 1,      // "as is"
};
enum ZeroPoint {
    CLAMPED = 0,          // "clamp(rne(qmin-min/s))"
    ANY_INT32 = 1,        // "rne(qmin-min/s)"
    RATIO_ROUNDED = 2,    // "clamp(qmin-rne(min/s))"
    CLAMPED_IN_FP32 = 3,  // "clamp(rne(qmin-min/s)), fp32 per tensor"
};
enum AzpSum {
    EXACT_SUM = 0,            // "exact"
    WRAPPED = 1,              // "wrap"
    BEFORE_ROUNDING = 2,      // "before rounding"
    FMA_BEFORE_ROUNDING = 3,  // "fma before rounding"
};
enum AzpLeastScale {  // what only this family has of LeastScale
    ONE_WHERE_EMPTY = 4,  // "1 where empty"
};
enum AzpNanZeroPoint {
    NAN_IS_0 = 0,        // "0"
    NAN_IS_HIGHEST = 1,  // "qmax"
    NAN_WRAPS = 2,       // "clamp(qmin+2**31)"
};
enum AzpNanCode {
    NAN_TO_ZERO_POINT = 0,  // "zero point"
    NAN_TO_ZERO = 1,        // "zero"
    NAN_TO_LOW = 2,         // "low"
    NAN_TO_HIGH = 3,        // "high"
};

constexpr int STEPS = 255;  // between the lowest and the highest code
// Quotients beyond give the clamp's ends whatever the zero point, which is within -128..255 where
// it is clamped. divide_fast is right up to here, as bench/prove_division.py shows.
constexpr int FARTHEST = 512;

constexpr bool SUM_FIRST =
    AZP_SUM_RULE == BEFORE_ROUNDING || AZP_SUM_RULE == FMA_BEFORE_ROUNDING;

static_assert(ROUNDING_RULE == RNE, "rne is written");
static_assert(MULTIPLIER_RULE != X_TIMES_QMAX, "the multiplier is x/s or x*(1/s)");
static_assert(
    !divides(MULTIPLIER_RULE) || AZP_RANGE_RULE == WITH_ZERO,
    "quotients are bounded only where the range holds 0");
static_assert(
    AZP_SUM_RULE == WRAPPED || ZERO_POINT_RULE != ANY_INT32,
    "the sum is exact only with zero points of few bits");
static_assert(
    AZP_SUM_RULE != FMA_BEFORE_ROUNDING
        || (ARITHMETIC_RULE == IN_FP32 && !divides(MULTIPLIER_RULE)
            && !divides(STATIC_MULTIPLIER_RULE)),
    "an FMA multiplies, in fp32");

// Rounds to the dtype in which the dialect computes scale and zero point; `narrow`: codes.
__device__ inline float kept_scale(float value) {
    return ARITHMETIC_RULE == IN_FP32 ? value : round_as_input(value);
}

// ---- range

struct Range {
    float low, high;
};

// What the range of no element is: it holds 0, or is empty.
__device__ inline Range no_range() {
    if (AZP_RANGE_RULE == WITH_ZERO) return {0.0f, 0.0f};
    return {3.402823466e38f, -3.402823466e38f};
}

__device__ inline float smaller(float a, float b) {
    if (NAN_RULE == SKIP) return fminf(a, b);
    float least;
    asm("min.NaN.f32 %0, %1, %2;" : "=f"(least) : "f"(a), "f"(b));
    return least;
}

__device__ inline float larger(float a, float b) {
    if (NAN_RULE == SKIP) return fmaxf(a, b);
    float most;
    asm("max.NaN.f32 %0, %1, %2;" : "=f"(most) : "f"(a), "f"(b));
    return most;
}

__device__ inline void widen(Range& range, float x) {
    range.low = smaller(range.low, x);
    range.high = larger(range.high, x);
}

// Unsigned numbers in the order of the floats, above 0; a canonical NaN is the largest.
__device__ inline unsigned ordered(float value) {
    const unsigned bits = __float_as_uint(value);
    return bits ^ (bits >> 31 ? 0xffffffffu : 0x80000000u);
}

__device__ inline float from_ordered(unsigned key) {
    return __uint_as_float(key ^ (key >> 31 ? 0x80000000u : 0xffffffffu));
}

// A range as two numbers whose maxima are the joint range's, in any order of joining; 0 is the
// range of nothing. A NaN is lost in `low` but tops every `high`.
struct RangeKeys {
    unsigned low, high;
};

__device__ inline RangeKeys range_keys(const Range& range) {
    return {~ordered(range.low), ordered(range.high)};
}

__device__ inline Range range_of(const RangeKeys& keys) {
    return {from_ordered(~keys.low), from_ordered(keys.high)};
}

// The joint range of a block of several warps, in each thread. All of them must call it, once per
// kernel.
__device__ inline RangeKeys join_block(RangeKeys keys) {
    __shared__ RangeKeys partial[32];
    const unsigned warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    keys = {warp_maximum(keys.low), warp_maximum(keys.high)};
    if (lane == 0) partial[warp] = keys;
    __syncthreads();
    keys = lane < blockDim.x / 32 ? partial[lane] : RangeKeys{0u, 0u};
    return {warp_maximum(keys.low), warp_maximum(keys.high)};
}

// The joint range of the threads of one row (rows.cuh), in each of them. All threads of the block
// must call it, once per kernel.
__device__ inline RangeKeys join_row(const RangeKeys& keys) {
    if (blockDim.x > 32) return join_block(keys);
    return {lanes_maximum(keys.low, blockDim.x), lanes_maximum(keys.high, blockDim.x)};
}

// ---- codes

// How one group's elements become codes.
struct Asymmetric {
    Multiplier by;
    int zero_point, lowest;
};

// The scale that is used and stored, of range/255. A NaN stays.
__device__ inline float least_scale(float scale, const Range& range) {
    constexpr float EPS = INPUT == FP32 ? 0x1p-23f : INPUT == FP16 ? 0x1p-10f : 0x1p-7f;
    if (LEAST_SCALE_RULE == LEAST_2_23) return scale < 0x1p-23f ? 0x1p-23f : scale;
    if (LEAST_SCALE_RULE == EPSILON_FOR_ZERO) return scale == 0.0f ? EPS : scale;
    if (LEAST_SCALE_RULE == ONE_WHERE_EMPTY) return range.low == range.high ? 1.0f : scale;
    return scale;
}

// The zero point of ratio = min / scale. TENSOR: of a whole tensor.
template <bool TENSOR> __device__ int zero_point_of(float ratio, int lowest) {
    // cvt.rni.s32.f32 gives 0 for NaN and saturates.
    const float low = static_cast<float>(lowest);
    int zero_point;
    if (ZERO_POINT_RULE == RATIO_ROUNDED)
        zero_point = lowest - __float2int_rn(ratio);
    else if (TENSOR && ZERO_POINT_RULE == CLAMPED_IN_FP32)
        zero_point = __float2int_rn(__fsub_rn(low, ratio));
    else
        zero_point = __float2int_rn(kept_scale(__fsub_rn(low, ratio)));
    if (ZERO_POINT_RULE != ANY_INT32)
        zero_point = min(max(zero_point, lowest), lowest + STEPS);
    if (AZP_NAN_ZERO_POINT_RULE == NAN_IS_HIGHEST && ratio != ratio) return lowest + STEPS;
    if (AZP_NAN_ZERO_POINT_RULE == NAN_WRAPS && ratio != ratio)
        return lowest < 0 ? lowest + STEPS : lowest;
    // Elsewhere 0: where the rounded ratio is subtracted or clamped, NaN has to be told apart.
    return ZERO_POINT_RULE == RATIO_ROUNDED && ratio != ratio ? 0 : zero_point;
}

template <bool TENSOR> __device__ Asymmetric make_asymmetric(const Range& range, int lowest) {
    const float width = kept_scale(__fsub_rn(range.high, range.low));
    const float found = kept_scale(__fdiv_rn(width, static_cast<float>(STEPS)));
    const float scale = least_scale(found, range);
    const bool zero = ZERO_RULE == CODE0 && scale == 0.0f;
    const float divisor = LEAST_SCALE_RULE == EPSILON_FOR_ZERO ? found : scale;
    const int zero_point =
        zero_point_of<TENSOR>(kept_scale(__fdiv_rn(range.low, divisor)), lowest);

    Asymmetric how = {};
    how.lowest = lowest;
    how.zero_point = zero ? 0 : zero_point;
    how.by.scale = scale != scale ? CANONICAL_NAN : scale;
    if (divides(MULTIPLIER_RULE)) {
        how.by.factor = zero ? INFINITE : scale;  // x / inf is 0, and so is NaN as an integer
        prepare_division(how.by);
    } else {
        how.by.factor = zero ? 0.0f : narrow(__fdiv_rn(1.0f, scale));
    }
    return how;
}

// Under a given scale, finite and > 0, and zero point.
__device__ inline Asymmetric given_asymmetric(float scale, int zero_point, int lowest) {
    return {static_multiplier(scale), zero_point, lowest};
}

// The code of x, FAST as fast_dynamic or fast_given allow. GIVEN: scale and zero point were given,
// so that x may be anything; else |x| <= high - low, and |x / s| <= 255 but for subnormal scales,
// for which the fast division is not used but in fp16 (below 383), and scales of bf16 (below 257).
template <bool FAST, bool GIVEN> __device__ int asymmetric_code(float x, const Asymmetric& how) {
    constexpr bool DIVIDES = divides(GIVEN ? STATIC_MULTIPLIER_RULE : MULTIPLIER_RULE);
    float quotient;
    if (!DIVIDES) {
        quotient = __fmul_rn(x, how.by.factor);
    } else if (!FAST) {
        quotient = __fdiv_rn(x, how.by.factor);
    } else if (GIVEN && fabsf(x) >= __fmul_rn(static_cast<float>(FARTHEST), how.by.factor)) {
        quotient = copysignf(static_cast<float>(FARTHEST), x);
    } else {
        quotient = divide_fast(x, how.by);
    }
    quotient = narrow(quotient);
    int code;
    if (SUM_FIRST) {
        const float shift = __int2float_rn(how.zero_point);
        const float sum = AZP_SUM_RULE == FMA_BEFORE_ROUNDING
                              ? __fmaf_rn(x, how.by.factor, shift)
                              : narrow(__fadd_rn(quotient, shift));
        code = __float2int_rn(sum);
    } else {
        int steps = __float2int_rn(quotient);
        if (AZP_SUM_RULE == EXACT_SUM && !(DIVIDES && FAST))
            steps = min(max(steps, -FARTHEST), FARTHEST);
        code = static_cast<int>(
            static_cast<unsigned>(steps) + static_cast<unsigned>(how.zero_point));
    }
    code = min(max(code, how.lowest), how.lowest + STEPS);
    if (AZP_NAN_CODE_RULE == NAN_TO_ZERO && !SUM_FIRST && quotient != quotient) return 0;
    if (AZP_NAN_CODE_RULE == NAN_TO_LOW && quotient != quotient) return how.lowest;
    if (AZP_NAN_CODE_RULE == NAN_TO_HIGH && quotient != quotient) return how.lowest + STEPS;
    return code;
}
