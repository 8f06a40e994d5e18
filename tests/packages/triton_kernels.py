"""Triton kernels as users write them, for test_frameworks_triton.py: W8A8 matmul, group quant."""

import torch
import triton
import triton.language as tl


@triton.jit
def _gemm(
    a, b, c, M, N, K, a_row, a_col, b_row, b_col, c_row, c_col,
    BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr,
):  # fmt: skip
    rows = tl.program_id(0) * BM + tl.arange(0, BM)
    cols = tl.program_id(1) * BN + tl.arange(0, BN)
    total = tl.zeros((BM, BN), dtype=tl.int32)
    for start in range(0, K, BK):
        deep = start + tl.arange(0, BK)
        x = tl.load(
            a + rows[:, None] * a_row + deep[None, :] * a_col,
            mask=(rows[:, None] < M) & (deep[None, :] < K),
            other=0,
        )
        y = tl.load(
            b + cols[None, :] * b_row + deep[:, None] * b_col,
            mask=(cols[None, :] < N) & (deep[:, None] < K),
            other=0,
        )
        total = tl.dot(x, y, total)
    inside = (rows[:, None] < M) & (cols[None, :] < N)
    tl.store(c + rows[:, None] * c_row + cols[None, :] * c_col, total, mask=inside)


def gemm(a, b):
    (M, K), N = a.shape, b.shape[0]
    c = torch.empty((M, N), dtype=torch.int32, device=a.device)

    def grid(meta):
        return triton.cdiv(M, meta["BM"]), triton.cdiv(N, meta["BN"])

    strides = (*a.stride(), *b.stride(), *c.stride())
    _gemm[grid](a, b, c, M, N, K, *strides, BM=32, BN=32, BK=64, num_warps=4, num_stages=2)
    return c


@triton.jit
def _group(x_ptr, codes_ptr, scales_ptr, N, least, BLOCK: tl.constexpr):
    group = tl.program_id(0).to(tl.int64)
    cols = tl.arange(0, BLOCK)
    mask = cols < N
    x = tl.load(x_ptr + group * N + cols, mask=mask, other=0.0).to(tl.float32)
    scale = tl.maximum(tl.max(tl.abs(x)), least) / 127
    codes = tl.clamp(x / scale, -128, 127).to(tl.int8)
    tl.store(codes_ptr + group * N + cols, codes, mask=mask)
    tl.store(scales_ptr + group, scale)


def quantize_per_group(x, group_size):
    assert x.is_contiguous()
    codes = torch.empty_like(x, device=x.device, dtype=torch.int8)
    scales = x.new_empty((len(x), x.shape[1] // group_size), dtype=torch.float32)
    BLOCK = triton.next_power_of_2(group_size)
    warps = min(max(BLOCK // 256, 1), 8)
    _group[(scales.numel(),)](
        x, codes, scales, group_size, 1e-10, BLOCK=BLOCK, num_warps=warps, num_stages=1
    )
    return codes, scales
