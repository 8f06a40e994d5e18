// a @ b.T of s8 matrices, exact in int32 (two's complement wrap beyond it), plain or with the
// dequant epilogue fused. The contract is that of reference/int8_gemm.py: out[m, n] from
// a (M, K) and b (N, K), any M, N, K >= 1.
//
// The ladder, each with what changed:
//     gemm_naive         a thread per result, codes read straight from memory, byte by byte
//     gemm_tiled         16 x 16 tiles in shared memory: each code read M/16 or N/16 times
//     gemm_dp4a          64 x 64 tiles, 16 results a thread, four products an instruction (dp4a) of
//                        words as they lie in memory (ptxas makes dp4a of the byte loops, too, but
//                        packs its operands byte by byte)
//     gemm_mma           128 x 128 tiles, 4096 products an instruction: tensor cores, ldmatrix
//     gemm_pipeline_*    cp.async fills the next stages meanwhile; tile rows chosen by M
//     gemm_split_k_*     the same, K split over blocks, so that a small M fills the device
// Sums of int32 may be added in any order, so every rung gives the same bits.
//
// Defines: COPY as in tile.cuh. OUTPUT: the Format of out, or INT32 for plain sums, whose scales and
// bias are null. Grids are one-dimensional: a block per tile, see place(); a batch of B products is
// B times as many blocks.

#include "tile_dp4a.cuh"
#include "tile_store.cuh"

#define PARAMETERS                                                                \
    const signed char *__restrict__ a,    /* s8 (M, K), or (B, M, K) */           \
        const signed char *__restrict__ b,    /* s8 (N, K), or (B, N, K) */       \
        const float *__restrict__ a_scales,   /* fp32 (M,), or (1,), or null */   \
        const float *__restrict__ b_scales,   /* fp32 (N,), or (1,), or null */   \
        const float *__restrict__ bias,       /* fp32 (N,) or null */             \
        Element<OUTPUT>::type *__restrict__ out,  /* OUTPUT (M, N), or (B, M, N) */ \
        int M, int N, int K,                                                      \
        int a_stride, int b_stride,           /* of the scales: 1, or 0 for (1,) */ \
        int rule                              /* the dialect's EPILOGUE_RULE */
#define OPERANDS \
    Operands { a, b, M, N, K }
#define RESULTS \
    Results<OUTPUT> { out, M, N, { a_scales, b_scales, bias, a_stride, b_stride, rule } }

#if OUTPUT == 3 && COPY == 1

constexpr int NAIVE_TILE = 16;
constexpr int PADDED = DEPTH + 4;  // bytes between rows: 16 rows begin in 16 banks

extern "C" __global__ void __launch_bounds__(NAIVE_TILE* NAIVE_TILE) gemm_naive(PARAMETERS) {
    const Place at = place<NAIVE_TILE, NAIVE_TILE>(blockIdx.x, M, N);
    const CodeRows a_rows = OPERANDS.a_rows(at), b_rows = OPERANDS.b_rows(at);
    const int m = threadIdx.y, n = threadIdx.x;
    if (m >= a_rows.rows || n >= b_rows.rows) return;
    const signed char* x = a_rows.codes + static_cast<size_t>(m) * K;
    const signed char* y = b_rows.codes + static_cast<size_t>(n) * K;
    int acc = 0;
    __builtin_assume(K > 0);
    for (int k = 0; k < K; k++) acc += x[k] * y[k];
    out[(static_cast<size_t>(at.batch) * M + at.m + m) * N + at.n + n] = acc;
}

// DEPTH codes of 16 rows, byte by byte; zeros where nothing is there.
__device__ inline void fill_padded(signed char* tile, const CodeRows& rows, int k) {
#pragma unroll
    for (int i = 0; i < NAIVE_TILE * DEPTH; i += NAIVE_TILE * NAIVE_TILE) {
        const int cell = i + threadIdx.y * NAIVE_TILE + threadIdx.x;
        const int row = cell / DEPTH, column = cell % DEPTH;
        const bool there = row < rows.rows && k + column < rows.K;
        tile[row * PADDED + column] =
            there ? rows.codes[static_cast<size_t>(row) * rows.K + k + column] : 0;
    }
}

extern "C" __global__ void __launch_bounds__(NAIVE_TILE* NAIVE_TILE, 2) gemm_tiled(PARAMETERS) {
    __shared__ signed char a_tile[NAIVE_TILE * PADDED], b_tile[NAIVE_TILE * PADDED];
    const Place at = place<NAIVE_TILE, NAIVE_TILE>(blockIdx.x, M, N);
    const CodeRows a_rows = OPERANDS.a_rows(at), b_rows = OPERANDS.b_rows(at);
    int acc = 0;
    __builtin_assume(K > 0);
    for (int k = 0; k < K; k += DEPTH) {
        __syncthreads();  // the previous tiles have been read
        fill_padded(a_tile, a_rows, k);
        fill_padded(b_tile, b_rows, k);
        __syncthreads();
#pragma unroll 8
        for (int i = 0; i < DEPTH; i++)
            acc += a_tile[threadIdx.y * PADDED + i] * b_tile[threadIdx.x * PADDED + i];
    }
    const int m = at.m + threadIdx.y, n = at.n + threadIdx.x;
    if (m < M && n < N) out[static_cast<size_t>(m) * N + n] = acc;
}

#endif

extern "C" __global__ void __launch_bounds__(TILE_THREADS, 2) gemm_dp4a(PARAMETERS) {
    dp4a_product(OPERANDS, RESULTS);
}

#if OUTPUT == 3

extern "C" __global__ void __launch_bounds__(MMA_THREADS, 2) gemm_mma(PARAMETERS) {
    using S = Shape<128, 2, 2>;  // one stage; results need the room of two
    __shared__ __align__(128) signed char stage[S::BYTES];
    const Place at = place<S::ROWS, MMA_COLUMNS>(blockIdx.x, M, N);
    Sums<S> acc = {};
    multiply_plain<S>(stage, OPERANDS.a_rows(at), OPERANDS.b_rows(at), K, acc);
    int* words = reinterpret_cast<int*>(stage);
    hand_out<S>(words, acc, at, Direct<Results<OUTPUT>>(RESULTS, words + SLABS<S>));
}

#endif

extern "C" __global__ void __launch_bounds__(MMA_THREADS, 4) gemm_pipeline_16(PARAMETERS) {
    pipelined_product<Rows16>(OPERANDS, RESULTS);
}
extern "C" __global__ void __launch_bounds__(MMA_THREADS, 4) gemm_pipeline_32(PARAMETERS) {
    pipelined_product<Rows32>(OPERANDS, RESULTS);
}
extern "C" __global__ void __launch_bounds__(MMA_THREADS, 3) gemm_pipeline_64(PARAMETERS) {
    pipelined_product<Rows64>(OPERANDS, RESULTS);
}
extern "C" __global__ void __launch_bounds__(MMA_THREADS, 2) gemm_pipeline_128(PARAMETERS) {
    pipelined_product<Rows128>(OPERANDS, RESULTS);
}

// K in `splits` parts of whole DEPTHs: blocks 0 .. tiles - 1 take the first part, and so on.
// sums: s32 (M, N), then for a fused epilogue one ticket per tile; all zero. Without an epilogue
// sums is out.
template <class S>
__device__ void split_product(
    const Operands& of, const Results<OUTPUT>& results, int splits, int* sums) {
    __shared__ __align__(128) signed char stages[S::BYTES];
    const int tiles = gridDim.x / splits, tile = blockIdx.x % tiles;
    const Place at = place<S::ROWS, MMA_COLUMNS>(tile, of.M, of.N);
    const int part = ((of.K + DEPTH - 1) / DEPTH + splits - 1) / splits * DEPTH;
    const int begin = blockIdx.x / tiles * part;
    Sums<S> acc = {};
    multiply_pipelined<S>(
        stages, of.a_rows(at), of.b_rows(at), begin, min(begin + part, of.K), acc);
    int* words = reinterpret_cast<int*>(stages);
    hand_out<S>(words, acc, at, Partial{sums, of.M, of.N});
    if constexpr (OUTPUT != INT32) {
        int* ticket = sums + static_cast<size_t>(of.M) * of.N + tile;
        if (last_to_arrive(ticket, splits, words))
            finish_tile<S::ROWS>(results, sums, at, words + 4);
    }
}

#define SPLIT PARAMETERS, int splits, int *__restrict__ sums
extern "C" __global__ void __launch_bounds__(MMA_THREADS, 4) gemm_split_k_16(SPLIT) {
    split_product<Rows16>(OPERANDS, RESULTS, splits, sums);
}
extern "C" __global__ void __launch_bounds__(MMA_THREADS, 4) gemm_split_k_32(SPLIT) {
    split_product<Rows32>(OPERANDS, RESULTS, splits, sums);
}
extern "C" __global__ void __launch_bounds__(MMA_THREADS, 3) gemm_split_k_64(SPLIT) {
    split_product<Rows64>(OPERANDS, RESULTS, splits, sums);
}
extern "C" __global__ void __launch_bounds__(MMA_THREADS, 2) gemm_split_k_128(SPLIT) {
    split_product<Rows128>(OPERANDS, RESULTS, splits, sums);
}
