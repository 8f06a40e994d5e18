// Rows and the threads that share one: a matrix of (rows, length), be they tokens, output channels
// or groups along K.
//
// Geometry: blockDim = (lanes of a row, rows of a block). A row of few vectors has a power of two of
// lanes below 32 and shares its warp, else a row has whole warps, alone in its block where they are
// several. Threads of rows beyond the last have no vectors, but take part in what their warp does.
#pragma once

#include "reduce.cuh"

__device__ inline long long row_of_thread() {
    return static_cast<long long>(blockIdx.x) * blockDim.y + threadIdx.y;
}

// A number that holds for the thread's row: loaded by the first lane of the row in each warp, so
// that its bytes move once. All lanes of the warp must call it, each with its row's address.
template <typename Number> __device__ Number for_row(const Number* from) {
    const int lanes = blockDim.x < 32 ? blockDim.x : 32;
    Number value = {};
    if (threadIdx.x % 32 == 0) value = *from;
    return __shfl_sync(WHOLE_WARP, value, 0, lanes);
}
