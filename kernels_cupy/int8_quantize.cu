// INT8 symmetric quantization: per row (token or channel), per tensor, static. The contract is
// that of reference/int8_quantize.py, in the dialect that the defines name.
//
// Defines: INPUT (format of x), the dialect's <FIELD>_RULEs, VECTOR: elements that a thread loads
// at once, 16 bytes of x where base address and K allow, else the largest power of two that does.
// Lane i touches the i-th vector, so that every request of a warp moves whole sectors: 8 codes
// leave as 8 bytes. (With 16 codes per thread, lanes would lie 32 or 64 bytes apart and each sector
// of x be requested two or four times.)
//
// Geometry of the row kernels: blockDim = (threads of a row, rows of a block); a multiple of 32
// threads per row, and one row per block where a row takes more than 32.

#include "dialect.cuh"
#include "grid.cuh"
#include "reduce.cuh"

constexpr int INPUT_BYTES = VECTOR * sizeof(Input);
constexpr int KEPT = 4;  // vectors of a row that a thread keeps in registers between both passes

constexpr int ONCE_THREADS = 512;  // of a block of quantize_tensor_once
constexpr int ONCE_KEPT = 16;      // vectors that each of them keeps
// The same less what scale_key takes in registers.
constexpr int HELD = SCALE_RULE == BOTH_ENDS ? ONCE_KEPT - 2 : ONCE_KEPT;

using Elements = Pack<INPUT_BYTES>;

__device__ inline int row_of_thread() { return blockIdx.x * blockDim.y + threadIdx.y; }

__device__ inline unsigned absolute_maximum(unsigned amax, const Elements& elements) {
#pragma unroll
    for (int i = 0; i < VECTOR; i++) amax = absolute_maximum(amax, element<INPUT>(elements, i));
    return amax;
}

template <bool FAST, bool GIVEN>
__device__ void quantize_vector(const Elements& elements, const Multiplier& m, signed char* codes) {
    int code[VECTOR];
#pragma unroll
    for (int i = 0; i < VECTOR; i++) {
        const float x = element<INPUT>(elements, i);
        code[i] = GIVEN ? quantize_given<FAST>(x, m) : quantize_dynamic<FAST>(x, m);
    }
    pack_codes(code).store(codes);
}

// Vectors first, first + blockDim.x, ... of one row, from memory.
template <bool FAST, bool GIVEN>
__device__ void quantize_from(
    int first, const Input* x, signed char* codes, int vectors, const Multiplier& m) {
    for (int v = first; v < vectors; v += blockDim.x)
        quantize_vector<FAST, GIVEN>(Elements::load(x + v * VECTOR), m, codes + v * VECTOR);
}

// One row from memory, in the form that its multiplier allows.
template <bool GIVEN>
__device__ void quantize_row(
    const Input* x, signed char* codes, int vectors, const Multiplier& m) {
    if (GIVEN ? fast_given(m) : fast_dynamic(m))
        quantize_from<true, GIVEN>(threadIdx.x, x, codes, vectors, m);
    else
        quantize_from<false, GIVEN>(threadIdx.x, x, codes, vectors, m);
}

// Per-token and per-channel: one dynamic scale per row, one read of x from memory where a row has
// at most KEPT * blockDim.x vectors (what lies beyond is read again, from L2).
extern "C" __global__ void LARGE_BLOCK quantize_rows(
    const Input* __restrict__ x,      // INPUT (M, K)
    signed char* __restrict__ codes,  // s8 (M, K)
    float* __restrict__ scales,       // fp32 (M,)
    int M, int K) {
    const int row = row_of_thread(), vectors = K / VECTOR;
    if (row >= M) return;
    x += static_cast<size_t>(row) * K;
    codes += static_cast<size_t>(row) * K;

    Elements kept[KEPT];
    unsigned amax = 0;
#pragma unroll
    for (int i = 0; i < KEPT; i++) {
        const int v = threadIdx.x + i * blockDim.x;
        kept[i] = v < vectors ? Elements::load(x + v * VECTOR) : Elements{};
    }
#pragma unroll
    for (int i = 0; i < KEPT; i++) amax = absolute_maximum(amax, kept[i]);
    for (int v = threadIdx.x + KEPT * blockDim.x; v < vectors; v += blockDim.x)
        amax = absolute_maximum(amax, Elements::load(x + v * VECTOR));

    amax = blockDim.x == 32 ? warp_maximum(amax) : block_maximum(amax);
    const Multiplier m = make_multiplier(amax);
    if (fast_dynamic(m)) {
#pragma unroll
        for (int i = 0; i < KEPT; i++) {
            const int v = threadIdx.x + i * blockDim.x;
            if (v < vectors) quantize_vector<true, false>(kept[i], m, codes + v * VECTOR);
        }
        quantize_from<true, false>(threadIdx.x + KEPT * blockDim.x, x, codes, vectors, m);
    } else {  // rare: zero, subnormal, infinite or NaN rows
        quantize_from<false, false>(threadIdx.x, x, codes, vectors, m);
    }
    if (threadIdx.x == 0) scales[row] = m.scale;
}

// Vectors first, first + step, ... COUNT of them: zeros where there are no more.
template <int COUNT>
__device__ void load_strided(
    Elements (&some)[COUNT], const Input* x, long long first, long long step, long long vectors) {
#pragma unroll
    for (int i = 0; i < COUNT; i++) {
        const long long v = first + i * step;
        some[i] = v < vectors ? Elements::load(x + v * VECTOR) : Elements{};
    }
}

template <int COUNT>
__device__ void quantize_strided(
    const Elements (&some)[COUNT], signed char* codes, long long first, long long step,
    long long vectors, const Multiplier& m) {
#pragma unroll
    for (int i = 0; i < COUNT; i++) {
        const long long v = first + i * step;
        if (v < vectors) quantize_vector<true, false>(some[i], m, codes + v * VECTOR);
    }
}

// Largest magnitude of the vectors first, first + step, ...: KEPT loads at a time.
__device__ inline unsigned strided_maximum(
    unsigned largest, const Input* x, long long first, long long step, long long vectors) {
#pragma unroll 1
    for (long long v = first; v < vectors; v += KEPT * step) {
        Elements some[KEPT];
        load_strided(some, x, v, step, vectors);
#pragma unroll
        for (int i = 0; i < KEPT; i++) largest = absolute_maximum(largest, some[i]);
    }
    return largest;
}

// A thread's number in the grid. Warps are dealt to the blocks in turn, so that few vectors, too, are
// spread over all multiprocessors.
__device__ inline long long dealt_index() {
    return (threadIdx.x / 32 * static_cast<long long>(gridDim.x) + blockIdx.x) * 32 +
           threadIdx.x % 32;
}

__device__ inline long long threads_of_grid() {
    return static_cast<long long>(gridDim.x) * blockDim.x;
}

// Per-tensor in one cooperative launch: x is read from memory once where the grid's threads can keep
// it (HELD vectors each; what lies beyond is read again, from L2). The blocks meet between the
// maximum of all and the codes.
extern "C" __global__ void __launch_bounds__(ONCE_THREADS, 1) quantize_tensor_once(
    const Input* __restrict__ x,      // INPUT (vectors * VECTOR,)
    signed char* __restrict__ codes,  // s8 (vectors * VECTOR,)
    float* __restrict__ scale,        // fp32 (1,)
    unsigned* meeting,                // u32 (2,): bits of max |x|, arrivals; zeros
    long long vectors) {
    const long long first = dealt_index(), step = threads_of_grid();
    const long long beyond = first + HELD * step;
    Elements kept[HELD];
    load_strided(kept, x, first, step, vectors);
    unsigned largest = 0;
#pragma unroll
    for (int i = 0; i < HELD; i++) largest = absolute_maximum(largest, kept[i]);
    largest = block_maximum(strided_maximum(largest, x, beyond, step, vectors));

    __shared__ unsigned amax;
    if (threadIdx.x == 0) {
        atomicMax(meeting, largest);
        meet(meeting + 1);
        amax = __ldcg(meeting);  // from L2, where the atomics happened
    }
    __syncthreads();
    const Multiplier m = make_multiplier(amax);
    if (fast_dynamic(m)) {
        quantize_strided(kept, codes, first, step, vectors, m);
#pragma unroll 1
        for (long long v = beyond; v < vectors; v += KEPT * step) {
            Elements some[KEPT];
            load_strided(some, x, v, step, vectors);
            quantize_strided(some, codes, v, step, vectors, m);
        }
    } else {  // rare: zero, subnormal, infinite or NaN tensors
#pragma unroll 1
        for (long long v = first; v < vectors; v += step)
            quantize_vector<false, false>(
                Elements::load(x + v * VECTOR), m, codes + v * VECTOR);
    }
    if (first == 0) scale[0] = m.scale;
}

// Per-tensor in two launches. The first: amax[0] = max(amax[0], bits of max |x|), which starts as 0.
extern "C" __global__ void __launch_bounds__(1024) tensor_maximum(
    const Input* __restrict__ x,  // INPUT (vectors * VECTOR,)
    unsigned* __restrict__ amax,  // u32 (1,)
    long long vectors) {
    const unsigned largest =
        block_maximum(strided_maximum(0, x, dealt_index(), threads_of_grid(), vectors));
    if (threadIdx.x == 0) atomicMax(amax, largest);
}

// The second: every block derives the same scale from amax.
extern "C" __global__ void __launch_bounds__(1024) quantize_tensor(
    const Input* __restrict__ x,        // INPUT (M, K)
    const unsigned* __restrict__ amax,  // u32 (1,): bits of max |x|
    signed char* __restrict__ codes,    // s8 (M, K)
    float* __restrict__ scale,          // fp32 (1,)
    int M, int K) {
    const int row = row_of_thread();
    if (row >= M) return;
    const size_t start = static_cast<size_t>(row) * K;
    const Multiplier m = make_multiplier(amax[0]);
    quantize_row<false>(x + start, codes + start, K / VECTOR, m);
    if (row == 0 && threadIdx.x == 0) scale[0] = m.scale;
}

// Static: the scales are given, finite and > 0.
extern "C" __global__ void __launch_bounds__(1024) quantize_static(
    const Input* __restrict__ x,       // INPUT (M, K)
    const float* __restrict__ scales,  // fp32 (S,), S = 1 or M
    signed char* __restrict__ codes,   // s8 (M, K)
    int M, int K, int S) {
    const int row = row_of_thread();
    if (row >= M) return;
    const size_t start = static_cast<size_t>(row) * K;
    const Multiplier m = static_multiplier(scales[S == 1 ? 0 : row]);
    quantize_row<true>(x + start, codes + start, K / VECTOR, m);
}
