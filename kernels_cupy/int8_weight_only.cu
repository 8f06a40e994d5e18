// x @ w.T + bias with w in INT8 and x in floats, for few rows of x (decode). The contract is that
// of reference/int8_weight_only.py: w = code * scale of its group, in the dialect's precision, then
// fma chains in "lanes of 8" with 32 lanes, joined by a butterfly, whatever the widths below.
//
//     weight_only_1, _4, _8    a warp has 1, 4 or 8 rows of x and COLUMNS rows of w: each weight
//                              is read, and dequantized, once for these rows of x
//
// Lane l of a warp has chunks l, l + 32, ... of 8 neighbours of every row: 8 bytes of weights.
// Where groups hold whole chunks, the weights of STEPS chunks are on their way before the first is
// used; x comes from L1.
//
// Defines: INPUT (format of x), VECTOR (elements of x, and codes, per access: 8, 4 or 1),
// INTERMEDIATE_RULE.

#include "chunk.cuh"

enum Intermediate {
    WEIGHT_IN_FP32 = 0,   // "fp32"
    WEIGHT_IN_INPUT = 1,  // "input"
};

using Input = Storage<INPUT>::type;

constexpr int WARPS = 4;    // of a block
constexpr int COLUMNS = 4;  // rows of w that a warp has

// k / G for 0 <= k < 2^31 without a division; see the launcher.
struct Divider {
    unsigned multiplier;
    int shift;

    __device__ int operator()(int k) const {
        return (__umulhi(k, multiplier) + static_cast<unsigned>(k)) >> shift;
    }
};

// A warp's rows of w. Beyond the matrix's last row they are that row: computed, not stored.
struct WeightRows {
    const signed char* codes[COLUMNS];  // s8 (K,) each
    const float* scales[COLUMNS];       // fp32 (Q,) each
    Divider group;
    unsigned exact;  // EXACT, from a parameter: as a constant it would cost a move for every code

    __device__ WeightRows(
        const signed char* w_codes, const float* w_scales, int n0, int N, int K, int Q,
        const Divider& group, unsigned exact)
        : group(group), exact(exact) {
#pragma unroll
        for (int c = 0; c < COLUMNS; c++) {
            const size_t n = min(n0 + c, N - 1);
            codes[c] = w_codes + n * K;
            scales[c] = w_scales + n * Q;
        }
    }
};

// A warp's rows of x, likewise.
template <int ROWS> struct InputRows {
    const Input* x[ROWS];  // INPUT (K,) each

    __device__ InputRows(const Input* from, int m0, int M, int K) {
#pragma unroll
        for (int r = 0; r < ROWS; r++)
            x[r] = from + static_cast<size_t>(min(m0 + r, M - 1)) * K;
    }
};

// A code exactly: its byte plus 128 as the last bits of 2^23, which fp32 holds without a gap.
constexpr float EXACT_ZERO = 8388608.0f + 128.0f;

__device__ inline float code_to_float(const Pack<CHUNK>& codes, int i, unsigned exact) {
    const unsigned shifted = codes.word[i / 4] ^ 0x80808080u;
    return __fsub_rn(__uint_as_float(__byte_perm(shifted, exact, 0x7540 + i % 4)), EXACT_ZERO);
}

// Weights as the dialect keeps them: two at a time rounded to x's format, and fp32 again.
__device__ inline void keep(float (&weight)[CHUNK]) {
    if constexpr (INTERMEDIATE_RULE == WEIGHT_IN_INPUT && INPUT != FP32) {
#pragma unroll
        for (int i = 0; i < CHUNK; i += 2) {
            unsigned bits;
            if (INPUT == FP16)
                asm("cvt.rn.f16x2.f32 %0, %1, %2;"
                    : "=r"(bits)
                    : "f"(weight[i + 1]), "f"(weight[i]));
            else
                asm("cvt.rn.bf16x2.f32 %0, %1, %2;"
                    : "=r"(bits)
                    : "f"(weight[i + 1]), "f"(weight[i]));
            const Pack<4> pair = {bits};
            weight[i] = element<INPUT>(pair, 0);
            weight[i + 1] = element<INPUT>(pair, 1);
        }
    }
}

// STEPS rounds of chunks, all of which exist, in groups of whole chunks. chunk: this lane's first.
template <int ROWS, int STEPS>
__device__ void add_whole(
    const WeightRows& w, const InputRows<ROWS>& rows, int chunk, int K,
    float (&sum)[ROWS * COLUMNS]) {
    Pack<CHUNK> codes[STEPS][COLUMNS];
    float scale[STEPS][COLUMNS];
#pragma unroll
    for (int s = 0; s < STEPS; s++) {
        const int k = (chunk + 32 * s) * CHUNK, group = w.group(k);
#pragma unroll
        for (int c = 0; c < COLUMNS; c++) {
            codes[s][c] = Pack<CHUNK>::load(w.codes[c] + k);
            scale[s][c] = w.scales[c][group];
        }
    }
#pragma unroll
    for (int s = 0; s < STEPS; s++) {
        float weight[COLUMNS][CHUNK];
#pragma unroll
        for (int c = 0; c < COLUMNS; c++) {
#pragma unroll
            for (int i = 0; i < CHUNK; i++)
                weight[c][i] =
                    __fmul_rn(code_to_float(codes[s][c], i, w.exact), scale[s][c]);
            keep(weight[c]);
        }
#pragma unroll
        for (int r = 0; r < ROWS; r++) {
            float value[CHUNK];
            load_chunk<INPUT, VECTOR>(rows.x[r], chunk + 32 * s, K, value);
#pragma unroll
            for (int c = 0; c < COLUMNS; c++)
#pragma unroll
                for (int i = 0; i < CHUNK; i++)
                    sum[r * COLUMNS + c] =
                        __fmaf_rn(value[i], weight[c][i], sum[r * COLUMNS + c]);
        }
    }
}

// One round of chunks, of which some may be cut short or missing, in groups of any size.
template <int ROWS>
__device__ void add_part(
    const WeightRows& w, const InputRows<ROWS>& rows, int chunk, int K,
    float (&sum)[ROWS * COLUMNS]) {
    float weight[COLUMNS][CHUNK] = {};
#pragma unroll
    for (int part = 0; part < CHUNK; part += VECTOR) {
        if (!inside<VECTOR>(chunk, part, K)) continue;
        const int k = chunk * CHUNK + part;
        Pack<VECTOR> codes[COLUMNS];
#pragma unroll
        for (int c = 0; c < COLUMNS; c++) codes[c] = Pack<VECTOR>::load(w.codes[c] + k);
#pragma unroll
        for (int i = 0; i < VECTOR; i++) {
            const int group = w.group(k + i);
#pragma unroll
            for (int c = 0; c < COLUMNS; c++)
                weight[c][part + i] =
                    __fmul_rn(__int2float_rn(code_at(codes[c], i)), w.scales[c][group]);
        }
    }
#pragma unroll
    for (int c = 0; c < COLUMNS; c++) keep(weight[c]);
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
        float value[CHUNK];
        load_chunk<INPUT, VECTOR>(rows.x[r], chunk, K, value);
#pragma unroll
        for (int i = 0; i < CHUNK; i++)
            if (inside<VECTOR>(chunk, i, K))
#pragma unroll
                for (int c = 0; c < COLUMNS; c++)
                    sum[r * COLUMNS + c] =
                        __fmaf_rn(value[i], weight[c][i], sum[r * COLUMNS + c]);
    }
}

// The butterfly over 32 lanes of COUNT sums (a power of two up to 32) at once: at each distance a
// lane keeps half of its sums and gives the others away, until it has one. Every sum is added in
// the order of a butterfly of its own. Lane l returns sum l / (32 / COUNT).
template <int COUNT, int APART = 16> __device__ float join(const float (&sum)[COUNT]) {
    const bool upper = threadIdx.x & APART;
    constexpr int LEFT = COUNT > 1 ? COUNT / 2 : 1;
    float joined[LEFT];
#pragma unroll
    for (int i = 0; i < LEFT; i++) {
        const float high = sum[COUNT > 1 ? i + LEFT : i];
        const float kept = upper ? high : sum[i], given = upper ? sum[i] : high;
        joined[i] = __fadd_rn(kept, __shfl_xor_sync(WHOLE_WARP, given, APART));
    }
    if constexpr (APART > 1) return join<LEFT, APART / 2>(joined);
    else return joined[0];
}

__device__ inline void store_as(int format, void* out, size_t at, float value) {
    const float one[1] = {value};
    if (format == FP32) pack_floats<FP32>(one).store(static_cast<float*>(out) + at);
    else if (format == FP16) pack_floats<FP16>(one).store(static_cast<unsigned short*>(out) + at);
    else pack_floats<BF16>(one).store(static_cast<unsigned short*>(out) + at);
}

template <int ROWS, int STEPS>
__device__ void weight_only(
    const Input* x, const signed char* w_codes, const float* w_scales, const float* bias, void* out,
    int M, int N, int K, int Q, const Divider& group, unsigned exact, int format) {
    constexpr int ROUND = 32 * CHUNK;  // columns that a warp's lanes have at once
    const int row_tiles = (M + ROWS - 1) / ROWS, lane = threadIdx.x % 32;
    const int m0 = blockIdx.x % row_tiles * ROWS;
    const int n0 = (blockIdx.x / row_tiles * WARPS + threadIdx.x / 32) * COLUMNS;
    if (n0 >= N) return;
    const WeightRows w(w_codes, w_scales, n0, N, K, Q, group, exact);
    const InputRows<ROWS> rows(x, m0, M, K);
    float sum[ROWS * COLUMNS] = {};
    int k = 0;
    if (VECTOR == CHUNK && K / Q % CHUNK == 0)
#pragma unroll 1
        for (; k <= K - STEPS * ROUND; k += STEPS * ROUND)
            add_whole<ROWS, STEPS>(w, rows, k / CHUNK + lane, K, sum);
#pragma unroll 1
    for (; k < K; k += ROUND) add_part<ROWS>(w, rows, k / CHUNK + lane, K, sum);

    const float total = join(sum);
    constexpr int SHARED = 32 / (ROWS * COLUMNS);  // lanes with the same sum
    const int m = m0 + lane / SHARED / COLUMNS, n = n0 + lane / SHARED % COLUMNS;
    if (lane % SHARED == 0 && m < M && n < N) {
        // x + -0 is x for every x, -0 and NaN included.
        const float added = __fadd_rn(total, bias ? bias[n] : -0.0f);
        store_as(format, out, static_cast<size_t>(m) * N + n, added);
    }
}

#define KERNEL(ROWS, STEPS, BLOCKS)                                                              \
    extern "C" __global__ void __launch_bounds__(32 * WARPS, BLOCKS) weight_only_##ROWS(         \
        const Input* __restrict__ x,              /* INPUT (M, K) */                             \
        const signed char* __restrict__ w_codes,  /* s8 (N, K) */                                \
        const float* __restrict__ w_scales,       /* fp32 (N, Q) */                              \
        const float* __restrict__ bias,           /* fp32 (N,) or null */                        \
        void* __restrict__ out,                   /* format (M, N) */                            \
        int M, int N, int K, int Q, unsigned multiplier, int shift, unsigned exact,              \
        int format) {                                                                            \
        weight_only<ROWS, STEPS>(                                                                \
            x, w_codes, w_scales, bias, out, M, N, K, Q, {multiplier, shift}, exact, format);    \
    }

KERNEL(1, 4, 4)
KERNEL(4, 2, 4)
KERNEL(8, 1, 3)
