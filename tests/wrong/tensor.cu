// Per-tensor INT8 quantization in one cooperative launch. Right in dialect ieee as it stands; each
// define plants one mistake (see planted.py).
//
// x: fp32 (count,); codes: s8 (count,); scale: fp32 (1,); meeting: u32 (2,), zeros.

#include "grid.cuh"

constexpr int THREADS = 64;

extern "C" __global__ void quantize(
    const float* x, signed char* codes, float* scale, unsigned* meeting, int count) {
    const int first = blockIdx.x * THREADS + threadIdx.x, step = gridDim.x * THREADS;
    __shared__ unsigned amax;
#ifdef LEAVES_EARLY
    if (blockIdx.x * THREADS >= count) return;  // others wait for this block
#endif
    if (threadIdx.x == 0) amax = 0;
    __syncthreads();
    for (int i = first; i < count; i += step)
        atomicMax(&amax, __float_as_uint(x[i]) & 0x7fffffffu);
    __syncthreads();
    if (threadIdx.x == 0) {
        atomicMax(meeting, amax);
#ifndef NO_MEETING
        meet(meeting + 1);
#endif
        amax = __ldcg(meeting);
    }
    __syncthreads();
    const float largest = __uint_as_float(amax);
    const float s = largest != largest ? __uint_as_float(0x7fffffff) : largest / 127.0f;
    for (int i = first; i < count; i += step)
        codes[i] = s == 0.0f ? 0 : max(-127, min(127, __float2int_rn(x[i] / s)));
    if (first == 0) scale[0] = s;
}
