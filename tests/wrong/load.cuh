// Elements of x by format, and maxima that keep NaN: what the sources of this folder share.

__device__ float load(const void* x, int format, size_t i) {
    if (format == 0) return static_cast<const float*>(x)[i];
    const unsigned short bits = static_cast<const unsigned short*>(x)[i];
    if (format == 2) return __uint_as_float(static_cast<unsigned>(bits) << 16);
    float wide;
    asm("cvt.f32.f16 %0, %1;" : "=f"(wide) : "h"(bits));
    return wide;
}

// The larger or smaller of two, NaN above all.
__device__ float larger(float a, float b) { return b > a || b != b ? b : a; }
__device__ float smaller(float a, float b) { return b < a || b != b ? b : a; }
