// out = float32(code - zero point) * scale, rounded to OUTPUT. The contract is that of
// asymmetric_dequantize in reference/int8_asymmetric.py.
//
// Defines: OUTPUT (format of out), VECTOR (elements per thread and step: 16 bytes of out where
// addresses and row length allow), AZP_DIFFERENCE_RULE. Rows and geometry: rows.cuh.

#include "formats.cuh"
#include "rows.cuh"

enum AzpDifference {
    IN_INT32 = 0,   // "int32"
    IN_OUTPUT = 1,  // "output"
};

extern "C" __global__ void __launch_bounds__(1024) asymmetric_dequantize(
    const unsigned char* __restrict__ codes,  // u8 or the bits of s8 (rows, length)
    const float* __restrict__ scales,         // fp32 (given,)
    const int* __restrict__ zero_points,      // s32 (given,)
    Storage<OUTPUT>::type* __restrict__ out,  // OUTPUT (rows, length)
    unsigned rows, int length, int lowest, unsigned given) {
    const unsigned row = row_of_thread(), at = row % given;
    const int vectors = row < rows ? length / VECTOR : 0;
    const auto both = for_row(scales + at, zero_points + at);
    // A code less the lowest one is 0..255: for s8 its byte with the sign bit turned.
    const unsigned turned = lowest ? 0x80808080u : 0u;
    const unsigned zero = static_cast<unsigned>(both.second) - static_cast<unsigned>(lowest);
    const float shift = through<OUTPUT>(__int2float_rn(both.second));
    codes += row_start(row, length);
    out += row_start(row, length);
    for (int v = threadIdx.x; v < vectors; v += blockDim.x) {
        const Pack<VECTOR> packed = Pack<VECTOR>::load(codes + v * VECTOR);
        float value[VECTOR];
#pragma unroll
        for (int i = 0; i < VECTOR; i++) {
            const unsigned code = (packed.word[i / 4] ^ turned) >> (i % 4 * 8) & 0xffu;
            const float whole = __int2float_rn(static_cast<int>(code) + lowest);
            const float steps = AZP_DIFFERENCE_RULE == IN_OUTPUT
                                    ? through<OUTPUT>(__fsub_rn(whole, shift))
                                    : __int2float_rn(static_cast<int>(code - zero));
            value[i] = __fmul_rn(steps, both.first);
        }
        pack_floats<OUTPUT>(value).store(out + v * VECTOR);
    }
}
