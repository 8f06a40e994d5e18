// RMSNorm and LayerNorm with INT8 output. The contract is that of reference/int8_norm.py, in the
// dialect that the defines name: sums in "lanes of 8", every operation rounded once to fp32.
//
// Defines: INPUT (format of x, residual, weight, bias and sum), the dialect's <FIELD>_RULEs, VECTOR
// (elements that go at once, chunk.cuh).
//
// Geometry: blockDim = (T lanes of a row, rows of a block); one row per block where T > 32. A lane
// keeps its chunks of a row in registers as fp32, x at first and then z, so that x is read once.
// Where there are more than KEPT of them (K > 32768), and where accesses are narrow, x is streamed:
// read again in every pass, from L2. Weight and bias are read by every row: from L1 and L2.

#include "chunk.cuh"
#include "dialect.cuh"
#include "reductions.cuh"

constexpr int KEPT = 4;
constexpr bool KEEPS = VECTOR == 8;

enum Norm { RMS, ADD_RMS, LAYER };

enum Intermediate {
    STEPS_IN_FP32 = 0,   // "fp32"
    STEPS_IN_INPUT = 1,  // "input"
};

// The arrays and the number of one row in them; those that a norm has not are null.
struct Row {
    const Input *x, *residual, *weight, *bias;
    Input* sum;
    signed char* codes;
    int number, K;

    // number * K, computed anew: as lane_of_row.
    __device__ long long start() const {
        long long first;
        asm volatile("mul.wide.s32 %0, %1, %2;" : "=l"(first) : "r"(number), "r"(K));
        return first;
    }
};

// What a row's elements are normalised by.
struct Statistics {
    float mean;     // 0 for RMSNorm
    float inverse;  // 1 / sqrt(mean square + eps)
};

__device__ inline float through_input(float value) {
    if (INPUT == FP16) return fp16_to_float(float_to_fp16(value));
    if (INPUT == BF16) return __uint_as_float(float_to_bf16(value) << 16);
    return value;
}

// threadIdx.x, read anew: what follows from it need not be kept in registers between the passes.
__device__ inline int lane_of_row() {
    int lane;
    asm volatile("mov.u32 %0, %%tid.x;" : "=r"(lane));
    return lane;
}

// One step's result as the dialect keeps it.
__device__ inline float step(float value) {
    return INTERMEDIATE_RULE == STEPS_IN_INPUT ? through_input(value) : value;
}

// A chunk of what is normalised; ADD_RMS also stores it if STORES.
template <Norm NORM, bool STORES>
__device__ void read_chunk(const Row& row, int chunk, float (&x)[CHUNK]) {
    load_parts<INPUT, VECTOR>(row.x + row.start(), chunk, row.K, x);
    if constexpr (NORM == ADD_RMS) {
        float residual[CHUNK];
        load_parts<INPUT, VECTOR>(row.residual + row.start(), chunk, row.K, residual);
#pragma unroll
        for (int i = 0; i < CHUNK; i++) x[i] = through_input(__fadd_rn(x[i], residual[i]));
        if (STORES) store_parts<INPUT, VECTOR>(row.sum + row.start(), chunk, row.K, x);
    }
    own_chunk<INPUT, VECTOR>(x);
}

// Elements beyond the row are 0: they change no sum, which is never -0.
__device__ inline float add_elements(float sum, const float (&x)[CHUNK]) {
#pragma unroll
    for (int i = 0; i < CHUNK; i++) sum = __fadd_rn(sum, x[i]);
    return sum;
}

template <Norm NORM> __device__ float centred(float x, float mean) {
    return NORM == LAYER ? __fsub_rn(x, mean) : x;
}

template <Norm NORM>
__device__ float add_squares(float sum, const Row& row, int chunk, float mean,
                             const float (&x)[CHUNK]) {
#pragma unroll
    for (int i = 0; i < CHUNK; i++) {
        const bool counts = NORM != LAYER || inside<VECTOR>(chunk, i, row.K);
        const float d = counts ? centred<NORM>(x[i], mean) : 0.0f;
        sum = __fmaf_rn(d, d, sum);
    }
    return sum;
}

// x becomes z; what it becomes beyond the row has no meaning.
template <Norm NORM>
__device__ void normalize(const Row& row, int chunk, const Statistics& s, float (&x)[CHUNK]) {
    float weight[CHUNK];
    load_chunk<INPUT, VECTOR>(row.weight, chunk, row.K, weight);
#pragma unroll
    for (int i = 0; i < CHUNK; i++) {
        const float y = step(__fmul_rn(centred<NORM>(x[i], s.mean), s.inverse));
        x[i] = step(__fmul_rn(y, weight[i]));
    }
    if constexpr (NORM == LAYER) {
        float bias[CHUNK];
        load_chunk<INPUT, VECTOR>(row.bias, chunk, row.K, bias);
#pragma unroll
        for (int i = 0; i < CHUNK; i++) x[i] = step(__fadd_rn(x[i], bias[i]));
    }
}

__device__ inline unsigned largest_of(
    unsigned amax, const Row& row, int chunk, const float (&z)[CHUNK]) {
#pragma unroll
    for (int i = 0; i < CHUNK; i++)
        if (inside<VECTOR>(chunk, i, row.K)) amax = absolute_maximum(amax, z[i]);
    return amax;
}

template <bool FAST, bool GIVEN>
__device__ void quantize(
    const Row& row, int chunk, const Multiplier& m, const float (&z)[CHUNK]) {
    int code[CHUNK];
#pragma unroll
    for (int i = 0; i < CHUNK; i++)
        code[i] = GIVEN ? quantize_given<FAST>(z[i], m) : quantize_dynamic<FAST>(z[i], m);
    store_codes<VECTOR>(row.codes + row.start(), chunk, row.K, code);
}

// A lane's chunks in registers: x as read, then z once a visitor has made it so.
template <Norm NORM> struct Kept {
    static constexpr bool WARPS = false;  // a row may have one

    const Row& row;
    float chunk[KEPT][CHUNK];

    // Loads of IN_FLIGHT chunks are issued together: fewer where two arrays of fp32 are read, for
    // which there are not the registers.
    static constexpr int IN_FLIGHT = NORM == ADD_RMS && INPUT == FP32 ? KEPT / 2 : KEPT;

    __device__ explicit Kept(const Row& of) : row(of), chunk{} {
        const int T = blockDim.x;
#pragma unroll
        for (int first = 0; first < KEPT; first += IN_FLIGHT) {
            if (first > 0 && first * T * CHUNK >= row.K) break;
#pragma unroll
            for (int i = first; i < first + IN_FLIGHT; i++)
                read_chunk<NORM, true>(row, i * T + lane_of_row(), chunk[i]);
        }
    }

    // visit(number of the chunk, its elements) for each, in order.
    template <bool FIRST, typename Visitor> __device__ void each(Visitor visit) {
#pragma unroll
        for (int i = 0; i < KEPT; i++) visit(i * blockDim.x + lane_of_row(), chunk[i]);
    }
};

// The same from memory, x every time.
template <Norm NORM> struct Streamed {
    static constexpr bool WARPS = KEEPS;  // then streamed rows are long

    const Row& row;

    template <bool FIRST, typename Visitor> __device__ void each(Visitor visit) {
        int first = 0;
#pragma unroll 1
        do {
            float x[CHUNK];
            read_chunk<NORM, FIRST>(row, first + lane_of_row(), x);
            visit(first + lane_of_row(), x);
            first += blockDim.x;
        } while (first * CHUNK < row.K);
    }
};

template <Norm NORM, typename Chunks>
__device__ Statistics statistics(Chunks& chunks, const Row& row, float eps) {
    const float K = __int2float_rn(row.K);
    Statistics s = {};
    if constexpr (NORM == LAYER) {
        float sum = 0.0f;
        chunks.template each<true>(
            [&](int, const float(&x)[CHUNK]) { sum = add_elements(sum, x); });
        s.mean = __fdiv_rn(row_sum<0, Chunks::WARPS>(sum), K);
    }
    float squares = 0.0f;
    chunks.template each<true>([&](int chunk, const float(&x)[CHUNK]) {
        squares = add_squares<NORM>(squares, row, chunk, s.mean, x);
    });
    const float mean_square = __fdiv_rn(row_sum<1, Chunks::WARPS>(squares), K);
    s.inverse = __fdiv_rn(1.0f, __fsqrt_rn(__fadd_rn(mean_square, eps)));
    return s;
}

// The multiplier by the row's own z.
template <Norm NORM, typename Chunks>
__device__ Multiplier own_multiplier(Chunks& chunks, const Row& row, const Statistics& s) {
    unsigned amax = 0;
    chunks.template each<false>([&](int chunk, float(&x)[CHUNK]) {
        normalize<NORM>(row, chunk, s, x);
        amax = largest_of(amax, row, chunk, x);
    });
    return make_multiplier(row_maximum<Chunks::WARPS>(amax));
}

template <Norm NORM, bool FAST, bool GIVEN>
__device__ void quantize_streamed(const Row& row, const Statistics& s, const Multiplier& m) {
    Streamed<NORM>{row}.template each<false>([&](int chunk, float(&x)[CHUNK]) {
        normalize<NORM>(row, chunk, s, x);
        quantize<FAST, GIVEN>(row, chunk, m, x);
    });
}

// One row. given: fp32 (1,), the scale, if GIVEN; else scale is where the row's own goes.
template <Norm NORM, bool GIVEN>
__device__ void norm_row(const Row& row, float eps, const float* given, float* scale) {
    const auto multiplier = [&](auto& chunks, const Statistics& s) {
        if constexpr (GIVEN) {
            const float mine = lane_of_row() % 32 == 0 ? *given : 0.0f;  // one load a warp
            return static_multiplier(__shfl_sync(WHOLE_WARP, mine, 0));
        }
        const Multiplier own = own_multiplier<NORM>(chunks, row, s);
        if (lane_of_row() == 0) *scale = own.scale;
        return own;
    };
    Statistics s;
    Multiplier m;
    bool kept = false;
    if constexpr (KEEPS) {
        kept = row.K <= KEPT * CHUNK * static_cast<int>(blockDim.x);
        if (kept) {
            Kept<NORM> chunks(row);
            s = statistics<NORM>(chunks, row, eps);
            m = multiplier(chunks, s);
            if (GIVEN ? fast_given(m) : fast_dynamic(m)) {
                chunks.template each<false>([&](int chunk, float(&z)[CHUNK]) {
                    if (GIVEN) normalize<NORM>(row, chunk, s, z);
                    quantize<true, GIVEN>(row, chunk, m, z);
                });
                return;
            }
        }
    }
    if (!kept) {
        Streamed<NORM> chunks = {row};
        s = statistics<NORM>(chunks, row, eps);
        m = multiplier(chunks, s);
        if (GIVEN ? fast_given(m) : fast_dynamic(m)) {
            quantize_streamed<NORM, true, GIVEN>(row, s, m);
            return;
        }
    }
    quantize_streamed<NORM, false, GIVEN>(row, s, m);  // rare: zero, subnormal, infinite, NaN rows
}

// x, residual, sum: INPUT (M, K); weight, bias: INPUT (K,); given: fp32 (1,); codes: s8 (M, K);
// scales: fp32 (M,). Arrays that a kernel has not are null.
#define NORM_KERNEL(NAME, NORM, GIVEN)                                                           \
    extern "C" __global__ void __launch_bounds__(1024, KEEPS ? 0 : 1) NAME(                      \
        const Input* __restrict__ x, const Input* __restrict__ residual,                         \
        const Input* __restrict__ weight, const Input* __restrict__ bias,                        \
        const float* __restrict__ given, signed char* __restrict__ codes,                        \
        float* __restrict__ scales, Input* __restrict__ sum, float eps, int M, int K) {          \
        const int row = blockIdx.x * blockDim.y + threadIdx.y;                                   \
        if (row >= M) return;                                                                    \
        const Row arrays = {x, residual, weight, bias, sum, codes, row, K};                      \
        norm_row<NORM, GIVEN>(arrays, eps, given, scales + row);                                 \
    }

NORM_KERNEL(rms_norm_quantize, RMS, false)
NORM_KERNEL(rms_norm_quantize_static, RMS, true)
NORM_KERNEL(add_rms_norm_quantize, ADD_RMS, false)
NORM_KERNEL(add_rms_norm_quantize_static, ADD_RMS, true)
NORM_KERNEL(layer_norm_quantize, LAYER, false)
NORM_KERNEL(layer_norm_quantize_static, LAYER, true)
