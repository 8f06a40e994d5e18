// A 64 x 64 tile of a @ b.T by dp4a: both operands pass through shared memory, so that each code is
// read from memory once per tile instead of once per result. 256 threads, 4 x 4 results each.
//
// Defines: A_UNSIGNED, where a's codes are u8.
#pragma once

#include "tile_results.cuh"

constexpr int TILE = 64;
constexpr int TILE_THREADS = 256;

// sum + the dot product of four codes of a and four of b.
__device__ inline int dot4(unsigned a, unsigned b, int sum) {
#ifdef A_UNSIGNED
    asm("dp4a.u32.s32 %0, %1, %2, %0;" : "+r"(sum) : "r"(a), "r"(b));
    return sum;
#else
    return __dp4a(static_cast<int>(a), static_cast<int>(b), sum);
#endif
}

// acc[i][j] += row (tid / 16 + 16 i) of a times row (tid % 16 + 16 j) of b.
// Rows: has Pack<16> chunk(row, k), zeros beyond K and for rows that are not there.
template <class ARows, class BRows>
__device__ void multiply_tile(const ARows& a, const BRows& b, int K, int (&acc)[4][4]) {
    __shared__ __align__(16) signed char a_tile[TILE * DEPTH], b_tile[TILE * DEPTH];
    const int row = threadIdx.x / 4, chunk = threadIdx.x % 4;
    const int first = threadIdx.x / 16, second = threadIdx.x % 16;
    for (int k = 0; k < K; k += DEPTH) {
        const Pack<16> from_a = a.chunk(row, k + 16 * chunk), from_b = b.chunk(row, k + 16 * chunk);
        __syncthreads();  // the previous tile has been read
        from_a.store(a_tile + tile_offset(row, chunk));
        from_b.store(b_tile + tile_offset(row, chunk));
        __syncthreads();
#pragma unroll 1  // unrolled it takes 80 to 106 registers instead of 64
        for (int c = 0; c < 4; c++) {
            Pack<16> x[4], y[4];
#pragma unroll
            for (int i = 0; i < 4; i++) {
                x[i] = Pack<16>::load(a_tile + tile_offset(first + 16 * i, c));
                y[i] = Pack<16>::load(b_tile + tile_offset(second + 16 * i, c));
            }
#pragma unroll
            for (int i = 0; i < 4; i++)
#pragma unroll
                for (int j = 0; j < 4; j++)
#pragma unroll
                    for (int w = 0; w < 4; w++)
                        acc[i][j] = dot4(x[i].word[w], y[j].word[w], acc[i][j]);
        }
    }
}

// Stores a thread's 4 x 4 results; row(m) gives what the epilogue needs of row m.
template <class Results, class RowOf>
__device__ void put_tile(
    const Results& results, const Place& at, const int (&acc)[4][4], const RowOf& row) {
    const int m = at.m + threadIdx.x / 16, n = at.n + threadIdx.x % 16;
    decltype(row(0)) rows[4];
#pragma unroll
    for (int i = 0; i < 4; i++) rows[i] = row(m + 16 * i);
#pragma unroll
    for (int j = 0; j < 4; j++) {
        const auto column = results.column(n + 16 * j);
#pragma unroll
        for (int i = 0; i < 4; i++)
            put_one(results, m + 16 * i, n + 16 * j, acc[i][j], rows[i], column);
    }
}

// The whole kernel: out = results of a @ b.T.
template <class Results>
__device__ void dp4a_product(const Operands& operands, const Results& results) {
    const Place at = place<TILE, TILE>(blockIdx.x, operands.M, operands.N);
    int acc[4][4] = {};
    multiply_tile(operands.a_rows(at), operands.b_rows(at), operands.K, acc);
    put_tile(results, at, acc, [&](int m) { return results.row(m); });
}
