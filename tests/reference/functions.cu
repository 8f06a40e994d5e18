// One function of kernels_cupy/functions.cuh on each element, for test_functions.py.

#include "functions.cuh"

extern "C" __global__ void each(const float* x, float* out, int count, int which) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= count) return;
    if (which == 0) out[i] = exp_fma(x[i]);
    if (which == 1) out[i] = erf_fma(x[i]);
    if (which == 2) out[i] = silu(x[i]);
    if (which == 3) out[i] = gelu_erf(x[i]);
    if (which == 4) out[i] = gelu_tanh(x[i]);
}
