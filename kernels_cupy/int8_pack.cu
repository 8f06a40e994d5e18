// Weights made ready for the GEMM: transposed to K-major, and packed in pieces of 8 rows by 64
// columns. The contract is that of reference/int8_pack.py: bytes are moved, none is changed.
//
// Defines: COPY as in tile.cuh, for pack; transpose takes its widths at run time.

#include "tile.cuh"

constexpr int SIDE = 64;  // of transpose's tile: 16 x 16 threads with 4 x 4 codes each
constexpr int PANEL = 8;

// 4 codes of one row from column `at` on; zeros beyond `end`.
__device__ inline unsigned load_four(const signed char* row, int at, int end, bool wide) {
    if (wide) return at < end ? Pack<4>::load(row + at).word[0] : 0;
    unsigned word = 0;
#pragma unroll
    for (int i = 0; i < 4; i++)
        if (at + i < end) word |= Pack<1>::load(row + at + i).word[0] << (8 * i);
    return word;
}

__device__ inline void store_four(signed char* row, int at, int end, bool wide, unsigned word) {
    if (wide) {
        if (at < end) Pack<4>{word}.store(row + at);
        return;
    }
#pragma unroll
    for (int i = 0; i < 4; i++)
        if (at + i < end) Pack<1>{word >> (8 * i)}.store(row + at + i);
}

// Byte j of word i becomes byte i of word j.
__device__ inline void transpose_4x4(unsigned (&word)[4]) {
    const unsigned low = __byte_perm(word[0], word[1], 0x5140);
    const unsigned high = __byte_perm(word[0], word[1], 0x7362);
    const unsigned low2 = __byte_perm(word[2], word[3], 0x5140);
    const unsigned high2 = __byte_perm(word[2], word[3], 0x7362);
    word[0] = __byte_perm(low, low2, 0x5410);
    word[1] = __byte_perm(low, low2, 0x7632);
    word[2] = __byte_perm(high, high2, 0x5410);
    word[3] = __byte_perm(high, high2, 0x7632);
}

// Where four k of row n lie in the tile, in words: 16 a row. The xor and the rows' parity spread the
// words that a warp writes, and those that it reads, over all 32 banks.
__device__ inline int tile_word(int n, int quad) { return n * 16 + (quad ^ (n / 8 * 2)); }

extern "C" __global__ void __launch_bounds__(256) transpose(
    const signed char* __restrict__ w,  // s8 (K, N)
    signed char* __restrict__ out,      // s8 (N, K)
    int N, int K,
    int wide_in, int wide_out) {        // whether rows of w, of out, begin at multiples of 4 bytes
    __shared__ unsigned tile[SIDE * SIDE / 4];
    const int across = (N + SIDE - 1) / SIDE;
    const int n0 = blockIdx.x % across * SIDE, k0 = blockIdx.x / across * SIDE;
    const int first = threadIdx.x % 16, second = threadIdx.x / 16;
    unsigned word[4];
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const int k = k0 + 4 * second + i;
        const signed char* row = w + static_cast<size_t>(k) * N;
        word[i] = k < K ? load_four(row, n0 + 4 * first, N, wide_in) : 0;
    }
    transpose_4x4(word);
#pragma unroll
    for (int i = 0; i < 4; i++) {
        // Odd threads go through their rows in the other order of each pair: both parities at once.
        const int row = i ^ (first & 1);
        const unsigned chosen = first & 1 ? word[i ^ 1] : word[i];
        tile[tile_word(4 * first + row, second)] = chosen;
    }
    __syncthreads();
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const int n = second + 16 * i;
        if (n0 + n < N)
            store_four(
                out + static_cast<size_t>(n0 + n) * K, k0 + 4 * first, K, wide_out,
                tile[tile_word(n, first)]);
    }
}

// A thread per 16 bytes of packed: lane l of a piece takes row l / 4, columns from 16 (l % 4) on.
extern "C" __global__ void __launch_bounds__(256) pack(
    const signed char* __restrict__ w_codes,  // s8 (8 P, K)
    signed char* __restrict__ packed,         // s8 (P, chunks, 512)
    int P, int K, int chunks) {
    const unsigned piece = blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32;
    if (piece >= static_cast<unsigned>(P) * chunks) return;
    const int lane = threadIdx.x % 32, k = piece % chunks * DEPTH + lane % 4 * 16;
    const size_t row = static_cast<size_t>(piece / chunks) * PANEL + lane / 4;
    const size_t to = static_cast<size_t>(piece) * 512 + lane * 16;
    load_chunk(w_codes + row * K, true, k, K).store(packed + to);
}
