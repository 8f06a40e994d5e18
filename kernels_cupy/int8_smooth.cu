// SmoothQuant's division by a factor per channel, with INT8 output. The contract is that of
// reference/int8_smooth.py, in the dialect that the defines name.
//
// Defines: as row_values.cuh. Every row reads the factors again, from L1 and L2.

#include "chunk.cuh"
#include "row_values.cuh"

// The factors of vector v. All lanes call it together where a vector has two accesses of them.
template <int COUNT>
__device__ void load_factors(
    const float* smooth, int v, bool inside, int K, float (&factor)[COUNT]) {
    if constexpr (COUNT == CHUNK) {
        load_chunk<FP32, CHUNK>(smooth, v, K, factor);
    } else if (inside) {
        const auto some = Pack<COUNT * sizeof(float)>::load(smooth + v * COUNT);
#pragma unroll
        for (int i = 0; i < COUNT; i++) factor[i] = element<FP32>(some, i);
    }
}

// z of one row of x.
struct Smoothed {
    const Input* x;
    const float* smooth;
    int K;

    struct Raw {
        Elements x;
        float factor[VECTOR];
    };

    __device__ Raw load(int v, bool inside) const {
        Raw raw = {};
        if (inside) raw.x = Elements::load(x + v * VECTOR);
        load_factors(smooth, v, inside, K, raw.factor);
        return raw;
    }

    __device__ void compute(const Raw& raw, float (&z)[VECTOR]) const {
#pragma unroll
        for (int i = 0; i < VECTOR; i++)
            z[i] = step(__fdiv_rn(element<INPUT>(raw.x, i), raw.factor[i]));
    }
};

extern "C" __global__ void __launch_bounds__(1024, 1) smooth_rows(
    const Input* __restrict__ x,       // INPUT (M, K)
    const float* __restrict__ smooth,  // fp32 (K,)
    signed char* __restrict__ codes,   // s8 (M, K)
    float* __restrict__ scales,        // fp32 (M,)
    int M, int K) {
    const int row = blockIdx.x * blockDim.y + threadIdx.y;
    if (row >= M) return;
    const size_t start = static_cast<size_t>(row) * K;
    quantize_row(Smoothed{x + start, smooth, K}, K / VECTOR, codes + start, scales + row);
}

// The scales are given, finite and > 0.
extern "C" __global__ void __launch_bounds__(1024, 1) smooth_static(
    const Input* __restrict__ x,       // INPUT (M, K)
    const float* __restrict__ smooth,  // fp32 (K,)
    const float* __restrict__ scales,  // fp32 (S,), S = 1 or M
    signed char* __restrict__ codes,   // s8 (M, K)
    int M, int K, int S) {
    const int row = blockIdx.x * blockDim.y + threadIdx.y;
    if (row >= M) return;
    const size_t start = static_cast<size_t>(row) * K;
    const Multiplier m = static_multiplier(for_warp(scales, S == 1 ? 0 : row));
    quantize_from<true>(threadIdx.x, Smoothed{x + start, smooth, K}, K / VECTOR, m, codes + start);
}
