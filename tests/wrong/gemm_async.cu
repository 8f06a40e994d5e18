// a @ b.T with both rows brought to shared memory by cp.async: one result per block of 32 threads,
// 512 codes of K at a time. Right as it stands; each define plants one mistake (see planted.py).
//
// a: s8 (M, K); b: s8 (N, K); out: s32 (M, N). K and the addresses are multiples of 16 on the
// asynchronous path; others take plain loads.

constexpr int DEPTH = 512;

__device__ void copy16(signed char* to, const signed char* from) {
    const unsigned address = static_cast<unsigned>(__cvta_generic_to_shared(to));
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(address), "l"(from) : "memory");
}

extern "C" __global__ void gemm(
    const signed char* a, const signed char* b, int* out, int M, int N, int K) {
    __shared__ __align__(16) signed char a_row[DEPTH], b_row[DEPTH];
    const int m = blockIdx.y, n = blockIdx.x, lane = threadIdx.x;
    a += static_cast<size_t>(m) * K;
    b += static_cast<size_t>(n) * K;
    const bool aligned =
        (reinterpret_cast<size_t>(a) | reinterpret_cast<size_t>(b) | static_cast<size_t>(K)) % 16 == 0;
    int sum = 0;
    for (int k = 0; k < K; k += DEPTH) {
        const int depth = min(DEPTH, K - k);
        if (aligned) {
            for (int i = 16 * lane; i < depth; i += 16 * 32) {
                copy16(a_row + i, a + k + i);
                copy16(b_row + i, b + k + i);
            }
            asm volatile("cp.async.commit_group;" ::: "memory");
#ifndef MISSING_WAIT
            asm volatile("cp.async.wait_group 0;" ::: "memory");
#endif
        } else {
            for (int i = lane; i < depth; i += 32) {
                a_row[i] = a[k + i];
                b_row[i] = b[k + i];
            }
        }
        __syncthreads();
        for (int i = lane; i < depth; i += 32) sum += a_row[i] * b_row[i];
        __syncthreads();
    }
    for (int step = 16; step > 0; step /= 2) sum += __shfl_xor_sync(0xffffffff, sum, step);
    if (lane == 0) out[static_cast<size_t>(m) * N + n] = sum;
}
