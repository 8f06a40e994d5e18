// Float sums over a row in "lanes of 8", the order that reference/reductions.py fixes.
//
// Contract: chunk c of a row, its elements 8c .. 8c+7, belongs to lane c % T of its T = blockDim.x
// lanes (whole warps, at most 32 of them). Each lane adds its elements in ascending order to one
// value that starts at +0; row_sum joins the lanes: a butterfly over distances 16, 8, 4, 2, 1 in
// each warp, then, with T > 32, the same over the warps' values, padded with +0. Every addition is
// one fp32 rounding; addition commutes, so that every lane ends with the same bits.
#pragma once

#include "reduce.cuh"

// Sum over the 32 lanes of a warp, in every lane. All lanes must call it.
__device__ inline float warp_sum(float value) {
#pragma unroll
    for (int apart = 16; apart > 0; apart /= 2)
        value = __fadd_rn(value, __shfl_xor_sync(WHOLE_WARP, value, apart));
    return value;
}

// Sum over the blockDim.x lanes of a row, in each of them. Where they are more than one warp, the
// block has one row and all its threads must call it, once per kernel and CALL. WARPS: it is known
// that they are more than one.
template <int CALL, bool WARPS = false> __device__ float row_sum(float value) {
    value = warp_sum(value);
    if (!WARPS && blockDim.x == 32) return value;
    __shared__ float partial[32];
    const unsigned warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    if (lane == 0) partial[warp] = value;
    __syncthreads();
    return warp_sum(lane < blockDim.x / 32 ? partial[lane] : 0.0f);
}

// As row_sum, for maxima (reduce.cuh).
template <bool WARPS = false> __device__ unsigned row_maximum(unsigned value) {
    return !WARPS && blockDim.x == 32 ? warp_maximum(value) : block_maximum(value);
}
