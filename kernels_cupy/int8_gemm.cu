// a @ b.T of s8 matrices, exact in int32 (two's complement wrap beyond it), plain or with the
// dequant epilogue fused. The contract is that of reference/int8_gemm.py: out[m, n] from
// a (M, K) and b (N, K), any M, N, K >= 1.
//
// The ladder, each with what changed:
//     gemm_naive   a thread per result, codes read straight from memory
//     gemm_tiled   64 x 64 tiles in shared memory, dp4a: each code read M/64 or N/64 times
//     gemm_mma     128 x 128 tiles, cp.async pipeline, ldmatrix, tensor cores
//
// Defines: COPY and OUTPUT as in tile.cuh; EPILOGUE_RULE for the fused forms. Without it the scales
// and the bias are null and out is s32. Grids are one-dimensional, row tiles first: neighbouring
// blocks share their tile of b, the weights.

#include "tile_dp4a.cuh"
#include "tile_mma.cuh"

constexpr int NAIVE_TILE = 16;

__device__ inline int tiles(int length, int tile) { return (length + tile - 1) / tile; }

extern "C" __global__ void __launch_bounds__(NAIVE_TILE* NAIVE_TILE) gemm_naive(
    const signed char* __restrict__ a,     // s8 (M, K)
    const signed char* __restrict__ b,     // s8 (N, K)
    const float* __restrict__ a_scales,    // fp32 (M,) or null
    const float* __restrict__ b_scales,    // fp32 (N,) or null
    const float* __restrict__ bias,        // fp32 (N,) or null
    Output* __restrict__ out,              // OUTPUT (M, N)
    int M, int N, int K) {
    const int row_tiles = tiles(M, NAIVE_TILE);
    const int row = blockIdx.x % row_tiles * NAIVE_TILE + threadIdx.y;
    const int column = blockIdx.x / row_tiles * NAIVE_TILE + threadIdx.x;
    if (row >= M || column >= N) return;
    a += static_cast<size_t>(row) * K;
    b += static_cast<size_t>(column) * K;
    int acc = 0;
    for (int k = 0; k < K; k++) acc += a[k] * b[k];
    const Results results = {out, a_scales, b_scales, bias, M, N};
    results.put(row, column, acc, results.a_scale(row), results.column(column));
}

extern "C" __global__ void __launch_bounds__(TILE_THREADS) gemm_tiled(
    const signed char* __restrict__ a,     // s8 (M, K)
    const signed char* __restrict__ b,     // s8 (N, K)
    const float* __restrict__ a_scales,    // fp32 (M,) or null
    const float* __restrict__ b_scales,    // fp32 (N,) or null
    const float* __restrict__ bias,        // fp32 (N,) or null
    Output* __restrict__ out,              // OUTPUT (M, N)
    int M, int N, int K) {
    const int row_tiles = tiles(M, TILE);
    const int m0 = blockIdx.x % row_tiles * TILE, n0 = blockIdx.x / row_tiles * TILE;
    const CodeRows a_rows = {a + static_cast<size_t>(m0) * K, M - m0, K};
    const CodeRows b_rows = {b + static_cast<size_t>(n0) * K, N - n0, K};
    int acc[4][4] = {};
    multiply_tile(a_rows, b_rows, K, acc);

    const Results results = {out, a_scales, b_scales, bias, M, N};
    const int first = m0 + threadIdx.x / 16;
    float a_scale[4];
#pragma unroll
    for (int i = 0; i < 4; i++)
        a_scale[i] = first + 16 * i < M ? results.a_scale(first + 16 * i) : 0;
#pragma unroll
    for (int j = 0; j < 4; j++) {
        const int n = n0 + threadIdx.x % 16 + 16 * j;
        const Column column = results.column(n);
#pragma unroll
        for (int i = 0; i < 4; i++)
            if (first + 16 * i < M) results.put(first + 16 * i, n, acc[i][j], a_scale[i], column);
    }
}

extern "C" __global__ void __launch_bounds__(MMA_THREADS, 2) gemm_mma(
    const signed char* __restrict__ a,     // s8 (M, K)
    const signed char* __restrict__ b,     // s8 (N, K)
    const float* __restrict__ a_scales,    // fp32 (M,) or null
    const float* __restrict__ b_scales,    // fp32 (N,) or null
    const float* __restrict__ bias,        // fp32 (N,) or null
    Output* __restrict__ out,              // OUTPUT (M, N)
    int M, int N, int K) {
    __shared__ __align__(128) signed char stages[STAGES][STAGE_BYTES];
    const int row_tiles = tiles(M, MMA_TILE), warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const int m0 = blockIdx.x % row_tiles * MMA_TILE, n0 = blockIdx.x / row_tiles * MMA_TILE;
    const int warp_m = warp / 4 * WARP_M, warp_n = warp % 4 * WARP_N;
    const Feed a_feed(a + static_cast<size_t>(m0) * K, M - m0, K);
    const Feed b_feed(b + static_cast<size_t>(n0) * K, N - n0, K);
    const WarpTile tile(warp_m, warp_n);
    int acc[WARP_M / 16][WARP_N / 8][4] = {};

    for (int s = 0; s < STAGES - 1; s++) fill_stage(stages[s], a_feed, b_feed, s * DEPTH, K);
    int full = 0, empty = STAGES - 1;
    for (int k = 0; k < K; k += DEPTH) {
        await_stage();
        fill_stage(stages[empty], a_feed, b_feed, k + (STAGES - 1) * DEPTH, K);
        tile.multiply(stages[full], acc);
        full = full + 1 == STAGES ? 0 : full + 1;
        empty = empty + 1 == STAGES ? 0 : empty + 1;
    }

    const Results results = {out, a_scales, b_scales, bias, M, N};
    Column columns[WARP_N / 8][2];
#pragma unroll
    for (int j = 0; j < WARP_N / 8; j++)
#pragma unroll
        for (int side = 0; side < 2; side++)
            columns[j][side] = results.column(n0 + warp_n + 8 * j + lane % 4 * 2 + side);
#pragma unroll
    for (int i = 0; i < WARP_M / 8; i++) {
        const int row = m0 + warp_m + 8 * i + lane / 4;
        if (row >= M) return;
        const float a_scale = results.a_scale(row);
#pragma unroll
        for (int j = 0; j < WARP_N / 8; j++)
            results.put_pair(
                row, n0 + warp_n + 8 * j + lane % 4 * 2, acc[i / 2][j] + i % 2 * 2, a_scale,
                columns[j]);
    }
}
