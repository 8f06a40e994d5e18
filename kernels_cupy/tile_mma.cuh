// A tile of a @ b.T by tensor cores (mma.sync m16n8k32 on int8): 4 warps, 128 columns, and 16, 32,
// 64 or 128 rows. cp.async fills STAGES tiles in turn while ldmatrix and mma work on the one that
// has landed.
//
//     128 or 64 rows              32 or 16 rows
//     warp 0 | warp 1             0 | 1 | 2 | 3         a stage:  a's tile (ROWS x 64 codes)
//     warp 2 | warp 3                                             b's tile (128 x 64 codes)
//
// A warp of the largest tile has 64 x 64 results: per 32 codes of K it reads 4 KB of shared memory
// for 32 mma, so that the 128 bytes that shared memory gives per cycle are enough for the tensor
// cores; 64 x 32 would ask for half as much again. Every tile is swizzled as in tile.cuh: neither
// cp.async nor ldmatrix meets a bank conflict. All shapes fit in 48 KB.
//
// Fragments (PTX ISA, m16n8k32): ldmatrix hands lane l the 4 bytes at column 4 (l % 4) of row l / 4
// of each 8 x 16-byte matrix, which is where mma wants a (row-major) and b (K-major) alike.
//
// Defines: A_UNSIGNED, where a's codes are u8.
#pragma once

#include "tile.cuh"

#ifdef A_UNSIGNED
#define A_TYPE "u8"
#else
#define A_TYPE "s8"
#endif

constexpr int MMA_THREADS = 128;
constexpr int MMA_COLUMNS = 128;

// Tile rows, rows of warps, stages.
template <int ROWS_, int DOWN, int STAGES_> struct Shape {
    static constexpr int ROWS = ROWS_, STAGES = STAGES_, ACROSS = MMA_THREADS / 32 / DOWN;
    static constexpr int WARP_ROWS = ROWS / DOWN, WARP_COLUMNS = MMA_COLUMNS / ACROSS;
    static constexpr int A_BYTES = ROWS * DEPTH, STAGE_BYTES = A_BYTES + MMA_COLUMNS * DEPTH;
    static constexpr int BYTES = STAGES * STAGE_BYTES;
    static_assert(BYTES <= 48 * 1024, "static shared memory ends there");

    // A warp's first row and column in the tile.
    __device__ static int warp_row() { return threadIdx.x / 32 / ACROSS * WARP_ROWS; }
    __device__ static int warp_column() { return threadIdx.x / 32 % ACROSS * WARP_COLUMNS; }
};
using Rows16 = Shape<16, 1, 5>;
using Rows32 = Shape<32, 1, 4>;
using Rows64 = Shape<64, 2, 4>;
using Rows128 = Shape<128, 2, 3>;

// A thread's accumulators: [i][j] is its part of rows 16 i.. and columns 8 j.. of its warp's.
template <class S> using Sums = int[S::WARP_ROWS / 16][S::WARP_COLUMNS / 8][4];

__device__ inline unsigned shared_address(const void* place) {
    return static_cast<unsigned>(__cvta_generic_to_shared(place));
}

__device__ inline void load_matrices(unsigned (&to)[4], unsigned row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(row)
                 : "memory");
}

__device__ inline void multiply_add(int (&c)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
    asm("mma.sync.aligned.m16n8k32.row.col.s32." A_TYPE ".s8.s32 {%0, %1, %2, %3}, "
        "{%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// Copies COPY bytes to shared memory in the background, or zeros where nothing is there (`from` is
// not read then). A row of a tile is half of a 128-byte line: L2 fetches the other half, which the
// next stage asks for, along.
__device__ inline void copy_async(unsigned to, const signed char* from, bool there) {
    if constexpr (COPY == 16)
        asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;" ::"r"(to), "l"(from),
                     "r"(there ? 16 : 0)
                     : "memory");
    else
        asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(to), "l"(from),
                     "r"(there ? 4 : 0)
                     : "memory");
}

// One thread's share of an operand's tiles of LENGTH rows: the same units of some rows, tile after
// tile. Neighbouring threads have neighbouring units of a row, so that whole sectors are asked for
// and 128 bytes at a time go to distinct banks.
template <int LENGTH> struct Feed {
    static constexpr int UNIT = COPY == 16 ? 16 : 4;           // bytes
    static constexpr int STEP = MMA_THREADS / (DEPTH / UNIT);  // rows between two of its units
    static constexpr int SHARE = (LENGTH + STEP - 1) / STEP;
    static_assert(STEP % 8 == 0, "rows that far apart are swizzled alike");

    const signed char* from;  // its first unit of the tile at column 0
    size_t step;              // bytes to its next
    int rows;                 // rows from its first on
    int depth;                // codes from there to the end of the row
    int to;                   // its first unit's offset in a tile
    bool idle;                // whether the tile has fewer rows than there are threads for

    __device__ explicit Feed(const CodeRows& of) {
        const int row = threadIdx.x / (DEPTH / UNIT), byte = threadIdx.x % (DEPTH / UNIT) * UNIT;
        from = of.codes + static_cast<size_t>(row) * of.K + byte;
        step = static_cast<size_t>(STEP) * of.K;
        rows = of.rows - row;
        depth = of.K - byte;
        to = tile_offset(row, byte / 16) + byte % 16;
        idle = LENGTH < STEP && row >= LENGTH;
    }

    // Its unit i of the tile at column k; zeros where nothing is there.
    __device__ Pack<UNIT> unit(int i, int k) const {
        Pack<UNIT> codes = {};
        if (idle || i * STEP >= rows) return codes;
        const signed char* source = from + i * step + k;
        if constexpr (COPY == 1) {
#pragma unroll
            for (int byte = 0; byte < UNIT; byte++)
                if (k + byte < depth) codes.word[0] |= Pack<1>::load(source + byte).word[0] << 8 * byte;
        } else if (k < depth) {
            codes = Pack<UNIT>::load(source);
        }
        return codes;
    }

    __device__ void put(signed char* tile, int i, const Pack<UNIT>& codes) const {
        if (!idle) codes.store(tile + to + i * STEP * DEPTH);
    }

    // Sends all its units of the tile at column k on their way. Where K or an address is odd, by
    // plain loads and stores.
    __device__ void fill(signed char* tile, int k) const {
        if (idle) return;
        if constexpr (COPY == 1) {
#pragma unroll 2
            for (int i = 0; i < SHARE; i++) put(tile, i, unit(i, k));
        } else {
            const unsigned first = shared_address(tile + to);
#pragma unroll
            for (int i = 0; i < SHARE; i++)
                copy_async(first + i * STEP * DEPTH, from + i * step + k,
                           i * STEP < rows && k < depth);
        }
    }
};

// One warp's view of a stage: where each lane's matrix rows begin, for both halves of DEPTH.
template <class S> struct WarpTile {
    unsigned a[DEPTH / 32], b[DEPTH / 32];

    __device__ WarpTile() {
        const int lane = threadIdx.x % 32;
        const int a_row = S::warp_row() + lane % 16;
        const int b_row = S::warp_column() + lane % 8 + lane / 16 * 8;
#pragma unroll
        for (int half = 0; half < DEPTH / 32; half++) {
            // a: rows 0-15 at codes 0-15, then at 16-31. b: rows 0-7 at both, then rows 8-15.
            a[half] = tile_offset(a_row, 2 * half + lane / 16);
            b[half] = S::A_BYTES + tile_offset(b_row, 2 * half + lane / 8 % 2);
        }
    }

    // acc += the product of the stage's tiles.
    __device__ void multiply(const signed char* stage, Sums<S>& acc) const {
        const unsigned base = shared_address(stage);
#pragma unroll
        for (int half = 0; half < DEPTH / 32; half++) {
            unsigned x[S::WARP_ROWS / 16][4], y[S::WARP_COLUMNS / 16][4];
#pragma unroll
            for (int i = 0; i < S::WARP_ROWS / 16; i++)
                load_matrices(x[i], base + a[half] + 16 * i * DEPTH);
#pragma unroll
            for (int j = 0; j < S::WARP_COLUMNS / 16; j++)
                load_matrices(y[j], base + b[half] + 16 * j * DEPTH);
#pragma unroll
            for (int i = 0; i < S::WARP_ROWS / 16; i++)
#pragma unroll
                for (int j = 0; j < S::WARP_COLUMNS / 8; j++)
                    multiply_add(acc[i][j], x[i], y[j / 2][j % 2 * 2], y[j / 2][j % 2 * 2 + 1]);
        }
    }
};

// The stage for column k: both tiles, as one group of asynchronous copies (empty from `end` on).
template <class S>
__device__ void fill_stage(
    signed char* stage, const Feed<S::ROWS>& a, const Feed<MMA_COLUMNS>& b, int k, int end) {
    if (k < end) {
        a.fill(stage, k);
        b.fill(stage + S::A_BYTES, k);
    }
    asm volatile("cp.async.commit_group;" ::: "memory");
}

// All groups but the STAGES - 2 youngest have landed, for every thread of the block; and every
// thread is done with the stage before.
template <int STAGES> __device__ void await_stage() {
    asm volatile("cp.async.wait_group %0;" ::"n"(STAGES - 2) : "memory");
    __syncthreads();
}

// acc += the product over columns begin .. end of K (begin a multiple of DEPTH; end too, or K).
template <class S>
__device__ void multiply_pipelined(
    signed char* stages, const CodeRows& a_rows, const CodeRows& b_rows, int begin, int end,
    Sums<S>& acc) {
    const Feed<S::ROWS> a(a_rows);
    const Feed<MMA_COLUMNS> b(b_rows);
    const WarpTile<S> tile;
#pragma unroll 1
    for (int s = 0; s < S::STAGES - 1; s++)
        fill_stage<S>(stages + s * S::STAGE_BYTES, a, b, begin + s * DEPTH, end);
    int full = 0, empty = (S::STAGES - 1) * S::STAGE_BYTES;
#pragma unroll 1
    for (int k = begin; k < end; k += DEPTH) {
        await_stage<S::STAGES>();
        fill_stage<S>(stages + empty, a, b, k + (S::STAGES - 1) * DEPTH, end);
        tile.multiply(stages + full, acc);
        full = full + S::STAGE_BYTES == S::BYTES ? 0 : full + S::STAGE_BYTES;
        empty = empty + S::STAGE_BYTES == S::BYTES ? 0 : empty + S::STAGE_BYTES;
    }
}

// The same with one stage and no copy in the background: through registers, then multiply.
template <class S>
__device__ void multiply_plain(
    signed char* stage, const CodeRows& a_rows, const CodeRows& b_rows, int K, Sums<S>& acc) {
    const Feed<S::ROWS> a(a_rows);
    const Feed<MMA_COLUMNS> b(b_rows);
    const WarpTile<S> tile;
    for (int k = 0; k < K; k += DEPTH) {
        Pack<a.UNIT> from_a[a.SHARE], from_b[b.SHARE];
#pragma unroll
        for (int i = 0; i < a.SHARE; i++) from_a[i] = a.unit(i, k);
#pragma unroll
        for (int i = 0; i < b.SHARE; i++) from_b[i] = b.unit(i, k);
        __syncthreads();  // the previous tiles have been read
#pragma unroll
        for (int i = 0; i < a.SHARE; i++) a.put(stage, i, from_a[i]);
#pragma unroll
        for (int i = 0; i < b.SHARE; i++) b.put(stage + S::A_BYTES, i, from_b[i]);
        __syncthreads();
        tile.multiply(stage, acc);
    }
}
