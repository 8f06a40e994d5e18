// Chunks of 8 neighbouring elements of a row: what one lane loads, holds as fp32 and stores.
//
// Contract: WIDTH elements (8, 4 or 1) go at once, in accesses of up to 16 bytes; WIDTH divides K
// and the addresses are aligned to it. Elements at K or beyond are 0 when loaded and not stored.
//
// Eight fp32 have 32 bytes, two accesses. So that each request of a warp still moves whole sectors,
// two neighbouring lanes share their two chunks: as PARTS, the even lane holds the first half of
// both and the odd lane the second; own_chunk exchanges them, so that each lane holds its chunk in
// order. Hence, for fp32 and WIDTH 8: all 32 lanes load, exchange and store together, with
// neighbouring chunks, an even one in an even lane. Elsewhere the parts are the chunk.
#pragma once

#include "formats.cuh"
#include "reduce.cuh"

constexpr int CHUNK = 8;

template <int FORMAT, int WIDTH> constexpr bool PAIRED = FORMAT == FP32 && WIDTH == 8;

// Whether element i of a chunk lies in the row.
template <int WIDTH> __device__ bool inside(int chunk, int i, int K) {
    static_assert(WIDTH == 8 || WIDTH == 4 || WIDTH == 1, "a chunk goes in 1, 2 or 8 parts");
    return chunk * CHUNK + i / WIDTH * WIDTH < K;
}

// Where, in elements, a pair's first or second four parts lie.
__device__ inline int paired_part(int chunk, int second) {
    return (chunk / 2 * 2 + second) * CHUNK + threadIdx.x % 2 * 4;
}

template <int FORMAT, int WIDTH>
__device__ void load_parts(
    const typename Storage<FORMAT>::type* row, int chunk, int K, float (&value)[CHUNK]) {
    constexpr int STEP = PAIRED<FORMAT, WIDTH> ? 4 : WIDTH;
#pragma unroll
    for (int part = 0; part < CHUNK; part += STEP) {
        const int paired = paired_part(chunk, part / 4), own = chunk * CHUNK + part;
        const int at = PAIRED<FORMAT, WIDTH> ? paired : own;
        Pack<STEP * sizeof(*row)> some = {};
        if (at < K) some = Pack<STEP * sizeof(*row)>::load(row + at);
#pragma unroll
        for (int i = 0; i < STEP; i++) value[part + i] = element<FORMAT>(some, i);
    }
}

// Parts become the lane's chunk: the even lane gives its second four for the odd one's first.
template <int FORMAT, int WIDTH> __device__ void own_chunk(float (&value)[CHUNK]) {
    if constexpr (PAIRED<FORMAT, WIDTH>) {
        const bool odd = threadIdx.x % 2;
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const float got = __shfl_xor_sync(WHOLE_WARP, odd ? value[i] : value[i + 4], 1);
            value[i] = odd ? got : value[i];
            value[i + 4] = odd ? value[i + 4] : got;
        }
    }
}

template <int FORMAT, int WIDTH>
__device__ void load_chunk(
    const typename Storage<FORMAT>::type* row, int chunk, int K, float (&value)[CHUNK]) {
    load_parts<FORMAT, WIDTH>(row, chunk, K, value);
    own_chunk<FORMAT, WIDTH>(value);
}

// The COUNT values from `part` on.
template <int COUNT, typename T>
__device__ void part_of(const T (&value)[CHUNK], int part, T (&some)[COUNT]) {
#pragma unroll
    for (int i = 0; i < COUNT; i++) some[i] = value[part + i];
}

// Stores parts, values that FORMAT holds exactly.
template <int FORMAT, int WIDTH>
__device__ void store_parts(
    typename Storage<FORMAT>::type* row, int chunk, int K, const float (&value)[CHUNK]) {
    constexpr int STEP = PAIRED<FORMAT, WIDTH> ? 4 : WIDTH;
#pragma unroll
    for (int part = 0; part < CHUNK; part += STEP) {
        const int paired = paired_part(chunk, part / 4), own = chunk * CHUNK + part;
        const int at = PAIRED<FORMAT, WIDTH> ? paired : own;
        float some[STEP];
        part_of<STEP>(value, part, some);
        if (at < K) pack_floats<FORMAT>(some).store(row + at);
    }
}

// One byte per code, WIDTH at once.
template <int WIDTH>
__device__ void store_codes(signed char* row, int chunk, int K, const int (&code)[CHUNK]) {
#pragma unroll
    for (int part = 0; part < CHUNK; part += WIDTH) {
        int some[WIDTH];
        part_of<WIDTH>(code, part, some);
        if (inside<WIDTH>(chunk, part, K)) pack_codes(some).store(row + chunk * CHUNK + part);
    }
}
