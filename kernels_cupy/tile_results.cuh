// Where the results of a tile go, and what turns accumulators into them.
//
// An epilogue is a struct with
//     Output, M, N             the type of out's elements, and its shape
//     out                      Output (M, N), or (B, M, N)
//     row(m)                   what it needs of row m; nothing is read where m >= M
//     column(n)                what it needs of column n; nothing is read where n >= N
//     Pack finish(acc, row, columns)     results of neighbouring columns, as they are stored
// Results below is the plain one; int8_gemm_azp.cu and int8_gemm_requantize.cu have others. The
// order of floating-point operations is the dialect's, told at run time (dialect.cuh).
#pragma once

#include "dialect.cuh"
#include "tile.cuh"

constexpr int INT32 = 3;  // a Format beyond those of formats.cuh: accumulators as they are

template <int FORMAT> struct Element { using type = typename Storage<FORMAT>::type; };
template <> struct Element<INT32> { using type = int; };

// What the dequant epilogue needs of one column.
struct Column {
    float scale, bias;
};

// Scales and bias of a product. A stride is 1, or 0 where one scale serves all.
struct Scales {
    const float* __restrict__ a;     // fp32 (M,) or (1,)
    const float* __restrict__ b;     // fp32 (N,) or (1,)
    const float* __restrict__ bias;  // fp32 (N,) or null
    int a_stride, b_stride, rule;    // rule: an Epilogue

    __device__ RowScale row(int m, int M) const {
        return RowScale(rule, m < M ? a[static_cast<size_t>(m) * a_stride] : 0.0f);
    }
    __device__ Column column(int n, int N) const {
        if (n >= N) return {};
        return {b[static_cast<size_t>(n) * b_stride], bias ? bias[n] : NO_BIAS};
    }
};

// Accumulators of neighbouring columns to fp32.
template <int COUNT>
__device__ void dequantize(
    const int (&acc)[COUNT], const RowScale& row, const Column (&columns)[COUNT],
    float (&value)[COUNT]) {
#pragma unroll
    for (int i = 0; i < COUNT; i++)
        value[i] = dequantize_accumulator(acc[i], row, columns[i].scale, columns[i].bias);
}

// What plain accumulators need of a row or column.
struct Nothing {};

// Floats by the dequant epilogue.
template <int FORMAT> struct Results {
    using Output = typename Storage<FORMAT>::type;

    Output* __restrict__ out;  // FORMAT (M, N)
    int M, N;
    Scales scales;

    __device__ RowScale row(int m) const { return scales.row(m, M); }
    __device__ Column column(int n) const { return scales.column(n, N); }

    template <int COUNT>
    __device__ auto finish(
        const int (&acc)[COUNT], const RowScale& row, const Column (&columns)[COUNT]) const {
        float value[COUNT];
        dequantize(acc, row, columns, value);
        return pack_floats<FORMAT>(value);
    }
};

// Accumulators as they are.
template <> struct Results<INT32> {
    using Output = int;

    int* __restrict__ out;  // s32 (M, N)
    int M, N;
    Scales scales;  // not read

    __device__ Nothing row(int) const { return {}; }
    __device__ Nothing column(int) const { return {}; }

    template <int COUNT>
    __device__ Pack<4 * COUNT> finish(
        const int (&acc)[COUNT], const Nothing&, const Nothing (&)[COUNT]) const {
        Pack<4 * COUNT> pack;
#pragma unroll
        for (int i = 0; i < COUNT; i++) pack.word[i] = acc[i];
        return pack;
    }
};

// Stores the results of COUNT neighbours in row m, column n on; all of them are there.
template <class Epilogue, class Row, class Column, int COUNT>
__device__ void put(
    const Epilogue& to, int m, int n, const int (&acc)[COUNT], const Row& row,
    const Column (&columns)[COUNT]) {
    to.finish(acc, row, columns).store(to.out + static_cast<size_t>(m) * to.N + n);
}

// Stores one result, if it is there.
template <class Epilogue, class Row, class Column>
__device__ void put_one(
    const Epilogue& to, int m, int n, int acc, const Row& row, const Column& column) {
    const int one[1] = {acc};
    const Column columns[1] = {column};
    if (m < to.M && n < to.N) put(to, m, n, one, row, columns);
}
