// Chunks of 8 neighbouring elements of a row: what one lane loads, holds as fp32 and stores.
//
// Contract: WIDTH elements (8, 4 or 1) go at once, in accesses of up to 16 bytes; it divides K and
// the addresses are aligned to that. Elements at K or beyond are 0 when loaded and are not stored.
// A chunk of fp32 has 32 bytes, two accesses: neighbouring lanes share them, the even lane loading
// the lower half of both chunks and the odd one the upper, and then exchange, so that each request
// of a warp moves whole sectors. Hence: all 32 lanes call load_chunk and store_chunk together, with
// neighbouring chunks, an even one in an even lane.
#pragma once

#include "formats.cuh"
#include "reduce.cuh"

constexpr int CHUNK = 8;

// Whether element i of a chunk lies in the row.
template <int WIDTH> __device__ bool inside(int chunk, int i, int K) {
    static_assert(WIDTH == 8 || WIDTH == 4 || WIDTH == 1, "a chunk goes in 1, 2 or 8 parts");
    return chunk * CHUNK + i / WIDTH * WIDTH < K;
}

// Four quarters of a pair of fp32 chunks, two in each lane: the even lane gives its second for the
// odd one's first. As loaded (even: 1, 3; odd: 2, 4) they become as held (1, 2; 3, 4), and back.
__device__ inline void exchange_halves(Pack<16>& first, Pack<16>& second) {
    const bool odd = threadIdx.x % 2;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const unsigned given = odd ? first.word[i] : second.word[i];
        const unsigned got = __shfl_xor_sync(WHOLE_WARP, given, 1);
        first.word[i] = odd ? got : first.word[i];
        second.word[i] = odd ? second.word[i] : got;
    }
}

template <int FORMAT, int WIDTH>
__device__ void load_chunk(
    const typename Storage<FORMAT>::type* row, int chunk, int K, float (&value)[CHUNK]) {
    if constexpr (FORMAT == FP32 && WIDTH == 8) {
        const int pair = chunk / 2 * 2, half = threadIdx.x % 2 * 4;
        Pack<16> first = {}, second = {};
        if (pair * CHUNK < K) first = Pack<16>::load(row + pair * CHUNK + half);
        if ((pair + 1) * CHUNK < K) second = Pack<16>::load(row + (pair + 1) * CHUNK + half);
        exchange_halves(first, second);
#pragma unroll
        for (int i = 0; i < 4; i++) {
            value[i] = element<FP32>(first, i);
            value[i + 4] = element<FP32>(second, i);
        }
    } else {
        constexpr int BYTES = WIDTH * sizeof(*row);
#pragma unroll
        for (int part = 0; part < CHUNK; part += WIDTH) {
            Pack<BYTES> some = {};
            if (inside<WIDTH>(chunk, part, K))
                some = Pack<BYTES>::load(row + chunk * CHUNK + part);
#pragma unroll
            for (int i = 0; i < WIDTH; i++) value[part + i] = element<FORMAT>(some, i);
        }
    }
}

// The WIDTH values from `part` on.
template <int WIDTH, typename T>
__device__ void part_of(const T (&value)[CHUNK], int part, T (&some)[WIDTH]) {
#pragma unroll
    for (int i = 0; i < WIDTH; i++) some[i] = value[part + i];
}

// Stores values that FORMAT holds exactly.
template <int FORMAT, int WIDTH>
__device__ void store_chunk(
    typename Storage<FORMAT>::type* row, int chunk, int K, const float (&value)[CHUNK]) {
    if constexpr (FORMAT == FP32 && WIDTH == 8) {
        const int pair = chunk / 2 * 2, half = threadIdx.x % 2 * 4;
        float low[4], high[4];
        part_of<4>(value, 0, low);
        part_of<4>(value, 4, high);
        Pack<16> first = pack_floats<FP32>(low), second = pack_floats<FP32>(high);
        exchange_halves(first, second);
        if (pair * CHUNK < K) first.store(row + pair * CHUNK + half);
        if ((pair + 1) * CHUNK < K) second.store(row + (pair + 1) * CHUNK + half);
    } else {
#pragma unroll
        for (int part = 0; part < CHUNK; part += WIDTH) {
            float some[WIDTH];
            part_of<WIDTH>(value, part, some);
            if (inside<WIDTH>(chunk, part, K))
                pack_floats<FORMAT>(some).store(row + chunk * CHUNK + part);
        }
    }
}

// One byte per code.
template <int WIDTH>
__device__ void store_codes(signed char* row, int chunk, int K, const int (&code)[CHUNK]) {
#pragma unroll
    for (int part = 0; part < CHUNK; part += WIDTH) {
        int some[WIDTH];
        part_of<WIDTH>(code, part, some);
        if (inside<WIDTH>(chunk, part, K)) pack_codes(some).store(row + chunk * CHUNK + part);
    }
}
