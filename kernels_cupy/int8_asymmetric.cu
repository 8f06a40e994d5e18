// INT8 asymmetric quantization: per row (token, channel or group along K), per tensor, static. The
// contract is that of reference/int8_asymmetric.py, in the dialect that the defines name.
//
// Defines: INPUT (format of x), the dialect's <FIELD>_RULEs, VECTOR: elements that a thread loads
// at once, 16 bytes of x where base address and row length allow, else the largest power of two
// that does. Lane i touches the i-th vector, so that a warp's requests are whole sectors.
//
// Rows and geometry: rows.cuh; a group along K is a row of its own. Up to KEPT vectors per lane stay
// in registers between range and codes.

#include "asymmetric.cuh"
#include "rows.cuh"

constexpr int INPUT_BYTES = VECTOR * sizeof(Input);
constexpr int KEPT = 4;  // vectors of a row that a thread keeps in registers between both passes

using Elements = Pack<INPUT_BYTES>;
using Code = unsigned char;  // u8, or the bits of s8

__device__ inline void widen(Range& range, const Elements& elements) {
#pragma unroll
    for (int i = 0; i < VECTOR; i++) widen(range, element<INPUT>(elements, i));
}

template <bool FAST, bool GIVEN>
__device__ void quantize_vector(const Elements& elements, const Asymmetric& how, Code* codes) {
    int code[VECTOR];
#pragma unroll
    for (int i = 0; i < VECTOR; i++)
        code[i] = asymmetric_code<FAST, GIVEN>(element<INPUT>(elements, i), how);
    pack_codes(code).store(codes);
}

// Vectors first, first + blockDim.x, ... of one row, from memory.
template <bool FAST, bool GIVEN>
__device__ void quantize_from(
    int first, const Input* x, Code* codes, int vectors, const Asymmetric& how) {
    for (int v = first; v < vectors; v += blockDim.x)
        quantize_vector<FAST, GIVEN>(Elements::load(x + v * VECTOR), how, codes + v * VECTOR);
}

// One row from memory, in the form that its scale allows.
template <bool GIVEN>
__device__ void quantize_row(const Input* x, Code* codes, int vectors, const Asymmetric& how) {
    if (GIVEN ? fast_given(how.by) : fast_dynamic(how.by))
        quantize_from<true, GIVEN>(threadIdx.x, x, codes, vectors, how);
    else
        quantize_from<false, GIVEN>(threadIdx.x, x, codes, vectors, how);
}

// One dynamic scale and zero point per row; one read of x from memory where a row has at most
// KEPT * blockDim.x vectors (what lies beyond is read again, from L2).
extern "C" __global__ void __launch_bounds__(1024) asymmetric_rows(
    const Input* __restrict__ x,    // INPUT (rows, length)
    Code* __restrict__ codes,       // u8 or s8 (rows, length)
    float* __restrict__ scales,     // fp32 (rows,)
    int* __restrict__ zero_points,  // s32 (rows,)
    unsigned rows, int length, int lowest) {
    const unsigned row = row_of_thread();
    const int vectors = row < rows ? length / VECTOR : 0;
    x += row_start(row, length);
    codes += row_start(row, length);

    Elements kept[KEPT];
    Range range = no_range();
#pragma unroll
    for (int i = 0; i < KEPT; i++) {
        const int v = threadIdx.x + i * blockDim.x;
        kept[i] = v < vectors ? Elements::load(x + v * VECTOR) : Elements{};
    }
#pragma unroll
    for (int i = 0; i < KEPT; i++)
        if (threadIdx.x + i * blockDim.x < vectors) widen(range, kept[i]);
    for (int v = threadIdx.x + KEPT * blockDim.x; v < vectors; v += blockDim.x)
        widen(range, Elements::load(x + v * VECTOR));

    const Asymmetric how = make_asymmetric<false>(range_of(join_row(range_keys(range))), lowest);
    if (fast_dynamic(how.by)) {
#pragma unroll
        for (int i = 0; i < KEPT; i++) {
            const int v = threadIdx.x + i * blockDim.x;
            if (v < vectors) quantize_vector<true, false>(kept[i], how, codes + v * VECTOR);
        }
        quantize_from<true, false>(threadIdx.x + KEPT * blockDim.x, x, codes, vectors, how);
    } else {  // rare: zero, subnormal, infinite or NaN rows
        quantize_from<false, false>(threadIdx.x, x, codes, vectors, how);
    }
    if (threadIdx.x == 0 && row < rows) {
        scales[row] = how.by.scale;
        zero_points[row] = how.zero_point;
    }
}

// Per-tensor, first launch: widens the range by x. Its keys must start as 0.
extern "C" __global__ void __launch_bounds__(1024) asymmetric_range(
    const Input* __restrict__ x,  // INPUT (vectors * VECTOR,)
    unsigned* __restrict__ keys,  // u32 (2,): low, high of RangeKeys
    long long vectors) {
    const long long step = static_cast<long long>(gridDim.x) * blockDim.x;
    Range range = no_range();
#pragma unroll 1
    for (long long v = static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x; v < vectors;
         v += KEPT * step) {
        Elements some[KEPT];  // all loads before their use
#pragma unroll
        for (int i = 0; i < KEPT; i++)
            some[i] = v + i * step < vectors ? Elements::load(x + (v + i * step) * VECTOR)
                                             : Elements{};
#pragma unroll
        for (int i = 0; i < KEPT; i++)
            if (v + i * step < vectors) widen(range, some[i]);
    }
    const RangeKeys joint = join_block(range_keys(range));
    if (threadIdx.x == 0) {
        atomicMax(keys, joint.low);
        atomicMax(keys + 1, joint.high);
    }
}

// Per-tensor, second launch: every thread derives the same scale and zero point.
extern "C" __global__ void __launch_bounds__(1024) asymmetric_tensor(
    const Input* __restrict__ x,        // INPUT (rows, length)
    const unsigned* __restrict__ keys,  // u32 (2,): of the whole of x
    Code* __restrict__ codes,           // u8 or s8 (rows, length)
    float* __restrict__ scale,          // fp32 (1,)
    int* __restrict__ zero_point,       // s32 (1,)
    unsigned rows, int length, int lowest) {
    const unsigned row = row_of_thread();
    const int vectors = row < rows ? length / VECTOR : 0;
    const auto joint = for_row(keys, keys + 1);
    const Asymmetric how = make_asymmetric<true>(range_of({joint.first, joint.second}), lowest);
    const size_t start = row_start(row, length);
    quantize_row<false>(x + start, codes + start, vectors, how);
    if (row == 0 && threadIdx.x == 0) {
        scale[0] = how.by.scale;
        zero_point[0] = how.zero_point;
    }
}

// Static: scales, finite and > 0, and zero points are given, for `given` rows, over and over.
extern "C" __global__ void __launch_bounds__(1024) asymmetric_static(
    const Input* __restrict__ x,          // INPUT (rows, length)
    const float* __restrict__ scales,     // fp32 (given,)
    const int* __restrict__ zero_points,  // s32 (given,)
    Code* __restrict__ codes,             // u8 or s8 (rows, length)
    unsigned rows, int length, int lowest, unsigned given) {
    const unsigned row = row_of_thread(), at = row % given;
    const int vectors = row < rows ? length / VECTOR : 0;
    const auto both = for_row(scales + at, zero_points + at);
    const Asymmetric how = given_asymmetric(both.first, both.second, lowest);
    const size_t start = row_start(row, length);
    quantize_row<true>(x + start, codes + start, vectors, how);
}
