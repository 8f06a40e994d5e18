// The W8A8 linear layer in one launch: each block quantizes its rows of x on the way into shared
// memory, multiplies them with the weights by dp4a and dequantizes. Bit for bit the composition of
// quantize_rows, gemm_dp4a and epilogue; the contract is that of reference/int8_linear.py.
//
// Every block of a row tile reads x twice (once for the amax, once for the codes) and derives the
// same scales, so that no block waits for another.
//
// Defines: INPUT (format of x), the dialect's rules, VECTOR (elements per load of x), COPY (bytes
// per load of w_codes).

#include "reduce.cuh"
#include "tile_dp4a.cuh"

using Elements = Pack<VECTOR * sizeof(Input)>;

// 16 elements of a row to codes; zeros beyond K.
template <bool FAST>
__device__ Pack<16> quantize_chunk(const Input* x, int k, int K, const Multiplier& m) {
    int code[16];
#pragma unroll
    for (int v = 0; v < 16; v += VECTOR) {
        const Elements elements = k + v < K ? Elements::load(x + k + v) : Elements{};
#pragma unroll
        for (int i = 0; i < VECTOR; i++)
            code[v + i] = quantize_dynamic<FAST>(element<INPUT>(elements, i), m);
    }
    return pack_codes(code);
}

// The rows of x that one block works on, as codes.
struct QuantizedRows {
    const Input* x;                 // INPUT (rows, K), from the block's first row on
    const Multiplier* multipliers;  // one per row of the tile
    int rows, K;

    __device__ Pack<16> chunk(int row, int k) const {
        if (row >= rows || k >= K) return Pack<16>{};
        const Input* from = x + static_cast<size_t>(row) * K;
        const Multiplier m = multipliers[row];
        return fast_dynamic(m) ? quantize_chunk<true>(from, k, K, m)
                               : quantize_chunk<false>(from, k, K, m);
    }
};

// One warp per row in turn: amax, then the row's multiplier.
__device__ inline void find_multipliers(const Input* x, int rows, int K, Multiplier* multipliers) {
    for (int row = threadIdx.x / 32; row < min(rows, TILE); row += TILE_THREADS / 32) {
        const Input* from = x + static_cast<size_t>(row) * K;
        unsigned amax = 0;
        for (int k = threadIdx.x % 32 * VECTOR; k < K; k += 32 * VECTOR) {
            const Elements elements = Elements::load(from + k);
#pragma unroll
            for (int i = 0; i < VECTOR; i++)
                amax = absolute_maximum(amax, element<INPUT>(elements, i));
        }
        const Multiplier m = make_multiplier(warp_maximum(amax));
        if (threadIdx.x % 32 == 0) multipliers[row] = m;
    }
}

// The dequant epilogue to a Format that is known when the kernel runs.
struct LinearResults {
    void* __restrict__ out;  // format (M, N)
    int M, N, format;
    Scales scales;  // a: null

    __device__ Column column(int n) const { return scales.column(n, N); }
};

// Stores one result, if it is there.
__device__ inline void put_one(
    const LinearResults& to, int m, int n, int acc, const RowScale& row, const Column& column) {
    if (m >= to.M || n >= to.N) return;
    const float value = dequantize_accumulator(acc, row, column.scale, column.bias);
    const size_t at = static_cast<size_t>(m) * to.N + n;
    if (to.format == FP32) static_cast<float*>(to.out)[at] = value;
    else
        static_cast<unsigned short*>(to.out)[at] =
            to.format == FP16 ? float_to_fp16(value) : float_to_bf16(value);
}

extern "C" __global__ void __launch_bounds__(TILE_THREADS, 2) linear_prologue(
    const Input* __restrict__ x,              // INPUT (M, K)
    const signed char* __restrict__ w_codes,  // s8 (N, K)
    const float* __restrict__ w_scales,       // fp32 (N,) or (1,)
    const float* __restrict__ bias,           // fp32 (N,) or null
    void* __restrict__ out,                   // format (M, N)
    int M, int N, int K,
    int w_stride,  // of the scales: 1, or 0 for (1,)
    int format) {
    __shared__ Multiplier multipliers[TILE];
    const Place at = place<TILE, TILE>(blockIdx.x, M, N);
    x += static_cast<size_t>(at.m) * K;
    find_multipliers(x, M - at.m, K, multipliers);
    __syncthreads();

    const QuantizedRows x_rows = {x, multipliers, M - at.m, K};
    const CodeRows w_rows = Operands{nullptr, w_codes, M, N, K}.b_rows(at);
    int acc[4][4] = {};
    multiply_tile(x_rows, w_rows, K, acc);

    const Scales scales = {nullptr, w_scales, bias, 0, w_stride, EPILOGUE_RULE};
    put_tile(LinearResults{out, M, N, format, scales}, at, acc, [&](int m) {
        return RowScale(EPILOGUE_RULE, m < M ? multipliers[m - at.m].scale : 0.0f);
    });
}
