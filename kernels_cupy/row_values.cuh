// Rows of values that are computed from memory, to INT8: the part that activations and smoothing
// share. Values are z in the contracts of reference/; their quantization is that of
// reference/int8_quantize.py for fp32 rows, in the dialect that the defines name.
//
// Defines: INPUT (format of x), VECTOR (elements that a thread loads at once), INTERMEDIATE_RULE and
// the dialect's other <FIELD>_RULEs.
//
// A template argument `Values` gives the values of one row:
//     struct Raw                                           what memory holds of a vector
//     Raw load(int v, bool inside) const                   vector v; without `inside`, anything
//     void compute(const Raw&, float (&z)[VECTOR]) const   its z
// All lanes of a warp call `load` together, lane i for the vector i after the first lane's.
//
// Geometry: blockDim = (threads of a row, rows of a block); a multiple of 32 threads per row, and
// one row per block where a row takes more than 32. A thread keeps the z of its first KEPT vectors
// in registers, so that x is read, and z computed, once where a row has at most KEPT * blockDim.x
// vectors; what lies beyond is read and computed again, from L2. Kernels have launch bounds
// (1024, 1): without the 1, ptxas spills to get by with 32 registers, for two blocks of 1,024.
#pragma once

#include "dialect.cuh"
#include "reduce.cuh"

constexpr int KEPT = 2;
constexpr int INPUT_BYTES = VECTOR * sizeof(Input);

using Elements = Pack<INPUT_BYTES>;

enum Intermediate {
    STEPS_IN_FP32 = 0,   // "fp32"
    STEPS_IN_INPUT = 1,  // "input"
};

// One step's result as the dialect keeps it.
__device__ inline float step(float value) {
    if (INTERMEDIATE_RULE == STEPS_IN_FP32 || INPUT == FP32) return value;
    if (INPUT == FP16) return fp16_to_float(float_to_fp16(value));
    return __uint_as_float(float_to_bf16(value) << 16);
}

__device__ inline unsigned absolute_maximum(unsigned amax, const float (&z)[VECTOR]) {
#pragma unroll
    for (int i = 0; i < VECTOR; i++) amax = absolute_maximum(amax, z[i]);
    return amax;
}

template <bool FAST, bool GIVEN>
__device__ void encode(const float (&z)[VECTOR], const Multiplier& m, signed char* codes) {
    int code[VECTOR];
#pragma unroll
    for (int i = 0; i < VECTOR; i++)
        code[i] = GIVEN ? quantize_given<FAST>(z[i], m) : quantize_dynamic<FAST>(z[i], m);
    pack_codes(code).store(codes);
}

// numbers[at], the same for all lanes of a warp: one of them loads it. All lanes must call it.
__device__ inline float for_warp(const float* numbers, int at) {
    const float mine = threadIdx.x % 32 == 0 ? numbers[at] : 0.0f;
    return __shfl_sync(WHOLE_WARP, mine, 0);
}

// Whether the warp of the thread that has vector v has any of the row.
__device__ inline bool warp_inside(int v, int vectors) { return v - threadIdx.x % 32 < vectors; }

// Vectors first, first + blockDim.x, ... of the row, from memory.
template <bool GIVEN, class Values>
__device__ void quantize_from(
    int first, const Values& values, int vectors, const Multiplier& m, signed char* codes) {
    const bool fast = GIVEN ? fast_given(m) : fast_dynamic(m);
#pragma unroll 1
    for (int v = first; warp_inside(v, vectors); v += blockDim.x) {
        const typename Values::Raw raw = values.load(v, v < vectors);
        if (v >= vectors) break;
        float z[VECTOR];
        values.compute(raw, z);
        if (fast)
            encode<true, GIVEN>(z, m, codes + v * VECTOR);
        else
            encode<false, GIVEN>(z, m, codes + v * VECTOR);
    }
}

// One row under its own scale. All threads of the block must call it, once.
template <class Values>
__device__ void quantize_row(
    const Values& values, int vectors, signed char* codes, float* scale) {
    typename Values::Raw raw[KEPT];
    float kept[KEPT][VECTOR];
    unsigned amax = 0;
#pragma unroll
    for (int i = 0; i < KEPT; i++) {
        const int v = threadIdx.x + i * blockDim.x;
        raw[i] = values.load(v, v < vectors);
    }
#pragma unroll
    for (int i = 0; i < KEPT; i++) {
        if (static_cast<int>(threadIdx.x + i * blockDim.x) >= vectors) continue;
        values.compute(raw[i], kept[i]);
        amax = absolute_maximum(amax, kept[i]);
    }
    int first = threadIdx.x + KEPT * blockDim.x;
#pragma unroll 1
    for (int v = first; warp_inside(v, vectors); v += blockDim.x) {
        const typename Values::Raw beyond = values.load(v, v < vectors);
        if (v >= vectors) break;
        float z[VECTOR];
        values.compute(beyond, z);
        amax = absolute_maximum(amax, z);
    }

    amax = blockDim.x == 32 ? warp_maximum(amax) : block_maximum(amax);
    const Multiplier m = make_multiplier(amax);
    if (fast_dynamic(m)) {
#pragma unroll
        for (int i = 0; i < KEPT; i++) {
            const int v = threadIdx.x + i * blockDim.x;
            if (v < vectors) encode<true, false>(kept[i], m, codes + v * VECTOR);
        }
    } else {  // rare: zero, subnormal, infinite or NaN rows
        first = threadIdx.x;
    }
    quantize_from<false>(first, values, vectors, m, codes);
    if (threadIdx.x == 0) *scale = m.scale;
}
