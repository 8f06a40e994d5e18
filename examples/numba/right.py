"""Per-token INT8 quantization in Numba CUDA: a block a row, the maximum in shared memory."""

import numpy as np
from numba import cuda, float32

THREADS = 128


@cuda.jit
def quantize_rows(x, codes, scales):
    largest = cuda.shared.array(THREADS, float32)
    row, thread = cuda.blockIdx.x, cuda.threadIdx.x
    amax = float32(0)
    for k in range(thread, x.shape[1], THREADS):
        amax = max(amax, abs(float32(x[row, k])))
    largest[thread] = amax
    cuda.syncthreads()
    step = THREADS // 2
    while step > 0:
        if thread < step:
            largest[thread] = max(largest[thread], largest[thread + step])
        cuda.syncthreads()
        step //= 2
    inverse = float32(127) / largest[0]
    if thread == 0:
        scales[row] = largest[0] / float32(127)
    for k in range(thread, x.shape[1], THREADS):
        quotient = float32(x[row, k]) * inverse
        if largest[0] == 0 or quotient != quotient:
            codes[row, k] = 0
        else:
            codes[row, k] = np.int8(min(max(round(quotient), -128), 127))


def quantize(x):
    M, K = x.shape
    codes = cuda.device_array((M, K), np.int8)
    scales = cuda.device_array(M, np.float32)
    quantize_rows[M, THREADS](cuda.to_device(x), codes, scales)
    return codes.copy_to_host(), scales.copy_to_host()
