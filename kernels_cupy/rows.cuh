// Rows and the threads that share one: a matrix of (rows, length), be they tokens, output channels
// or groups along K.
//
// Geometry: blockDim = (lanes of a row, rows of a block). A row of few vectors has a power of two of
// lanes below 32 and shares its warp, else a row has whole warps, alone in its block where they are
// several. Threads of rows beyond the last have no vectors, but take part in what their warp does.
#pragma once

#include "reduce.cuh"

// The thread's row; the last block's may lie beyond the last one.
__device__ inline unsigned row_of_thread() { return blockIdx.x * blockDim.y + threadIdx.y; }

// First element of a row, or beyond the last row an address that nothing is read from.
__device__ inline size_t row_start(unsigned row, int length) {
    return static_cast<size_t>(row) * length;
}

template <typename First, typename Second> struct Both {
    First first;
    Second second;
};

// Two numbers that hold for the thread's row, loaded by the row's first lane alone, so that their
// bytes move once. All threads of the block must call it, once per kernel.
template <typename First, typename Second>
__device__ Both<First, Second> for_row(const First* first, const Second* second) {
    __shared__ Both<First, Second> of_block;
    Both<First, Second> both = {};
    if (threadIdx.x == 0) both = {*first, *second};
    if (blockDim.x > 32) {  // one row
        if (threadIdx.x == 0) of_block = both;
        __syncthreads();
        return of_block;
    }
    return {__shfl_sync(WHOLE_WARP, both.first, 0, blockDim.x),
            __shfl_sync(WHOLE_WARP, both.second, 0, blockDim.x)};
}
