// How the results of tile_mma.cuh leave: mma scatters pairs of neighbours over a warp, so each warp
// first lays its own rows out in shared memory, where whole runs of a row can be read and stored.
//
//     Direct      the epilogue's results, 16 bytes per lane (8 of codes) where N allows: each
//                 request writes whole sectors
//     Partial     int32 sums added to memory: K was split over blocks
// and for a split K with an epilogue, finish_tile, by the last block of a tile to arrive.
#pragma once

#include "tile_mma.cuh"
#include "tile_results.cuh"

// Rows of COLUMNS words in shared memory. Groups of 8 columns, and the 4-column halves of a group,
// are xored with what rows and groups differ in, so that a warp meets no bank conflict when it
// writes mma's fragments (8 bytes a lane; 4 lanes share a row's group), nor when it reads 4
// neighbours a lane, the 4 of every other half (8 neighbours in two reads), or single columns.
template <int COLUMNS> struct Slab {
    int* words;

    __device__ int* at(int row, int column) const {
        const int group = column / 8, half = column / 4 % 2;
        const int swizzled = (group ^ (row % 4)) * 2 + (half ^ (group / 4 % 2) ^ (row % 2));
        return words + row * COLUMNS + swizzled * 4 + column % 4;
    }

    // COUNT neighbours, column a multiple of COUNT.
    template <int COUNT> __device__ void read(int row, int column, int (&to)[COUNT]) const {
        constexpr int PART = COUNT < 4 ? COUNT : 4;
        static_assert(COUNT % PART == 0 && (PART == 4 || PART == 1), "read in parts of 4, or one");
#pragma unroll
        for (int i = 0; i < COUNT; i += PART) {
            const Pack<4 * PART> part = Pack<4 * PART>::load(at(row, column + i));
#pragma unroll
            for (int w = 0; w < PART; w++) to[i + w] = part.word[w];
        }
    }
};

// One 8-byte store: of mma's results the compiler makes two of 4 bytes here and there.
__device__ inline void store_pair(int* to, int first, int second) {
    asm volatile("st.shared.v2.s32 [%0], {%1, %2};" ::"r"(shared_address(to)), "r"(first),
                 "r"(second)
                 : "memory");
}

// What the epilogue needs of a tile's columns, in shared memory: a thread reads a column, so that
// requests go to neighbours; a lane that stores 8 results takes its 8 columns from there.
template <class Epilogue> struct TileColumns {
    using Column = decltype(Epilogue{}.column(0));
    static constexpr int WORDS = sizeof(Column) / 4;  // 0 where there is nothing to know

    Slab<MMA_COLUMNS> slab;

    // For all threads of a block; to be read after the next barrier.
    __device__ void fill(const Epilogue& to, int n) const {
        static_assert(MMA_THREADS == MMA_COLUMNS, "a thread per column");
        const Column column = to.column(n + threadIdx.x);
#pragma unroll
        for (int w = 0; w < WORDS; w++)
            memcpy(slab.at(w, threadIdx.x), reinterpret_cast<const char*>(&column) + 4 * w, 4);
    }

    template <int COUNT> __device__ void read(int column, Column (&columns)[COUNT]) const {
#pragma unroll
        for (int w = 0; w < WORDS; w++) {
            int word[COUNT];
            slab.read(w, column, word);
#pragma unroll
            for (int i = 0; i < COUNT; i++)
                memcpy(reinterpret_cast<char*>(columns + i) + 4 * w, word + i, 4);
        }
    }
};

// Columns that a lane stores at once: 16 bytes of out, 8 of codes.
template <class Epilogue> constexpr int RUN = sizeof(typename Epilogue::Output) == 4 ? 4 : 8;

template <class Epilogue> __device__ bool whole_runs(const Epilogue& to) {
    return to.N % RUN<Epilogue> == 0;
}

// Finishes and stores.
template <class Epilogue> struct Direct {
    Epilogue to;
    TileColumns<Epilogue> columns;

    // spare: shared memory for the columns.
    __device__ Direct(const Epilogue& epilogue, int* spare) : to(epilogue), columns{{spare}} {}
    __device__ void prepare(const Place& place) const { columns.fill(to, place.n); }

    // m: the slab's first row in the product; n, first: its first column there and in the tile.
    template <int ROWS, int COLUMNS>
    __device__ void take(const Slab<COLUMNS>& slab, int m, int n, int first) const {
        if (whole_runs(to)) {
            store<ROWS, RUN<Epilogue>, COLUMNS>(slab, m, n, first, 0);
        } else {
#pragma unroll 1
            for (int from = 0; from < COLUMNS; from += 32)
                store<ROWS, 1, 32>(slab, m, n, first, from);
        }
    }

    // WIDTH columns of the slab from column `from` on, COUNT per lane.
    template <int ROWS, int COUNT, int WIDTH, int COLUMNS>
    __device__ void store(
        const Slab<COLUMNS>& slab, int m, int n, int first, int from) const {
        constexpr int LANES = WIDTH / COUNT;  // of a row
        const int column = from + threadIdx.x % LANES * COUNT;
        if (n + column >= to.N) return;
        typename TileColumns<Epilogue>::Column known[COUNT];
        columns.read(first + column, known);
#pragma unroll 2  // two rows' scales are on their way at a time
        for (int first_row = 0; first_row < ROWS; first_row += 32 / LANES) {
            const int row = first_row + threadIdx.x % 32 / LANES;
            const auto row_known = to.row(m + row);
            int sums[COUNT];
            slab.read(row, column, sums);
            if (m + row < to.M) put(to, m + row, n + column, sums, row_known, known);
        }
    }
};

// Adds to memory without asking for the sum (atomicAdd with no use for it is compiled as if it were
// asked for).
__device__ inline void add_to(int* to, int value) {
    asm volatile("red.global.add.s32 [%0], %1;" ::"l"(__cvta_generic_to_global(to)), "r"(value)
                 : "memory");
}

// Adds to int32 sums in memory, each request to 32 neighbours.
struct Partial {
    int* __restrict__ sums;  // s32 (M, N), zero before the first block adds
    int M, N;

    __device__ void prepare(const Place&) const {}

    template <int ROWS, int COLUMNS>
    __device__ void take(const Slab<COLUMNS>& slab, int m, int n, int) const {
        for (int column = threadIdx.x % 32; column < COLUMNS && n + column < N; column += 32)
#pragma unroll 1
            for (int row = 0; row < ROWS && m + row < M; row++)
                add_to(sums + static_cast<size_t>(m + row) * N + n + column, *slab.at(row, column));
    }
};

// Rows that a warp lays out at once: as many as fit beside the other warps'.
template <class S> constexpr int SLAB_ROWS = S::WARP_ROWS < 32 ? S::WARP_ROWS : 32;
template <class S> constexpr int SLAB_WORDS = SLAB_ROWS<S> * S::WARP_COLUMNS;  // of one warp
template <class S> constexpr int SLABS = MMA_THREADS / 32 * SLAB_WORDS<S>;     // of all

// Hands a tile's sums over, slab by slab; words: shared memory, where the stages were.
template <class S, class Sink>
__device__ void hand_out(int* words, const Sums<S>& acc, const Place& place, const Sink& sink) {
    constexpr int ROWS = SLAB_ROWS<S>, COLUMNS = S::WARP_COLUMNS;
    static_assert(4 * SLABS<S> <= S::BYTES, "slabs take the stages' place");
    const int lane = threadIdx.x % 32;
    const Slab<COLUMNS> slab = {words + threadIdx.x / 32 * SLAB_WORDS<S>};
    __syncthreads();  // every warp is done with the stages
    sink.prepare(place);
    __syncthreads();
#pragma unroll
    for (int first = 0; first < S::WARP_ROWS; first += ROWS) {
        if (first) __syncwarp();
#pragma unroll
        for (int row = 0; row < ROWS; row += 8)
#pragma unroll
            for (int j = 0; j < COLUMNS / 8; j++) {
                const int* pair = acc[(first + row) / 16][j] + row / 8 % 2 * 2;
                store_pair(slab.at(row + lane / 4, 8 * j + lane % 4 * 2), pair[0], pair[1]);
            }
        __syncwarp();
        sink.template take<ROWS>(
            slab, place.m + S::warp_row() + first, place.n + S::warp_column(), S::warp_column());
    }
}

// The whole kernel: out = results of a @ b.T, a block per tile.
template <class S, class Epilogue>
__device__ void pipelined_product(const Operands& operands, Epilogue to) {
    constexpr int COLUMN_WORDS = TileColumns<Epilogue>::WORDS * MMA_COLUMNS;
    static_assert(4 * (SLABS<S> + COLUMN_WORDS) <= S::BYTES, "columns fit beside the slabs");
    __shared__ __align__(128) signed char stages[S::BYTES];
    const Place at = place<S::ROWS, MMA_COLUMNS>(blockIdx.x, operands.M, operands.N);
    Sums<S> acc = {};
    multiply_pipelined<S>(
        stages, operands.a_rows(at), operands.b_rows(at), 0, operands.K, acc);
    to.out += static_cast<size_t>(at.batch) * to.M * to.N;
    int* words = reinterpret_cast<int*>(stages);
    hand_out<S>(words, acc, at, Direct<Epilogue>(to, words + SLABS<S>));
}

// Whether this block is the last of `blocks` to arrive at the ticket, which is 0 before the first.
// All its threads must call it, after they added to memory; the sums of all blocks are then seen.
// before: a word of shared memory, no longer used.
__device__ inline bool last_to_arrive(int* ticket, int blocks, int* before) {
    __threadfence();  // this thread's additions come before the ticket
    __syncthreads();
    if (threadIdx.x == 0) *before = atomicAdd(ticket, 1);
    __syncthreads();
    __threadfence();
    return *before == blocks - 1;
}

// COUNT sums in memory, read through L2, where they were added. 16-byte aligned where COUNT >= 4.
template <int COUNT> __device__ void read_sums(const int* from, int (&to)[COUNT]) {
    if constexpr (COUNT == 1) {
        to[0] = __ldcg(from);
    } else {
#pragma unroll
        for (int i = 0; i < COUNT; i += 4) {
            const int4 part = __ldcg(reinterpret_cast<const int4*>(from + i));
            to[i] = part.x, to[i + 1] = part.y, to[i + 2] = part.z, to[i + 3] = part.w;
        }
    }
}

// Finishes and stores a tile of ROWS x MMA_COLUMNS whose sums are in memory: s32 (M, N). words:
// shared memory for what the epilogue needs of the columns.
template <int ROWS, int COUNT, class Epilogue>
__device__ void finish_runs(
    const Epilogue& to, const int* sums, const Place& place, const TileColumns<Epilogue>& columns) {
    constexpr int LANES = MMA_COLUMNS / COUNT;  // of a row
    const int column = threadIdx.x % LANES * COUNT, n = place.n + column;
    if (n >= to.N) return;
    typename TileColumns<Epilogue>::Column known[COUNT];
    columns.read(column, known);
    const int end = min(place.m + ROWS, to.M);
#pragma unroll 1
    for (int m = place.m + threadIdx.x / LANES; m < end; m += MMA_THREADS / LANES) {
        int acc[COUNT];
        read_sums(sums + static_cast<size_t>(m) * to.N + n, acc);
        put(to, m, n, acc, to.row(m), known);
    }
}

template <int ROWS, class Epilogue>
__device__ void finish_tile(
    const Epilogue& to, const int* sums, const Place& place, int* words) {
    const TileColumns<Epilogue> columns = {{words}};
    columns.fill(to, place.n);
    __syncthreads();
    if (to.N % 4 == 0) finish_runs<ROWS, 4>(to, sums, place, columns);
    else finish_runs<ROWS, 1>(to, sums, place, columns);
}
