// out = float32(code) * scale, rounded to OUTPUT. The contract is that of dequantize in
// reference/int8_quantize.py; no dialect changes it.
//
// Defines: OUTPUT (format of out), VECTOR (elements per thread and step: 16 bytes of out where
// addresses and K allow). Geometry as in int8_quantize.cu.

#include "formats.cuh"

extern "C" __global__ void __launch_bounds__(1024) dequantize(
    const signed char* __restrict__ codes,        // s8 (M, K)
    const float* __restrict__ scales,             // fp32 (S,), S = 1 or M
    Storage<OUTPUT>::type* __restrict__ out,      // OUTPUT (M, K)
    int M, int K, int S) {
    const int row = blockIdx.x * blockDim.y + threadIdx.y;
    if (row >= M) return;
    const float scale = scales[S == 1 ? 0 : row];
    codes += static_cast<size_t>(row) * K;
    out += static_cast<size_t>(row) * K;
    for (int v = threadIdx.x; v < K / VECTOR; v += blockDim.x) {
        const Pack<VECTOR> packed = Pack<VECTOR>::load(codes + v * VECTOR);
        float value[VECTOR];
#pragma unroll
        for (int i = 0; i < VECTOR; i++)
            value[i] = __fmul_rn(__int2float_rn(code_at(packed, i)), scale);
        pack_floats<OUTPUT>(value).store(out + v * VECTOR);
    }
}
