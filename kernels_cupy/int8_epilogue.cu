// Accumulators to floats, per token and per channel. The contract is that of epilogue in
// reference/int8_gemm.py, in the dialect's order of operations.
//
// Defines: OUTPUT (format of out), EPILOGUE_RULE, VECTOR (4 where addresses and N allow, else 1).
// Geometry as in int8_quantize.cu: blockDim = (threads of a row, rows of a block).

#include "dialect.cuh"

using Columns = Pack<4 * VECTOR>;  // fp32 or s32 of VECTOR neighbouring columns

extern "C" __global__ void __launch_bounds__(1024) epilogue(
    const int* __restrict__ acc,               // s32 (M, N)
    const float* __restrict__ a_scales,        // fp32 (M,)
    const float* __restrict__ b_scales,        // fp32 (N,)
    const float* __restrict__ bias,            // fp32 (N,) or null
    Storage<OUTPUT>::type* __restrict__ out,   // OUTPUT (M, N)
    int M, int N) {
    const int row = blockIdx.x * blockDim.y + threadIdx.y;
    if (row >= M) return;
    const float a_scale = a_scales[row];
    acc += static_cast<size_t>(row) * N;
    out += static_cast<size_t>(row) * N;
    for (int v = threadIdx.x; v < N / VECTOR; v += blockDim.x) {
        const Columns sums = Columns::load(acc + v * VECTOR);
        const Columns scales = Columns::load(b_scales + v * VECTOR);
        Columns added;
        if (bias) added = Columns::load(bias + v * VECTOR);
        float value[VECTOR];
#pragma unroll
        for (int i = 0; i < VECTOR; i++)
            value[i] = dequantize_accumulator(
                static_cast<int>(sums.word[i]), a_scale, __uint_as_float(scales.word[i]),
                bias ? __uint_as_float(added.word[i]) : NO_BIAS);
        pack_floats<OUTPUT>(value).store(out + v * VECTOR);
    }
}
