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
#pragma unroll 1
        for (int row = threadIdx.x % 32 / LANES; row < ROWS && m + row < to.M; row += 32 / LANES) {
            int sums[COUNT];
            slab.read(row, column, sums);
            put(to, m + row, n + column, sums, to.row(m + row), known);
        }
    }
};

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
                atomicAdd(sums + static_cast<size_t>(m + row) * N + n + column,
                          *slab.at(row, column));
    }
};

// Rows that a warp lays out at once: as many as fit beside the other warps'.
template <class S> constexpr int SLAB_ROWS = S::WARP_ROWS < 32 ? S::WARP_ROWS : 32;
template <class S> constexpr int SLABS = MMA_COLUMNS / S::WARP_COLUMNS * S::ROWS / S::WARP_ROWS *
    SLAB_ROWS<S> * S::WARP_COLUMNS;  // words of all warps' slabs
