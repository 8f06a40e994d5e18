// What the tiled GEMMs have in common: tiles of 64-byte rows and how they are laid out, how 16 codes
// come from memory, and which tile a block works on.
//
// Defines: COPY, the bytes that one load of codes moves: 16, 4 or 1, whichever the base addresses
// and K allow.
#pragma once

#include "formats.cuh"

constexpr int DEPTH = 64;    // codes per tile row: four 16-byte chunks
constexpr int GROUPED = 16;  // row tiles that share their columns of b; see place()

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
    const signed char* codes;  // s8 or u8 (rows, K), from the block's first row on
    int rows, K;

    __device__ Pack<16> chunk(int row, int k) const {
        return load_chunk(codes + static_cast<size_t>(row) * K, row < rows, k, K);
    }
};

// Where a block works: the first row and column of its tile, in which product of a batch.
struct Place {
    int batch, m, n;
};

// The tile of a block, tiles being ROWS x COLUMNS and blocks numbered along x only. Blocks that run
// at the same time should share what they read: GROUPED row tiles go together through all columns,
// row first, so that 2 blocks on each of 132 SMs read 16 tiles of a and 17 of b.
//
//     row tiles 0 .. 15    | 0 16 32 ...      the next GROUPED row tiles, or
//                          | 1 17 33          as many as are left, follow
//                          | 2 18 34
template <int ROWS, int COLUMNS> __device__ Place place(int block, int M, int N) {
    const int down = (M + ROWS - 1) / ROWS, across = (N + COLUMNS - 1) / COLUMNS;
    const int batch = block / (down * across), tile = block % (down * across);
    const int first = tile / (GROUPED * across) * GROUPED, rest = tile % (GROUPED * across);
    const int height = min(GROUPED, down - first);
    return {batch, (first + rest % height) * ROWS, rest / height * COLUMNS};
}

// The factors of one product, or of a batch of them.
struct Operands {
    const signed char* __restrict__ a;  // s8 (or u8: see A_UNSIGNED) (M, K)
    const signed char* __restrict__ b;  // s8 (N, K)
    int M, N, K;

    // The rows of a, or of b, from a place's first on.
    __device__ CodeRows a_rows(const Place& at) const {
        const size_t row = static_cast<size_t>(at.batch) * M + at.m;
        return {a + row * K, M - at.m, K};
    }
    __device__ CodeRows b_rows(const Place& at) const {
        const size_t row = static_cast<size_t>(at.batch) * N + at.n;
        return {b + row * K, N - at.n, K};
    }
};
