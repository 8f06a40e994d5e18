"""Transpose, pack and the GEMM with packed weights: by hand, round trips, wrong twins."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from quantassay import check_kernel
from reference import Kernel
from reference.int8_gemm import gemm_dequant
from reference.int8_gemm_packed import gemm_packed
from reference.int8_pack import PIECE, pack, transpose, unpack

RNG = np.random.default_rng(5)


def codes(*shape: int) -> Any:
    return RNG.integers(-128, 128, shape).astype(np.int8)


def test_transpose_by_hand() -> None:
    made = transpose(np.array([[1, 2, 3], [4, 5, 6]], np.int8))
    assert made.tolist() == [[1, 4], [2, 5], [3, 6]]
    assert made.flags.c_contiguous


def test_a_lane_holds_sixteen_columns_of_one_row() -> None:
    w = codes(16, 130)
    packed = pack(w)
    assert packed.shape == (2, 3, PIECE)
    for panel, chunk, lane in ((0, 0, 0), (1, 1, 13), (1, 2, 31), (0, 2, 0)):
        row, column = 8 * panel + lane // 4, 64 * chunk + lane % 4 * 16
        expected = np.zeros(16, np.int8)
        there = w[row, column : column + 16]
        expected[: there.size] = there
        assert packed[panel, chunk, 16 * lane : 16 * lane + 16].tolist() == expected.tolist()


@pytest.mark.parametrize(("N", "K"), [(8, 1), (24, 64), (16, 65), (8, 200)])
def test_unpack_gives_back_and_padding_is_zero(N: int, K: int) -> None:
    w = codes(N, K)
    packed = pack(w)
    assert np.array_equal(unpack(packed, K), w)
    chunks = packed.shape[1]
    assert not unpack(packed, 64 * chunks)[:, K:].any()


def test_packed_gemm_is_the_plain_one() -> None:
    a, w = codes(5, 77), codes(24, 77)
    a_scales, b_scales = RNG.random(5, np.float32), RNG.random(24, np.float32)
    bias = RNG.random(24, np.float32)
    for dialect in ("ieee", "vllm"):
        plain = gemm_dequant(a, w, a_scales, b_scales, bias, dialect=dialect)
        assert np.array_equal(
            gemm_packed(a, pack(w), a_scales, b_scales, bias, dialect=dialect), plain
        )


def test_bad_input_is_named() -> None:
    one = np.ones(1, np.float32)
    with pytest.raises(ValueError, match=r"w_codes: got N = 12 .*; allowed: a multiple of 8"):
        pack(codes(12, 4))
    with pytest.raises(ValueError, match=r"packed: got shape \(1, 1, 512\); allowed with K = 65"):
        gemm_packed(codes(2, 65), pack(codes(8, 64)), one, one)
    with pytest.raises(ValueError, match=r"b_scales: got 3 elements; allowed: 1 .* or 8"):
        gemm_packed(codes(2, 64), pack(codes(8, 64)), one, np.ones(3, np.float32))
    with pytest.raises(ValueError, match="dialect: got 'triton'; allowed: ieee, vllm"):
        transpose(codes(2, 2), dialect="triton")


def column_major(w_codes: Any) -> Any:
    N, K = w_codes.shape
    padded = np.zeros((N, -(-K // 64) * 64), np.int8)
    padded[:, :K] = w_codes
    return np.ascontiguousarray(padded.reshape(N // 8, 8, -1, 64).transpose(0, 2, 3, 1)).reshape(
        N // 8, -1, PIECE
    )


def repeated_tail(w_codes: Any) -> Any:
    N, K = w_codes.shape
    padded = np.resize(w_codes[:, -1:], (N, 1)).repeat(-(-K // 64) * 64, axis=1)
    padded[:, :K] = w_codes
    return pack(padded)


@pytest.mark.parametrize("wrong", [column_major, repeated_tail])
def test_wrong_packers_are_rejected(wrong: Any) -> None:
    kernel = Kernel("int8.pack", "wrong", wrong.__name__, ("ieee",), wrong)
    result = check_kernel(kernel, "ieee", device="emulator")
    assert result.mismatches > 0
    assert result.counterexample is not None
