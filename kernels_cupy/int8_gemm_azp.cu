// The GEMM of asymmetric activations, and the column sums that its epilogue needs. The contract is
// that of reference/int8_gemm_azp.py: acc - zero_point * column sum in int32, modulo 2^32, then the
// dequant epilogue.
//
// Kernels: gemm_azp_dp4a and gemm_azp_pipeline_*, the tiles of int8_gemm.cu; column_sums.
//
// Defines: COPY as in tile.cuh; OUTPUT, the Format of out; A_UNSIGNED, where a's codes are u8.

#include "tile_dp4a.cuh"
#include "tile_store.cuh"

struct AzpRow {
    RowScale scale;
    int zero_point;
};

struct AzpColumn {
    Column scaled;
    int sum;
};

// The epilogue of (a - zero point) @ b.T; see tile_results.cuh.
struct AzpResults {
    using Output = Storage<OUTPUT>::type;

    Output* __restrict__ out;            // OUTPUT (M, N)
    int M, N;
    Scales scales;
    const int* __restrict__ zero_points;  // s32 (M,) or (1,)
    const int* __restrict__ sums;         // s32 (N,): each column's sum of weights
    int zero_point_stride;                // 1, or 0 where one zero point serves all

    __device__ AzpRow row(int m) const {
        const size_t at = static_cast<size_t>(m) * zero_point_stride;
        return {scales.row(m, M), m < M ? zero_points[at] : 0};
    }
    __device__ AzpColumn column(int n) const {
        return {scales.column(n, N), n < N ? sums[n] : 0};
    }

    template <int COUNT>
    __device__ auto finish(
        const int (&acc)[COUNT], const AzpRow& row, const AzpColumn (&columns)[COUNT]) const {
        float value[COUNT];
#pragma unroll
        for (int i = 0; i < COUNT; i++) {
            const unsigned share = static_cast<unsigned>(row.zero_point) * columns[i].sum;
            value[i] = dequantize_accumulator(
                static_cast<int>(acc[i] - share), row.scale, columns[i].scaled.scale,
                columns[i].scaled.bias);
        }
        return pack_floats<OUTPUT>(value);
    }
};

#define PARAMETERS                                                                   \
    const signed char *__restrict__ a,       /* u8 or s8 (M, K) */                   \
        const signed char *__restrict__ b,       /* s8 (N, K) */                     \
        const float *__restrict__ a_scales,      /* fp32 (M,) or (1,) */             \
        const float *__restrict__ b_scales,      /* fp32 (N,) or (1,) */             \
        const int *__restrict__ zero_points,     /* s32 (M,) or (1,) */              \
        const int *__restrict__ sums,            /* s32 (N,) */                      \
        const float *__restrict__ bias,          /* fp32 (N,) or null */             \
        AzpResults::Output *__restrict__ out,    /* OUTPUT (M, N) */                 \
        int M, int N, int K,                                                         \
        int a_stride, int b_stride,              /* of scales: 1, or 0 for (1,) */   \
        int rule,                                /* the dialect's EPILOGUE_RULE */   \
        int zero_point_stride                    /* 1, or 0 for (1,) */
#define OPERANDS \
    Operands { a, b, M, N, K }
#define RESULTS                                                                       \
    AzpResults {                                                                      \
        out, M, N, {a_scales, b_scales, bias, a_stride, b_stride, rule}, zero_points, \
            sums, zero_point_stride                                                   \
    }

extern "C" __global__ void __launch_bounds__(TILE_THREADS, 2) gemm_azp_dp4a(PARAMETERS) {
    dp4a_product(OPERANDS, RESULTS);
}
extern "C" __global__ void __launch_bounds__(MMA_THREADS, 4) gemm_azp_pipeline_16(PARAMETERS) {
    pipelined_product<Rows16>(OPERANDS, RESULTS);
}
extern "C" __global__ void __launch_bounds__(MMA_THREADS, 4) gemm_azp_pipeline_32(PARAMETERS) {
    pipelined_product<Rows32>(OPERANDS, RESULTS);
}
extern "C" __global__ void __launch_bounds__(MMA_THREADS, 3) gemm_azp_pipeline_64(PARAMETERS) {
    pipelined_product<Rows64>(OPERANDS, RESULTS);
}
extern "C" __global__ void __launch_bounds__(MMA_THREADS, 2) gemm_azp_pipeline_128(PARAMETERS) {
    pipelined_product<Rows128>(OPERANDS, RESULTS);
}

// A warp per row; dp4a with ones adds four codes at a time. Block: (32, rows of the block).
extern "C" __global__ void __launch_bounds__(256) column_sums(
    const signed char* __restrict__ b,  // s8 (N, K)
    int* __restrict__ sums,             // s32 (N,)
    int N, int K) {
    const int row = blockIdx.x * blockDim.y + threadIdx.y;
    if (row >= N) return;
    b += static_cast<size_t>(row) * K;
    int sum = 0;
#pragma unroll 4
    for (int k = threadIdx.x * COPY; k < K; k += 32 * COPY) {
        const Pack<COPY> codes = Pack<COPY>::load(b + k);
#pragma unroll
        for (int w = 0; w < codes.WORDS; w++)  // a single code is a word's lowest byte
            sum = __dp4a(static_cast<int>(codes.word[w]), 0x01010101, sum);
    }
    sum = __reduce_add_sync(0xffffffffu, sum);
    if (threadIdx.x == 0) sums[row] = sum;
}
