// a @ w.T with packed weights, for few tokens: weights and activations go from memory straight to
// the registers that mma wants, 16 bytes a lane, with no shared memory in between. The contract is
// that of reference/int8_gemm_packed.py.
//
// A block has 16 rows of a and 16 columns; its warps take the 64-code chunks of K in turn, each on
// its own, and add up at the end. Lane l has rows l / 4 and l / 4 + 8 of a and column l / 4 of each
// panel, the same 16 codes of K for all: word w of the load is a fragment of mma w / 2, at its codes
// 0-15 (w even) or 16-31 (w odd). Which codes those are does not matter to a sum, as long as a and
// w agree.
//
// Defines: COPY as in tile.cuh, for a and packed; OUTPUT, the Format of out.

#include "tile_mma.cuh"
#include "tile_results.cuh"

constexpr int ROWS = 16, PANEL = 8, PANELS = 2;
constexpr int WARPS = 4;
constexpr int AHEAD = 4;                      // chunks whose loads are under way together
constexpr int PANEL_WORDS = ROWS * PANEL + 16;  // of a panel's sums: panels begin in other banks

// One warp's share of the sums, loads first.
__device__ inline void multiply_chunks(
    const CodeRows& a, const signed char* packed, int panels, int chunks,
    int (&acc)[PANELS][4]) {
    const int lane = threadIdx.x % 32, row = lane / 4, column = lane % 4 * 16;
#pragma unroll 1
    for (int c = threadIdx.x / 32; c < chunks; c += AHEAD * WARPS) {
        Pack<16> x[AHEAD][2], y[AHEAD][PANELS];
#pragma unroll
        for (int i = 0; i < AHEAD; i++) {
            const int chunk = c + i * WARPS, k = chunk * DEPTH + column;
#pragma unroll
            for (int j = 0; j < PANELS; j++) {
                const size_t piece = static_cast<size_t>(j) * chunks + chunk;
                y[i][j] = Pack<16>{};
                if (j < panels && chunk < chunks)
                    y[i][j] = load_chunk(packed + (piece * 32 + lane) * 16, true, 0, 16);
            }
            x[i][0] = a.chunk(row, k);
            x[i][1] = a.chunk(row + 8, k);
        }
#pragma unroll
        for (int i = 0; i < AHEAD; i++)
#pragma unroll
            for (int half = 0; half < 4; half += 2) {
                const unsigned rows[4] = {
                    x[i][0].word[half], x[i][1].word[half], x[i][0].word[half + 1],
                    x[i][1].word[half + 1]};
#pragma unroll
                for (int j = 0; j < PANELS; j++)
                    multiply_add(acc[j], rows, y[i][j].word[half], y[i][j].word[half + 1]);
            }
    }
}

extern "C" __global__ void __launch_bounds__(32 * WARPS, 4) gemm_packed(
    const signed char* __restrict__ a,        // s8 (M, K)
    const signed char* __restrict__ packed,   // s8 (P, chunks, 512)
    const float* __restrict__ a_scales,       // fp32 (M,) or (1,)
    const float* __restrict__ b_scales,       // fp32 (8 P,) or (1,)
    const float* __restrict__ bias,           // fp32 (8 P,) or null
    Element<OUTPUT>::type* __restrict__ out,  // OUTPUT (M, 8 P)
    int M, int P, int K,
    int a_stride, int b_stride,               // of the scales: 1, or 0 for (1,)
    int rule) {                               // the dialect's EPILOGUE_RULE
    __shared__ __align__(16) int sums[WARPS][PANELS * PANEL_WORDS];
    const int down = (M + ROWS - 1) / ROWS, chunks = (K + DEPTH - 1) / DEPTH;
    const int m0 = blockIdx.x % down * ROWS, p0 = blockIdx.x / down * PANELS;
    const CodeRows rows = {a + static_cast<size_t>(m0) * K, M - m0, K};
    int acc[PANELS][4] = {};
    multiply_chunks(rows, packed + static_cast<size_t>(p0) * chunks * 512, P - p0, chunks, acc);

    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
#pragma unroll
    for (int j = 0; j < PANELS; j++)
#pragma unroll
        for (int i = 0; i < 2; i++) {
            const int at = j * PANEL_WORDS + (lane / 4 + 8 * i) * PANEL + lane % 4 * 2;
            const int pair[2] = {acc[j][2 * i], acc[j][2 * i + 1]};
            Pack<8>{{static_cast<unsigned>(pair[0]), static_cast<unsigned>(pair[1])}}.store(
                &sums[warp][at]);
        }
    __syncthreads();

    const int row = threadIdx.x / 8, j = threadIdx.x % 8 / 4, column = threadIdx.x % 4 * 2;
    const int m = m0 + row, n = (p0 + j) * PANEL + column;
    int total[2] = {};
#pragma unroll
    for (int w = 0; w < WARPS; w++) {
        const int at = j * PANEL_WORDS + row * PANEL + column;
        const Pack<8> part = Pack<8>::load(&sums[w][at]);
        total[0] += part.word[0];
        total[1] += part.word[1];
    }
    if (m >= M || p0 + j >= P) return;
    const Scales scales = {a_scales, b_scales, bias, a_stride, b_stride, rule};
    const Results<OUTPUT> results = {out, M, 8 * P, scales};
    const Column columns[2] = {results.column(n), results.column(n + 1)};
    put(results, m, n, total, results.row(m), columns);
}
