// What the shared-memory GEMMs have in common: tiles of 64-byte rows, how they are laid out, how
// 16 codes come from memory, and where the results go.
//
// Defines: COPY, the bytes that one load of codes moves: 16, 4 or 1, whichever the base addresses
// and K allow. OUTPUT: the Format of out, or INT32 for plain accumulators. With EPILOGUE_RULE set,
// results are dequantized.
#pragma once

#include "dialect.cuh"

constexpr int INT32 = 3;
constexpr int DEPTH = 64;  // codes per tile row: four 16-byte chunks

template <int FORMAT> struct Result { using type = typename Storage<FORMAT>::type; };
template <> struct Result<INT32> { using type = int; };
using Output = Result<OUTPUT>::type;

// Byte offset of a chunk in a tile. Two rows share 128 bytes, that is, all 32 banks; xor with the
// row pair's number lets any 8 consecutive rows be read at one chunk without a bank conflict, and
// any 8 consecutive chunks be written without one.
__device__ inline int tile_offset(int row, int chunk) {
    return row * DEPTH + ((chunk ^ (row / 2 % 4)) * 16);
}

// 16 codes (k .. k+15) of one row; zeros beyond K and for rows that are not there.
__device__ inline Pack<16> load_chunk(const signed char* row, bool there, int k, int K) {
    Pack<16> chunk = {};
    if (!there) return chunk;
    if constexpr (COPY == 16) {
        if (k < K) chunk = Pack<16>::load(row + k);
    } else if constexpr (COPY == 4) {
#pragma unroll
        for (int i = 0; i < 4; i++)
            if (k + 4 * i < K) chunk.word[i] = Pack<4>::load(row + k + 4 * i).word[0];
    } else {
#pragma unroll
        for (int i = 0; i < 16; i++)
            if (k + i < K) chunk.word[i / 4] |= Pack<1>::load(row + k + i).word[0] << (i % 4 * 8);
    }
    return chunk;
}

// The rows of a code matrix that one block works on.
struct CodeRows {
    const signed char* codes;  // s8 (rows, K), from the block's first row on
    int rows, K;

    __device__ Pack<16> chunk(int row, int k) const {
        return load_chunk(codes + static_cast<size_t>(row) * K, row < rows, k, K);
    }
};

// What the epilogue needs of one column.
struct Column {
    float scale, bias;
};

// Where results go, and what turns accumulators into them.
struct Results {
    Output* __restrict__ out;            // OUTPUT (M, N)
    const float* __restrict__ a_scales;  // fp32 (M,), where EPILOGUE_RULE is set
    const float* __restrict__ b_scales;  // fp32 (N,), likewise
    const float* __restrict__ bias;      // fp32 (N,) or null, likewise
    int M, N;

    __device__ float a_scale(int row) const {
#ifdef EPILOGUE_RULE
        return a_scales[row];
#else
        return 0.0f;
#endif
    }

    __device__ Column column(int n) const {
#ifdef EPILOGUE_RULE
        if (n < N) return {b_scales[n], bias ? bias[n] : NO_BIAS};
#endif
        return {};
    }

    // The result's bits as they are stored.
    __device__ unsigned finish(int acc, float a_scale, const Column& column) const {
#ifdef EPILOGUE_RULE
        const float value[1] = {dequantize_accumulator(acc, a_scale, column.scale, column.bias)};
        return pack_floats<OUTPUT>(value).word[0];
#else
        return acc;
#endif
    }

    // One result of row `row` (< M); nothing where n >= N.
    __device__ void put(int row, int n, int acc, float a_scale, const Column& column) const {
        const Pack<sizeof(Output)> one = {finish(acc, a_scale, column)};
        if (n < N) one.store(out + static_cast<size_t>(row) * N + n);
    }

    // Two neighbours from an even column on; one store where N is even.
    __device__ void put_pair(
        int row, int n, const int* acc, float a_scale, const Column (&columns)[2]) const {
        const unsigned first = finish(acc[0], a_scale, columns[0]);
        const unsigned second = finish(acc[1], a_scale, columns[1]);
        Output* to = out + static_cast<size_t>(row) * N + n;
        if (N % 2 == 0) {
            Pack<2 * sizeof(Output)> both = {first};
            both.word[Pack<2 * sizeof(Output)>::WORDS - 1] |=
                sizeof(Output) == 4 ? second : second << 16;
            if (n < N) both.store(to);
        } else {
            if (n < N) Pack<sizeof(Output)>{first}.store(to);
            if (n + 1 < N) Pack<sizeof(Output)>{second}.store(to + 1);
        }
    }
};
