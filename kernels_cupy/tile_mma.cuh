// A 128 x 128 tile of a @ b.T by tensor cores (mma.sync m16n8k32 s8): 8 warps of 64 x 32 results.
// cp.async fills STAGES tiles in turn while ldmatrix and mma work on the one that has landed.
//
//            warp column 0    1    2    3          a stage:  a_tile (128 rows x 64 codes)
//     warp row 0   64 x 32 each                              b_tile (128 rows x 64 codes)
//     warp row 1
//
// Fragments (PTX ISA, m16n8k32 .s8): ldmatrix hands lane l the 4 bytes at column 4 (l % 4) of row
// l / 4 of each 8 x 16-byte matrix, which is where mma wants a (row-major) and b (K-major) alike.
#pragma once

#include "tile.cuh"

constexpr int MMA_TILE = 128;
constexpr int MMA_THREADS = 256;
constexpr int STAGES = 3;
constexpr int TILE_BYTES = MMA_TILE * DEPTH;
constexpr int STAGE_BYTES = 2 * TILE_BYTES;  // a's tile, then b's
constexpr int SHARE = MMA_TILE * 4 / MMA_THREADS;  // chunks of a tile that a thread copies
constexpr int WARP_M = 64, WARP_N = 32;

__device__ inline void load_matrices(unsigned (&to)[4], unsigned row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(row)
                 : "memory");
}

__device__ inline void multiply_add(int (&c)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
    asm volatile("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0, %1, %2, %3}, "
                 "{%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// Copies COPY bytes to shared memory in the background, or zeros where nothing is there (`from` is
// not read then).
__device__ inline void copy_async(unsigned to, const signed char* from, bool there) {
    if constexpr (COPY == 16)
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from),
                     "r"(there ? 16 : 0)
                     : "memory");
    else
        asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(to), "l"(from),
                     "r"(there ? 4 : 0)
                     : "memory");
}

// One thread's share of an operand's tiles: the same chunk of SHARE rows, tile after tile.
struct Feed {
    const signed char* from[SHARE];  // its chunk of the tile at column 0
    int end[SHARE];                  // codes from there to the end of the row; none, if no row
    int to;                          // its offset in a tile; the other rows follow at ROWS * DEPTH

    static constexpr int ROWS = MMA_THREADS / 4;
    static_assert(ROWS % 8 == 0, "rows that far apart are swizzled alike");

    // codes: s8 (rows, K), from the block's first row on.
    __device__ Feed(const signed char* codes, int rows, int K) {
        const int row = threadIdx.x / 4, chunk = threadIdx.x % 4;
        to = tile_offset(row, chunk);
#pragma unroll
        for (int i = 0; i < SHARE; i++) {
            from[i] = codes + static_cast<size_t>(row + i * ROWS) * K + 16 * chunk;
            end[i] = row + i * ROWS < rows ? K - 16 * chunk : 0;
        }
    }

    // The tile at column k. Where K or an address is odd, by plain loads and stores.
    __device__ void fill(signed char* tile, int k) const {
#pragma unroll
        for (int i = 0; i < SHARE; i++) {
            signed char* place = tile + to + i * ROWS * DEPTH;
            if constexpr (COPY == 1) {
                load_chunk(from[i], true, k, end[i]).store(place);
            } else {
                const unsigned address = static_cast<unsigned>(__cvta_generic_to_shared(place));
#pragma unroll
                for (int byte = 0; byte < 16; byte += COPY)
                    copy_async(address + byte, from[i] + k + byte, k + byte < end[i]);
            }
        }
    }
};

// The stage for column k: both tiles, as one group of asynchronous copies (empty beyond K).
__device__ inline void fill_stage(
    signed char* stage, const Feed& a, const Feed& b, int k, int K) {
    if (k < K) {
        a.fill(stage, k);
        b.fill(stage + TILE_BYTES, k);
    }
    asm volatile("cp.async.commit_group;" ::: "memory");
}

// All groups but the STAGES - 2 youngest have landed, for every thread of the block; and every
// thread is done with the stage before.
__device__ inline void await_stage() {
    asm volatile("cp.async.wait_group %0;" ::"n"(STAGES - 2) : "memory");
    __syncthreads();
}

// One warp's view of a stage: where each lane's matrix rows begin, for both halves of DEPTH.
struct WarpTile {
    unsigned a[DEPTH / 32], b[DEPTH / 32];

    // a_row, b_row: the warp's first rows in the tiles.
    __device__ WarpTile(int a_row, int b_row) {
        const int lane = threadIdx.x % 32;
#pragma unroll
        for (int half = 0; half < DEPTH / 32; half++) {
            // a: rows 0-15 at codes 0-15, then at 16-31. b: rows 0-7 at both, then rows 8-15.
            a[half] = tile_offset(a_row + lane % 16, 2 * half + lane / 16);
            b[half] = TILE_BYTES +
                tile_offset(b_row + lane % 8 + lane / 16 * 8, 2 * half + lane / 8 % 2);
        }
    }

    // acc[i][j] += rows 16 i.. of a times rows 8 j.. of b, in mma's layout.
    __device__ void multiply(
        const signed char* stage, int (&acc)[WARP_M / 16][WARP_N / 8][4]) const {
        const unsigned base = static_cast<unsigned>(__cvta_generic_to_shared(stage));
#pragma unroll
        for (int half = 0; half < DEPTH / 32; half++) {
            unsigned x[WARP_M / 16][4], y[WARP_N / 16][4];
#pragma unroll
            for (int i = 0; i < WARP_M / 16; i++)
                load_matrices(x[i], base + a[half] + 16 * i * DEPTH);
#pragma unroll
            for (int j = 0; j < WARP_N / 16; j++)
                load_matrices(y[j], base + b[half] + 16 * j * DEPTH);
#pragma unroll
            for (int i = 0; i < WARP_M / 16; i++)
#pragma unroll
                for (int j = 0; j < WARP_N / 8; j++)
                    multiply_add(acc[i][j], x[i], y[j / 2][j % 2 * 2], y[j / 2][j % 2 * 2 + 1]);
        }
    }
};
