// INT8 symmetric quantization in groups along K: dynamic, static; and dequantization. The contract
// is that of reference/int8_group.py, in the dialect that the defines name. Groups are contiguous,
// so that M rows of Q groups are M * Q groups one after the other.
//
// Defines: VECTOR (elements per access: 16 bytes of x, or of out, where addresses and G allow, else
// the largest power of two that does), and INPUT (format of x) with the dialect's <FIELD>_RULEs for
// the quantizing kernels, or OUTPUT (format of out) for the dequantizing one.
//
// Geometry: blockDim = (lanes of a group, groups side by side); the lanes of a group are a power of
// two up to 32, in blocks of whole warps, or whole warps of a block of their own. Lane i touches
// the i-th vector, the groups of a warp lie side by side: requests move whole sectors.

#include "dialect.cuh"
#include "reduce.cuh"

// The group of this thread in its slot of SLOTS; a block's groups of one slot are neighbours.
template <int SLOTS> __device__ int group_of_thread(int slot) {
    return (blockIdx.x * SLOTS + slot) * blockDim.y + threadIdx.y;
}

// Where a group's elements start.
__device__ inline size_t start_of(int group, int G) { return static_cast<size_t>(group) * G; }

// The scale of a group in all of its lanes, read once by each warp. scales: fp32 (S, Q), S = 1 or
// M. All lanes must call it; 1 for a group beyond the last.
__device__ inline float scale_of_group(
    const float* scales, int group, int groups, int Q, int S) {
    float scale = 1.0f;
    if (threadIdx.x % 32 == 0 && group < groups) scale = scales[S == 1 ? group % Q : group];
    return __shfl_sync(WHOLE_WARP, scale, 0, min(blockDim.x, 32));
}

#ifdef INPUT

constexpr int KEPT = 4;  // vectors that a lane keeps in registers between both passes

using Elements = Pack<VECTOR * sizeof(Input)>;

__device__ inline unsigned absolute_maximum(unsigned amax, const Elements& elements) {
#pragma unroll
    for (int i = 0; i < VECTOR; i++) amax = absolute_maximum(amax, element<INPUT>(elements, i));
    return amax;
}

template <bool FAST, bool GIVEN> __device__ int code_of(float x, const Multiplier& m) {
    return GIVEN ? quantize_given<FAST>(x, m) : quantize_dynamic<FAST>(x, m);
}

template <bool GIVEN>
__device__ void quantize_vector(const Elements& elements, const Multiplier& m, signed char* codes) {
    int code[VECTOR];
#pragma unroll
    for (int i = 0; i < VECTOR; i++)
        code[i] = code_of<true, GIVEN>(element<INPUT>(elements, i), m);
    pack_codes(code).store(codes);
}

// The largest value of each group's lanes, in all of them. All threads of the block must call it.
template <int SLOTS> __device__ void group_maxima(unsigned (&value)[SLOTS]) {
    if (SLOTS == 1 && blockDim.x > 32) {
        value[0] = block_maximum(value[0]);
        return;
    }
#pragma unroll 1
    for (unsigned apart = blockDim.x / 2; apart > 0; apart /= 2) {
#pragma unroll
        for (int s = 0; s < SLOTS; s++)
            value[s] = max(value[s], __shfl_xor_sync(WHOLE_WARP, value[s], apart));
    }
}

// One group from memory, by true division.
template <bool GIVEN>
__device__ void quantize_slowly(const Input* x, signed char* codes, const Multiplier& m, int G) {
#pragma unroll 1
    for (int k = threadIdx.x; k < G; k += blockDim.x) {
        const auto one = Pack<sizeof(Input)>::load(x + k);
        codes[k] = code_of<false, GIVEN>(element<INPUT>(one, 0), m);
    }
}

// Codes of one group by the fast form: its first VECTORS vectors per lane from registers.
template <int VECTORS, bool GIVEN>
__device__ void quantize_fast(
    const Elements (&kept)[VECTORS], const Input* x, signed char* codes, const Multiplier& m,
    int G) {
    const int vectors = G / VECTOR;
#pragma unroll
    for (int i = 0; i < VECTORS; i++) {
        const int v = threadIdx.x + i * blockDim.x;
        if (v < vectors) quantize_vector<GIVEN>(kept[i], m, codes + v * VECTOR);
    }
    if (VECTORS == KEPT)
        for (int v = threadIdx.x + KEPT * blockDim.x; v < vectors; v += blockDim.x)
            quantize_vector<GIVEN>(Elements::load(x + v * VECTOR), m, codes + v * VECTOR);
}

// From the bits of a group's amax, or of its given scale.
template <bool GIVEN> __device__ Multiplier multiplier_from(unsigned bits) {
    return GIVEN ? static_multiplier(__uint_as_float(bits)) : make_multiplier(bits);
}

// The first VECTORS vectors per lane of each of a thread's groups; zeros beyond the last.
template <int SLOTS, int VECTORS>
__device__ void load_groups(Elements (&kept)[SLOTS][VECTORS], const Input* x, int groups, int G) {
#pragma unroll
    for (int s = 0; s < SLOTS; s++) {
        const int group = group_of_thread<SLOTS>(s);
        const Input* from = x + start_of(group, G);
#pragma unroll
        for (int i = 0; i < VECTORS; i++) {
            const int v = threadIdx.x + i * blockDim.x;
            const bool inside = group < groups && v < G / VECTOR;
            kept[s][i] = inside ? Elements::load(from + v * VECTOR) : Elements{};
        }
    }
}

// Bits of the amax of each group, in all of its lanes.
template <int SLOTS, int VECTORS>
__device__ void amax_of_groups(
    unsigned (&amax)[SLOTS], const Elements (&kept)[SLOTS][VECTORS], const Input* x, int G) {
#pragma unroll
    for (int s = 0; s < SLOTS; s++) {
        amax[s] = 0;
#pragma unroll
        for (int i = 0; i < VECTORS; i++) amax[s] = absolute_maximum(amax[s], kept[s][i]);
        if (VECTORS == KEPT) {
            const Input* from = x + start_of(group_of_thread<SLOTS>(s), G);
            for (int v = threadIdx.x + KEPT * blockDim.x; v < G / VECTOR; v += blockDim.x)
                amax[s] = absolute_maximum(amax[s], Elements::load(from + v * VECTOR));
        }
    }
    group_maxima(amax);
}

// SLOTS groups per thread, KEPT / SLOTS vectors of each in registers; what of a group lies beyond
// them (only where a group has 1024 threads for itself) is read again, from L2.
template <int SLOTS, bool GIVEN>
__device__ void quantize_groups(
    const Input* x, const float* given, signed char* codes, float* scales, int groups, int G,
    int Q, int S) {
    Elements kept[SLOTS][KEPT / SLOTS];
    unsigned told[SLOTS];  // bits of each group's amax, or of its given scale
    load_groups(kept, x, groups, G);
    if (GIVEN) {
#pragma unroll
        for (int s = 0; s < SLOTS; s++)
            told[s] = __float_as_uint(
                scale_of_group(given, group_of_thread<SLOTS>(s), groups, Q, S));
    } else {
        amax_of_groups(told, kept, x, G);
    }
    unsigned rare = 0;  // slots of zero, subnormal, infinite or NaN groups
#pragma unroll
    for (int s = 0; s < SLOTS; s++) {
        const int group = group_of_thread<SLOTS>(s);
        if (group >= groups) break;
        const Multiplier m = multiplier_from<GIVEN>(told[s]);
        if (!GIVEN && threadIdx.x == 0) scales[group] = m.scale;
        const size_t start = start_of(group, G);
        if (GIVEN ? fast_given(m) : fast_dynamic(m))
            quantize_fast<KEPT / SLOTS, GIVEN>(kept[s], x + start, codes + start, m, G);
        else
            rare |= 1u << s;
    }
#pragma unroll 1
    for (int s = 0; rare >> s; s++) {
        if (!(rare >> s & 1)) continue;
        unsigned bits = told[0];
#pragma unroll
        for (int i = 1; i < SLOTS; i++) bits = i == s ? told[i] : bits;
        const size_t start = start_of(group_of_thread<SLOTS>(s), G);
        quantize_slowly<GIVEN>(x + start, codes + start, multiplier_from<GIVEN>(bits), G);
    }
}

// Dynamic, short groups: up to 8 vectors, one of each of 4 groups per lane.
extern "C" __global__ void __launch_bounds__(128, 8) quantize_short_groups(
    const Input* __restrict__ x,      // INPUT (groups * G,)
    signed char* __restrict__ codes,  // s8 (groups * G,)
    float* __restrict__ scales,       // fp32 (groups,)
    int groups, int G) {
    quantize_groups<KEPT, false>(x, nullptr, codes, scales, groups, G, 0, 0);
}

// Dynamic, longer groups: 4 vectors of one group per lane.
extern "C" __global__ void LARGE_BLOCK quantize_long_groups(
    const Input* __restrict__ x,      // INPUT (groups * G,)
    signed char* __restrict__ codes,  // s8 (groups * G,)
    float* __restrict__ scales,       // fp32 (groups,)
    int groups, int G) {
    quantize_groups<1, false>(x, nullptr, codes, scales, groups, G, 0, 0);
}

// Static, short groups.
extern "C" __global__ void __launch_bounds__(128, 8) static_short_groups(
    const Input* __restrict__ x,       // INPUT (groups * G,)
    const float* __restrict__ scales,  // fp32 (S, Q), S = 1 or groups / Q
    signed char* __restrict__ codes,   // s8 (groups * G,)
    int groups, int G, int Q, int S) {
    quantize_groups<KEPT, true>(x, scales, codes, nullptr, groups, G, Q, S);
}

// Static, longer groups.
extern "C" __global__ void __launch_bounds__(1024) static_long_groups(
    const Input* __restrict__ x,       // INPUT (groups * G,)
    const float* __restrict__ scales,  // fp32 (S, Q), S = 1 or groups / Q
    signed char* __restrict__ codes,   // s8 (groups * G,)
    int groups, int G, int Q, int S) {
    quantize_groups<1, true>(x, scales, codes, nullptr, groups, G, Q, S);
}

#endif  // INPUT

#ifdef OUTPUT

// out = float32(code) * scale of its group, rounded to OUTPUT; no dialect changes it.
extern "C" __global__ void __launch_bounds__(1024) dequantize_groups(
    const signed char* __restrict__ codes,    // s8 (groups * G,)
    const float* __restrict__ scales,         // fp32 (S, Q), S = 1 or groups / Q
    Storage<OUTPUT>::type* __restrict__ out,  // OUTPUT (groups * G,)
    int groups, int G, int Q, int S) {
    const int group = group_of_thread<1>(0);
    const float scale = scale_of_group(scales, group, groups, Q, S);
    if (group >= groups) return;
    codes += start_of(group, G);
    out += start_of(group, G);
    for (int v = threadIdx.x; v < G / VECTOR; v += blockDim.x) {
        const Pack<VECTOR> packed = Pack<VECTOR>::load(codes + v * VECTOR);
        float value[VECTOR];
#pragma unroll
        for (int i = 0; i < VECTOR; i++)
            value[i] = __fmul_rn(__int2float_rn(code_at(packed, i)), scale);
        pack_floats<OUTPUT>(value).store(out + v * VECTOR);
    }
}

#endif  // OUTPUT
