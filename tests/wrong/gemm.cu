// a @ b.T by 16 x 16 tiles through shared memory, a thread per result. Right as it stands; each
// define plants one mistake (see planted.py).
//
// a: s8 (M, K); b: s8 (N, K); out: s32 (M, N). Block: 16 x 16 threads.

constexpr int TILE = 16;

#ifdef UNSIGNED_B
using CodeB = unsigned char;
#else
using CodeB = signed char;
#endif
#if defined(SHORT_ACCUMULATOR)
using Sum = short;
#elif defined(FLOAT_ACCUMULATOR)
using Sum = float;
#else
using Sum = int;
#endif

extern "C" __global__ void gemm(
    const signed char* a, const CodeB* b, int* out, int M, int N, int K) {
    __shared__ signed char a_tile[TILE][TILE];
    __shared__ CodeB b_tile[TILE][TILE];
    const int m = blockIdx.y * TILE + threadIdx.y, n = blockIdx.x * TILE + threadIdx.x;
    const int b_row = blockIdx.x * TILE + threadIdx.y;
#ifdef EARLY_RETURN
    if (m >= M || n >= N) return;
#endif
    Sum sum = 0;
#ifdef K_TAIL
    const int end = K / TILE * TILE;
#else
    const int end = K;
#endif
    for (int k = 0; k < end; k += TILE) {
        const int column = k + threadIdx.x;
#if defined(PAST_THE_ROWS)
        a_tile[threadIdx.y][threadIdx.x] = column < K ? a[m * K + column] : 0;
#elif defined(STALE_TILE)
        if (m < M && column < K) a_tile[threadIdx.y][threadIdx.x] = a[m * K + column];
#else
        a_tile[threadIdx.y][threadIdx.x] = m < M && column < K ? a[m * K + column] : 0;
#endif
        b_tile[threadIdx.y][threadIdx.x] = b_row < N && column < K ? b[b_row * K + column] : 0;
#ifndef MISSING_BARRIER
        __syncthreads();
#endif
#ifdef TILE_EDGE
        for (int i = 0; i < TILE - 1; i++)
#else
        for (int i = 0; i < TILE; i++)
#endif
            sum += a_tile[threadIdx.y][i] * b_tile[threadIdx.x][i];
#ifndef MISSING_SECOND_BARRIER
        __syncthreads();
#endif
    }
#ifdef COLUMN_EDGE
    if (m < M && n < N - 1 + (N == 1)) out[m * N + n] = sum;
#elif defined(TRANSPOSED)
    if (m < M && n < N) out[n * M + m] = sum;
#else
    if (m < M && n < N) out[m * N + n] = sum;
#endif
}
