// Number formats and memory words: loads, stores and conversions that no dialect changes.
//
// Contract: fp16 and bf16 to fp32 is exact; fp32 to fp16 and bf16 rounds to nearest even, keeps
// subnormals, overflows to infinity, and gives NaN as 0x7fff. A Pack<BYTES> is moved by one load or
// store of that size and must be aligned to it.
#pragma once

enum Format { FP32 = 0, FP16 = 1, BF16 = 2 };

template <int FORMAT> struct Storage { using type = unsigned short; };
template <> struct Storage<FP32> { using type = float; };

// 1, 2, 4, 8 or 16 bytes in registers; the first byte in memory is the lowest of word[0].
template <int BYTES> struct Pack {
    static constexpr int WORDS = (BYTES + 3) / 4;
    unsigned word[WORDS];

    __device__ static Pack load(const void* from) {
        Pack pack;
        if constexpr (BYTES == 16) {
            const uint4 v = *static_cast<const uint4*>(from);
            pack.word[0] = v.x, pack.word[1] = v.y, pack.word[2] = v.z, pack.word[3] = v.w;
        } else if constexpr (BYTES == 8) {
            const uint2 v = *static_cast<const uint2*>(from);
            pack.word[0] = v.x, pack.word[1] = v.y;
        } else if constexpr (BYTES == 4) {
            pack.word[0] = *static_cast<const unsigned*>(from);
        } else if constexpr (BYTES == 2) {
            pack.word[0] = *static_cast<const unsigned short*>(from);
        } else {
            static_assert(BYTES == 1, "a pack has 1, 2, 4, 8 or 16 bytes");
            pack.word[0] = *static_cast<const unsigned char*>(from);
        }
        return pack;
    }

    __device__ void store(void* to) const {
        if constexpr (BYTES == 16) {
            *static_cast<uint4*>(to) = make_uint4(word[0], word[1], word[2], word[3]);
        } else if constexpr (BYTES == 8) {
            *static_cast<uint2*>(to) = make_uint2(word[0], word[1]);
        } else if constexpr (BYTES == 4) {
            *static_cast<unsigned*>(to) = word[0];
        } else if constexpr (BYTES == 2) {
            *static_cast<unsigned short*>(to) = static_cast<unsigned short>(word[0]);
        } else {
            static_assert(BYTES == 1, "a pack has 1, 2, 4, 8 or 16 bytes");
            *static_cast<unsigned char*>(to) = static_cast<unsigned char>(word[0]);
        }
    }
};

__device__ inline float fp16_to_float(unsigned bits) {
    float value;
    asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(static_cast<unsigned short>(bits)));
    return value;
}

__device__ inline unsigned float_to_fp16(float value) {
    unsigned short bits;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(value));
    return bits;
}

__device__ inline unsigned float_to_bf16(float value) {
    unsigned short bits;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(value));
    return bits;
}

// value rounded to FORMAT.
template <int FORMAT> __device__ float through(float value) {
    if constexpr (FORMAT == FP16) return fp16_to_float(float_to_fp16(value));
    if constexpr (FORMAT == BF16) return __uint_as_float(float_to_bf16(value) << 16);
    return value;
}

// Element i of a pack of FORMAT, as fp32.
template <int FORMAT, int BYTES> __device__ float element(const Pack<BYTES>& pack, int i) {
    if constexpr (FORMAT == FP32) return __uint_as_float(pack.word[i]);
    const unsigned word = pack.word[i / 2];
    if constexpr (FORMAT == FP16) return fp16_to_float(i % 2 ? word >> 16 : word);
    return __uint_as_float(i % 2 ? word & 0xffff0000u : word << 16);
}

// COUNT values, rounded to FORMAT.
template <int FORMAT, int COUNT>
__device__ Pack<COUNT * sizeof(typename Storage<FORMAT>::type)> pack_floats(
    const float (&value)[COUNT]) {
    Pack<COUNT * sizeof(typename Storage<FORMAT>::type)> pack = {};
#pragma unroll
    for (int i = 0; i < COUNT; i++) {
        if constexpr (FORMAT == FP32) {
            pack.word[i] = __float_as_uint(value[i]);
        } else {
            const unsigned bits =
                FORMAT == FP16 ? float_to_fp16(value[i]) : float_to_bf16(value[i]);
            pack.word[i / 2] |= bits << (i % 2 * 16);
        }
    }
    return pack;
}

// COUNT codes, one byte each.
template <int COUNT> __device__ Pack<COUNT> pack_codes(const int (&code)[COUNT]) {
    Pack<COUNT> pack = {};
#pragma unroll
    for (int i = 0; i < COUNT; i++) pack.word[i / 4] |= (code[i] & 0xffu) << (i % 4 * 8);
    return pack;
}

// Code i of a pack, sign-extended.
template <int BYTES> __device__ int code_at(const Pack<BYTES>& pack, int i) {
    return static_cast<signed char>(pack.word[i / 4] >> (i % 4 * 8));
}
