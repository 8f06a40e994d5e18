// The GEMM whose results are codes again, under a given scale. The contract is that of
// reference/int8_gemm_requantize.py: the dequant epilogue's fp32 value, then quantize_static.
//
// Kernels: gemm_requantize_dp4a and gemm_requantize_pipeline_*, the tiles of int8_gemm.cu.
//
// Defines: COPY as in tile.cuh; INPUT, FP32: what is quantized; the dialect's rules for that.

#include "tile_dp4a.cuh"
#include "tile_store.cuh"

static_assert(INPUT == FP32, "the epilogue's value is fp32");

// The epilogue to codes; see tile_results.cuh.
struct CodeResults {
    using Output = signed char;

    signed char* __restrict__ out;  // s8 (M, N)
    int M, N;
    Scales scales;
    Multiplier multiplier;  // of the given scale

    __device__ RowScale row(int m) const { return scales.row(m, M); }
    __device__ Column column(int n) const { return scales.column(n, N); }

    template <bool FAST, int COUNT>
    __device__ Pack<COUNT> codes(const float (&value)[COUNT]) const {
        int code[COUNT];
#pragma unroll
        for (int i = 0; i < COUNT; i++) code[i] = quantize_given<FAST>(value[i], multiplier);
        return pack_codes(code);
    }

    template <int COUNT>
    __device__ Pack<COUNT> finish(
        const int (&acc)[COUNT], const RowScale& row, const Column (&columns)[COUNT]) const {
        float value[COUNT];
        dequantize(acc, row, columns, value);
        return fast_given(multiplier) ? codes<true>(value) : codes<false>(value);
    }
};

#define PARAMETERS                                                                  \
    const signed char *__restrict__ a,      /* s8 (M, K) */                         \
        const signed char *__restrict__ b,      /* s8 (N, K) */                     \
        const float *__restrict__ a_scales,     /* fp32 (M,) or (1,) */             \
        const float *__restrict__ b_scales,     /* fp32 (N,) or (1,) */             \
        const float *__restrict__ out_scale,    /* fp32 (1,) */                     \
        const float *__restrict__ bias,         /* fp32 (N,) or null */             \
        signed char *__restrict__ out,          /* s8 (M, N) */                     \
        int M, int N, int K,                                                        \
        int a_stride, int b_stride,             /* of scales: 1, or 0 for (1,) */   \
        int rule                                /* the dialect's EPILOGUE_RULE */
#define OPERANDS \
    Operands { a, b, M, N, K }
#define RESULTS                                                               \
    CodeResults {                                                             \
        out, M, N, {a_scales, b_scales, bias, a_stride, b_stride, rule},      \
            static_multiplier(*out_scale)                                     \
    }

extern "C" __global__ void __launch_bounds__(TILE_THREADS, 2) gemm_requantize_dp4a(PARAMETERS) {
    dp4a_product(OPERANDS, RESULTS);
}
extern "C" __global__ void __launch_bounds__(MMA_THREADS, 4) gemm_requantize_pipeline_16(
    PARAMETERS) {
    pipelined_product<Rows16>(OPERANDS, RESULTS);
}
extern "C" __global__ void __launch_bounds__(MMA_THREADS, 4) gemm_requantize_pipeline_32(
    PARAMETERS) {
    pipelined_product<Rows32>(OPERANDS, RESULTS);
}
extern "C" __global__ void __launch_bounds__(MMA_THREADS, 3) gemm_requantize_pipeline_64(
    PARAMETERS) {
    pipelined_product<Rows64>(OPERANDS, RESULTS);
}
extern "C" __global__ void __launch_bounds__(MMA_THREADS, 2) gemm_requantize_pipeline_128(
    PARAMETERS) {
    pipelined_product<Rows128>(OPERANDS, RESULTS);
}
