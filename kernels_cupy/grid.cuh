// The meeting of all blocks of a cooperative launch.
//
// Contract: needs a launch whose blocks all run at once (launch.py: cooperative=True). What a thread
// wrote before it called `meet` is seen by every thread that has returned from the same meeting, and
// by the rest of its block behind a __syncthreads(). Arrivals are only ever counted up, a meeting ends
// at the next multiple of gridDim.x, so that a kernel may meet again and again on one counter.
#pragma once

// To be called by one thread of every block. arrivals: 0 before the launch.
__device__ inline void meet(unsigned* arrivals) {
    unsigned mine, seen;
    asm volatile("atom.add.acq_rel.gpu.global.u32 %0, [%1], 1;"
                 : "=r"(mine) : "l"(arrivals) : "memory");
    const unsigned blocks = gridDim.x * gridDim.y * gridDim.z;
    const unsigned everybody = (mine / blocks + 1) * blocks;
    do {
        asm volatile("ld.acquire.gpu.global.u32 %0, [%1];"
                     : "=r"(seen) : "l"(arrivals) : "memory");
    } while (seen < everybody);
}
