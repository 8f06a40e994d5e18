// a @ b.T of s8 matrices with one scale per row and group of G elements along K. The contract is
// that of reference/int8_gemm_group.py: exact int32 sums per group (two's complement wrap), fp32
// sums over groups in ascending order from +0, in the dialect's formula; then the bias.
//
//     gemm_group_dp4a          64 x 64 tiles in shared memory, dp4a; any G
//     gemm_group_pipeline_64   64 x 128 tiles by tensor cores, cp.async, ldmatrix; G % 32 == 0
//     gemm_group_pipeline_16   the same with 16 x 128 tiles, for few rows
//
// Defines: COPY as in tile.cuh, by the base addresses and G: every group starts a load (16 for the
// pipelines); GROUP_EPILOGUE_RULE. `format` is out's Format.

#include "tile_dp4a.cuh"
#include "tile_group.cuh"

// Rows of a code matrix, cut to one group.
struct GroupRows {
    const signed char* codes;  // from the block's first row on, at the group's first element
    int rows, K, G;

    __device__ Pack<16> chunk(int row, int k) const {
        return load_chunk(codes + static_cast<size_t>(row) * K, row < rows, k, G);
    }
};

// A thread's scales of one group in its row or column of every 16.
__device__ inline void load_scales(const float* scales, int first, int end, int Q, float (&to)[4]) {
#pragma unroll
    for (int i = 0; i < 4; i++)
        to[i] = first + 16 * i < end ? scales[static_cast<size_t>(first + 16 * i) * Q] : 0.0f;
}

extern "C" __global__ void __launch_bounds__(TILE_THREADS, 2) gemm_group_dp4a(
    const signed char* __restrict__ a,   // s8 (M, Q * G)
    const signed char* __restrict__ b,   // s8 (N, Q * G)
    const float* __restrict__ a_scales,  // fp32 (M, Q)
    const float* __restrict__ b_scales,  // fp32 (N, Q)
    const float* __restrict__ bias,      // fp32 (N,) or null
    void* __restrict__ out,              // format (M, N)
    int M, int N, int Q, int G, int format) {
    const Operands operands = {a, b, M, N, Q * G};
    const Place at = place<TILE, TILE>(blockIdx.x, M, N);
    const CodeRows a_rows = operands.a_rows(at), b_rows = operands.b_rows(at);
    float total[4][4] = {};
    for (int g = 0; g < Q; g++) {
        int acc[4][4] = {};
        multiply_tile(
            GroupRows{a_rows.codes + g * G, a_rows.rows, a_rows.K, G},
            GroupRows{b_rows.codes + g * G, b_rows.rows, b_rows.K, G}, G, acc);
        float a_scale[4], b_scale[4];
        load_scales(a_scales + g, at.m + threadIdx.x / 16, M, Q, a_scale);
        load_scales(b_scales + g, at.n + threadIdx.x % 16, N, Q, b_scale);
#pragma unroll
        for (int i = 0; i < 4; i++)
#pragma unroll
            for (int j = 0; j < 4; j++)
                total[i][j] =
                    add_group(total[i][j], __int2float_rn(acc[i][j]), a_scale[i], b_scale[j]);
    }
    int bits[4][4];
#pragma unroll
    for (int i = 0; i < 4; i++)
#pragma unroll
        for (int j = 0; j < 4; j++) bits[i][j] = __float_as_int(total[i][j]);
    store_as(format, out, bias, M, N, [&](const auto& results) {
        put_tile(results, at, bits, [](int) { return 0; });
    });
}

#if COPY == 16

extern "C" __global__ void __launch_bounds__(MMA_THREADS, 2) gemm_group_pipeline_64(
    const signed char* __restrict__ a,   // s8 (M, Q * G)
    const signed char* __restrict__ b,   // s8 (N, Q * G)
    const float* __restrict__ a_scales,  // fp32 (M, Q)
    const float* __restrict__ b_scales,  // fp32 (N, Q)
    const float* __restrict__ bias,      // fp32 (N,) or null
    void* __restrict__ out,              // format (M, N)
    int M, int N, int Q, int G, int format) {
    using S = Shape<64, 2, 3>;
    pipelined_groups<S>({a, b, M, N, Q * G}, a_scales, b_scales, bias, out, Q, G, format);
}

extern "C" __global__ void __launch_bounds__(MMA_THREADS, 2) gemm_group_pipeline_16(
    const signed char* __restrict__ a,   // s8 (M, Q * G)
    const signed char* __restrict__ b,   // s8 (N, Q * G)
    const float* __restrict__ a_scales,  // fp32 (M, Q)
    const float* __restrict__ b_scales,  // fp32 (N, Q)
    const float* __restrict__ bias,      // fp32 (N,) or null
    void* __restrict__ out,              // format (M, N)
    int M, int N, int Q, int G, int format) {
    using S = Shape<16, 1, 4>;
    pipelined_groups<S>({a, b, M, N, Q * G}, a_scales, b_scales, bias, out, Q, G, format);
}

#endif  // COPY == 16
