// SiLU-and-multiply and GELU with INT8 output. The contract is that of
// reference/int8_activation.py, in the dialect that the defines name.
//
// Defines: as row_values.cuh, and ACTIVATION. A row of SILU_MUL holds K gates, then K ups.

#include "functions.cuh"
#include "row_values.cuh"

enum Activation { SILU_MUL = 0, GELU_ERF = 1, GELU_TANH = 2 };

constexpr int PARTS = ACTIVATION == SILU_MUL ? 2 : 1;  // rows of x in one of z

// z of one row of x.
struct Activated {
    const Input* x;
    int K;

    struct Raw {
        Elements part[PARTS];
    };

    __device__ Raw load(int v, bool inside) const {
        Raw raw = {};
#pragma unroll
        for (int i = 0; i < PARTS; i++)
            if (inside) raw.part[i] = Elements::load(x + i * K + v * VECTOR);
        return raw;
    }

    __device__ void compute(const Raw& raw, float (&z)[VECTOR]) const {
#pragma unroll
        for (int i = 0; i < VECTOR; i++) {
            const float first = element<INPUT>(raw.part[0], i);
            if (ACTIVATION == SILU_MUL)
                z[i] = step(__fmul_rn(step(silu(first)), element<INPUT>(raw.part[PARTS - 1], i)));
            else
                z[i] = step(ACTIVATION == GELU_ERF ? gelu_erf(first) : gelu_tanh(first));
        }
    }
};

__device__ inline Activated row_of(const Input* x, int row, int K) {
    return {x + static_cast<size_t>(row) * PARTS * K, K};
}

extern "C" __global__ void __launch_bounds__(1024, 1) activate_rows(
    const Input* __restrict__ x,      // INPUT (M, PARTS * K)
    signed char* __restrict__ codes,  // s8 (M, K)
    float* __restrict__ scales,       // fp32 (M,)
    int M, int K) {
    const int row = blockIdx.x * blockDim.y + threadIdx.y;
    if (row >= M) return;
    const size_t start = static_cast<size_t>(row) * K;
    quantize_row(row_of(x, row, K), K / VECTOR, codes + start, scales + row);
}

// The scales are given, finite and > 0.
extern "C" __global__ void __launch_bounds__(1024, 1) activate_static(
    const Input* __restrict__ x,       // INPUT (M, PARTS * K)
    const float* __restrict__ scales,  // fp32 (S,), S = 1 or M
    signed char* __restrict__ codes,   // s8 (M, K)
    int M, int K, int S) {
    const int row = blockIdx.x * blockDim.y + threadIdx.y;
    if (row >= M) return;
    const size_t start = static_cast<size_t>(row) * K;
    const Multiplier m = static_multiplier(for_warp(scales, S == 1 ? 0 : row));
    quantize_from<true>(threadIdx.x, row_of(x, row, K), K / VECTOR, m, codes + start);
}
