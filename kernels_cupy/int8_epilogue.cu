// Accumulators to floats, per token and per channel. The contract is that of epilogue in
// reference/int8_gemm.py, in the dialect's order of operations.
//
// Defines: OUTPUT (format of out), VECTOR (4 where addresses and N allow, else 1).
// Geometry as in int8_quantize.cu: blockDim = (threads of a row, rows of a block).

#include "dialect.cuh"

using Columns = Pack<4 * VECTOR>;  // fp32 or s32 of VECTOR neighbouring columns

extern "C" __global__ void __launch_bounds__(1024) epilogue(
    const int* __restrict__ acc,              // s32 (M, N)
    const float* __restrict__ a_scales,       // fp32 (M,) or (1,)
    const float* __restrict__ b_scales,       // fp32 (N,) or (1,)
    const float* __restrict__ bias,           // fp32 (N,) or null
    Storage<OUTPUT>::type* __restrict__ out,  // OUTPUT (M, N)
    int M, int N,
    int a_stride, int b_stride,  // of the scales: 1, or 0 for (1,)
    int rule) {                  // the dialect's EPILOGUE_RULE
    const int row = blockIdx.x * blockDim.y + threadIdx.y;
    if (row >= M) return;
    const RowScale row_scale(rule, a_scales[static_cast<size_t>(row) * a_stride]);
    const unsigned shared_scale = __float_as_uint(b_scales[0]);
    acc += static_cast<size_t>(row) * N;
    out += static_cast<size_t>(row) * N;
    for (int v = threadIdx.x; v < N / VECTOR; v += blockDim.x) {
        const Columns sums = Columns::load(acc + v * VECTOR);
        Columns scales, added;
        if (b_stride) {
            scales = Columns::load(b_scales + v * VECTOR);
        } else {
#pragma unroll
            for (int i = 0; i < VECTOR; i++) scales.word[i] = shared_scale;
        }
        if (bias) added = Columns::load(bias + v * VECTOR);
        float value[VECTOR];
#pragma unroll
        for (int i = 0; i < VECTOR; i++)
            value[i] = dequantize_accumulator(
                static_cast<int>(sums.word[i]), row_scale, __uint_as_float(scales.word[i]),
                bias ? __uint_as_float(added.word[i]) : NO_BIAS);
        pack_floats<OUTPUT>(value).store(out + v * VECTOR);
    }
}
