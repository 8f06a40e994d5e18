// A tile of a @ b.T with a scale per row and group of G elements along K: what the GEMMs of
// int8_gemm_group.cu have in common, and the tensor core pipeline of tile_mma.cuh with an fp32 sum
// over groups beside its int32 sums. There a group is a whole number of mma steps: G % 32 == 0.
//
// cp.async brings a group's scales with the last codes of the group, into the same stage, so that
// they land together:
//
//     scales of a stage:   of a group that ends in its codes 0-31  | in its codes 32-63
//                          a's rows, b's rows                      | a's rows, b's rows
//
// Defines: COPY as in tile.cuh, 16 for the pipeline; GROUP_EPILOGUE_RULE, one of GroupEpilogue.
#pragma once

#include "tile_store.cuh"

enum GroupEpilogue {
    SUM_ACC_SB_SA = 0,      // "sum+acc*sB*sA"
    FMA_ACC_SA_SB_SUM = 1,  // "fma(acc*sA, sB, sum)"
};

// One group's sum, converted to fp32, onto the sum of the groups before.
__device__ inline float add_group(float total, float acc, float a_scale, float b_scale) {
    if (GROUP_EPILOGUE_RULE == FMA_ACC_SA_SB_SUM)
        return __fmaf_rn(__fmul_rn(acc, a_scale), b_scale, total);
    return __fadd_rn(total, __fmul_rn(__fmul_rn(acc, b_scale), a_scale));
}

// The epilogue, as tile_results.cuh describes one: sums over groups, handed over as their bits,
// plus the bias. Without one -0 is added: x + -0 is x for every x, -0 and NaN included.
template <int FORMAT> struct GroupResults {
    using Output = typename Storage<FORMAT>::type;

    Output* __restrict__ out;        // FORMAT (M, N)
    const float* __restrict__ bias;  // fp32 (N,) or null
    int M, N;

    __device__ int row(int) const { return 0; }
    __device__ float column(int n) const { return bias && n < N ? bias[n] : -0.0f; }

    template <int COUNT>
    __device__ auto finish(
        const int (&bits)[COUNT], int, const float (&added)[COUNT]) const {
        float value[COUNT];
#pragma unroll
        for (int i = 0; i < COUNT; i++) value[i] = __fadd_rn(__int_as_float(bits[i]), added[i]);
        return pack_floats<FORMAT>(value);
    }
};

// Calls store(results) with out's format.
template <class Store>
__device__ void store_as(
    int format, void* out, const float* bias, int M, int N, const Store& store) {
    if (format == FP32)
        store(GroupResults<FP32>{static_cast<float*>(out), bias, M, N});
    else if (format == FP16)
        store(GroupResults<FP16>{static_cast<unsigned short*>(out), bias, M, N});
    else
        store(GroupResults<BF16>{static_cast<unsigned short*>(out), bias, M, N});
}

constexpr int STEP = 32;  // codes of an mma

// Accumulators that start at these bits are, up to |sum| = 2^22, the bits of the float
// 1.5 * 2^23 + sum, so that one subtraction makes them floats: sm_80 has no fast conversion (its
// I2F is not the I2FP of later chips). Up to G = 256 every sum of s8 products lies within.
constexpr int EXACT_G = 256;
constexpr int EXACT_BITS = 0x4b400000;
constexpr float EXACT = 12582912.0f;

// A thread's sums over groups, in the layout of its accumulators.
template <class S> using Totals = float[S::WARP_ROWS / 16][S::WARP_COLUMNS / 8][4];

// Where in its group a walk along K is.
struct Walk {
    int G, left, group;

    __device__ explicit Walk(int G) : G(G), left(G), group(0) {}

    // STEP codes on: whether they end their group.
    __device__ bool ends() {
        left -= STEP;
        if (left > 0) return false;
        left = G;
        group++;
        return true;
    }
};

// The scales of a tile's rows.
template <class S> struct TileScales {
    static constexpr int COUNT = S::ROWS + MMA_COLUMNS;  // of a group
    static constexpr int STAGE = DEPTH / STEP * COUNT;

    const float* __restrict__ a;  // fp32 (M, Q), from the tile's first row on
    const float* __restrict__ b;  // fp32 (N, Q), likewise
    int a_rows, b_rows, Q;

    // Sends the scales of the groups that end in a stage on their way.
    __device__ void fill(float* stage, Walk& walk) const {
#pragma unroll
        for (int half = 0; half < DEPTH / STEP; half++)
            if (walk.ends() && walk.group <= Q) copy(stage + half * COUNT, walk.group - 1);
    }

    __device__ void copy(float* to, int group) const {
#pragma unroll
        for (int turn = 0; turn < COUNT; turn += MMA_THREADS) {
            const int i = turn + threadIdx.x;
            if (i >= COUNT) return;
            const bool of_a = i < S::ROWS;
            const int row = of_a ? i : i - S::ROWS;
            const float* from = (of_a ? a : b) + static_cast<size_t>(row) * Q + group;
            asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(
                             shared_address(to + i)),
                         "l"(from), "r"(row < (of_a ? a_rows : b_rows) ? 4 : 0)
                         : "memory");
        }
    }
};

// As multiply_add, from `start` in every sum instead of c.
__device__ inline void multiply_onto(
    int (&c)[4], int start, const unsigned (&a)[4], unsigned b0, unsigned b1) {
    asm("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
        "{%8, %9}, {%10, %10, %10, %10};"
        : "=r"(c[0]), "=r"(c[1]), "=r"(c[2]), "=r"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1), "r"(start));
}

// One warp's accumulators and their sums.
template <class S> struct GroupTile {
    WarpTile<S> tile;
    Sums<S> acc;
    Totals<S> total;
    int start;   // what acc starts from
    bool fresh;  // whether it does so with the next mma

    __device__ explicit GroupTile(int G)
        : total{}, start(G <= EXACT_G ? EXACT_BITS : 0), fresh(true) {}

    // acc += the product of codes STEP * half .. of a stage.
    __device__ void multiply(const signed char* stage, int half) {
        const unsigned base = shared_address(stage);
        unsigned x[S::WARP_ROWS / 16][4], y[S::WARP_COLUMNS / 16][4];
#pragma unroll
        for (int i = 0; i < S::WARP_ROWS / 16; i++)
            load_matrices(x[i], base + tile.a[half] + 16 * i * DEPTH);
#pragma unroll
        for (int j = 0; j < S::WARP_COLUMNS / 16; j++)
            load_matrices(y[j], base + tile.b[half] + 16 * j * DEPTH);
        if (fresh) multiply<true>(x, y);
        else multiply<false>(x, y);
        fresh = false;
    }

    template <bool FRESH>
    __device__ void multiply(
        const unsigned (&x)[S::WARP_ROWS / 16][4], const unsigned (&y)[S::WARP_COLUMNS / 16][4]) {
#pragma unroll
        for (int i = 0; i < S::WARP_ROWS / 16; i++)
#pragma unroll
            for (int j = 0; j < S::WARP_COLUMNS / 8; j++) {
                const unsigned* of = &y[j / 2][j % 2 * 2];
                if (FRESH) multiply_onto(acc[i][j], start, x[i], of[0], of[1]);
                else multiply_add(acc[i][j], x[i], of[0], of[1]);
            }
    }

    // The group that has ended is added, and acc starts anew. scales: a's rows, then b's.
    __device__ void finish(const float* scales) {
        if (start != 0) add<true>(scales);
        else add<false>(scales);
        fresh = true;
    }

    template <bool BITS> __device__ void add(const float* scales) {
        const int lane = threadIdx.x % 32;
        const float* a_scales = scales + S::warp_row() + lane / 4;
        const float* b_scales = scales + S::ROWS + S::warp_column() + lane % 4 * 2;
#pragma unroll
        for (int j = 0; j < S::WARP_COLUMNS / 8; j++) {
            const float2 b_scale = *reinterpret_cast<const float2*>(b_scales + 8 * j);
#pragma unroll
            for (int i = 0; i < S::WARP_ROWS / 16; i++)
#pragma unroll
                for (int part = 0; part < 4; part++) {
                    const int sum = acc[i][j][part];
                    const float wide =
                        BITS ? __fsub_rn(__int_as_float(sum), EXACT) : __int2float_rn(sum);
                    total[i][j][part] = add_group(
                        total[i][j][part], wide, a_scales[16 * i + part / 2 * 8],
                        part % 2 ? b_scale.y : b_scale.x);
                }
        }
    }
};

// total += the sums of all groups, in ascending order.
template <class S>
__device__ void multiply_groups(
    signed char* stages, float* scales, const CodeRows& a_rows, const CodeRows& b_rows,
    const TileScales<S>& of, int G, GroupTile<S>& tile) {
    constexpr int DEEP = S::STAGES;
    const Feed<S::ROWS> a(a_rows);
    const Feed<MMA_COLUMNS> b(b_rows);
    const int K = a_rows.K;
    Walk filled(G), done(G);
    const auto fill = [&](int stage, int k) {
        of.fill(scales + stage * of.STAGE, filled);
        fill_stage<S>(stages + stage * S::STAGE_BYTES, a, b, k, K);
    };
#pragma unroll 1
    for (int s = 0; s < DEEP - 1; s++) fill(s, s * DEPTH);
    int full = 0, empty = DEEP - 1;
    for (int k = 0; k < K; k += DEPTH) {
        await_stage<DEEP>();
        fill(empty, k + (DEEP - 1) * DEPTH);
#pragma unroll
        for (int half = 0; half < DEPTH / STEP; half++) {
            if (k + half * STEP >= K) break;
            tile.multiply(stages + full * S::STAGE_BYTES, half);
            if (done.ends()) tile.finish(scales + full * of.STAGE + half * of.COUNT);
        }
        full = full + 1 == DEEP ? 0 : full + 1;
        empty = empty + 1 == DEEP ? 0 : empty + 1;
    }
}

// Stores a tile's sums; words: shared memory, where the stages were.
template <class S, class Epilogue>
__device__ void hand_out_to(
    int* words, const Sums<S>& bits, const Place& at, const Epilogue& to) {
    constexpr int COLUMN_WORDS = TileColumns<Epilogue>::WORDS * MMA_COLUMNS;
    static_assert(4 * (SLABS<S> + COLUMN_WORDS) <= S::BYTES, "columns fit beside the slabs");
    hand_out<S>(words, bits, at, Direct<Epilogue>(to, words + SLABS<S>));
}

// The whole kernel: a block per tile.
template <class S>
__device__ void pipelined_groups(
    const Operands& operands, const float* a_scales, const float* b_scales, const float* bias,
    void* out, int Q, int G, int format) {
    __shared__ __align__(128) signed char stages[S::BYTES];
    __shared__ __align__(16) float scales[S::STAGES * TileScales<S>::STAGE];
    const Place at = place<S::ROWS, MMA_COLUMNS>(blockIdx.x, operands.M, operands.N);
    const CodeRows a_rows = operands.a_rows(at), b_rows = operands.b_rows(at);
    const TileScales<S> of = {
        a_scales + static_cast<size_t>(at.m) * Q, b_scales + static_cast<size_t>(at.n) * Q,
        a_rows.rows, b_rows.rows, Q};
    GroupTile<S> tile(G);
    multiply_groups<S>(stages, scales, a_rows, b_rows, of, G, tile);
#pragma unroll
    for (int i = 0; i < S::WARP_ROWS / 16; i++)
#pragma unroll
        for (int j = 0; j < S::WARP_COLUMNS / 8; j++)
#pragma unroll
            for (int part = 0; part < 4; part++)
                tile.acc[i][j][part] = __float_as_int(tile.total[i][j][part]);
    store_as(format, out, bias, operands.M, operands.N, [&](const auto& results) {
        hand_out_to<S>(reinterpret_cast<int*>(stages), tile.acc, at, results);
    });
}
