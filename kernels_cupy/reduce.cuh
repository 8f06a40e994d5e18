// Maxima over a warp and over a block. Unsigned maximum is exact and free of order, so that any
// number of threads gives the same bits.
#pragma once

constexpr unsigned WHOLE_WARP = 0xffffffffu;

// Maximum over the 32 lanes of a warp, in every lane. All lanes must call it.
__device__ inline unsigned warp_maximum(unsigned value) {
    return __reduce_max_sync(WHOLE_WARP, value);
}

// Maximum over a one-dimensional block of up to 32 whole warps, in every thread. All its threads
// must call it, once per kernel.
__device__ inline unsigned block_maximum(unsigned value) {
    __shared__ unsigned partial[32];
    const unsigned warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    value = warp_maximum(value);
    if (lane == 0) partial[warp] = value;
    __syncthreads();
    return warp_maximum(lane < blockDim.x / 32 ? partial[lane] : 0u);
}

// Maximum over groups of `lanes` neighbouring lanes, a power of two up to 32, in every lane. All
// lanes of the warp must call it, with the same number.
__device__ inline unsigned lanes_maximum(unsigned value, unsigned lanes) {
#pragma unroll 1
    for (unsigned apart = lanes / 2; apart > 0; apart /= 2)
        value = max(value, __shfl_xor_sync(WHOLE_WARP, value, apart));
    return value;
}
