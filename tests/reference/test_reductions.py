"""Lanes of 8: the order of float sums, on rows where another order gives other bits."""

from __future__ import annotations

import numpy as np
import pytest

from reference.numerics import fma32
from reference.reductions import depth, lane_dot, lane_sum, lanes

f32 = np.float32
BIG = 2.0**24  # BIG + 1 is a tie that goes to BIG; BIG + 2 is a float


def row(K: int, **at: float) -> np.ndarray:
    """fp32 (1, K) of zeros but for a few elements, named by their index: row(9, x0=1.0)."""
    values = np.zeros((1, K), f32)
    for name, value in at.items():
        values[0, int(name[1:])] = value
    return values


def scalar(x: np.ndarray, y: np.ndarray | None, T: int) -> np.float32:
    """The contract of one row, lane by lane and element by element; sums of x where y is None."""

    def lane(number: int) -> np.float32:
        total = f32(0)
        for chunk in range(number, -(-len(x) // 8), T):
            for k in range(8 * chunk, min(8 * chunk + 8, len(x))):
                if y is None:
                    total = f32(total + x[k])
                else:
                    total = fma32(x[k : k + 1], y[k : k + 1], np.array([total]))[0]
        return total

    def joined(values: list[np.float32]) -> np.float32:
        for apart in (16, 8, 4, 2, 1):
            values = [f32(values[i] + values[i ^ apart]) for i in range(32)]
        assert len({value.tobytes() for value in values}) == 1
        return values[0]

    every = [lane(number) for number in range(T)]
    warps = [joined(every[first : first + 32]) for first in range(0, T, 32)]
    return warps[0] if T == 32 else joined(warps + [f32(0)] * (32 - len(warps)))


def test_lanes_of_a_row() -> None:
    made = {K: lanes(K) for K in (1, 1024, 1025, 2048, 2049, 4096, 31744, 31745, 32768, 100000)}
    assert list(made.values()) == [32, 32, 64, 64, 96, 128, 992, 1024, 1024, 1024]


@pytest.mark.parametrize("K", [1, 7, 8, 9, 255, 257, 1024, 1025, 2050, 5003])
@pytest.mark.parametrize("count", [None, 32, 64])
def test_sums_follow_the_contract(K: int, count: int | None) -> None:
    rng = np.random.default_rng(K)
    x, y = rng.standard_normal((2, 3, K)).astype(f32)
    T = count or lanes(K)
    for m in range(3):
        assert lane_sum(x, count)[m].tobytes() == scalar(x[m], None, T).tobytes()
        assert lane_dot(x, y, count)[m].tobytes() == scalar(x[m], y[m], T).tobytes()


def test_dot_broadcasts() -> None:
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((3, 1, 300)).astype(f32), rng.standard_normal((5, 300)).astype(f32)
    made = lane_dot(x, w, 32)
    assert made.shape == (3, 5)
    assert made[2, 4].tobytes() == lane_dot(x[2], w[4:5], 32)[0].tobytes()


@pytest.mark.parametrize(
    ("x", "expected"),
    [
        (row(9, x0=BIG, x1=1, x2=1), BIG),  # one lane, one by one: pairwise sums give BIG + 2
        (row(9, x0=BIG, x7=1, x8=1), BIG),  # element 8 is lane 1's
        (row(24, x0=BIG, x8=1, x9=1), BIG + 2),  # 1 + 1 in lane 1, then BIG
        (row(40, x0=BIG, x8=1, x16=1), BIG),  # lane 2 joins lane 0 first, then lane 1
        (row(40, x0=BIG, x8=1, x24=1), BIG + 2),  # lanes 1 and 3 join before lane 0 does
        (row(256, x0=BIG, x128=1, x136=1), BIG),  # lane 16 joins lane 0 first of all
        (row(1032, x0=BIG, x256=1, x257=1), BIG + 2),  # 64 lanes: chunk 32 is not lane 0's
        (row(1032, x0=BIG, x512=1, x513=1), BIG),  # chunk 64 is
        (row(4096, x0=BIG, x256=1, x768=1), BIG + 2),  # warps 1 and 3 join before warp 0 does
        (row(4096, x0=BIG, x256=1, x512=1), BIG),
    ],
)
def test_order_by_hand(x: np.ndarray, expected: float) -> None:
    assert lane_sum(x)[0] == expected
    assert lane_dot(x, np.ones_like(x))[0] == expected
    assert x.astype(np.float64).sum() == BIG + 2  # exactly: half of the orders lose it


def test_the_number_of_lanes_shows() -> None:
    x = row(1032, x0=BIG, x256=1, x257=1)
    assert lane_sum(x, 32)[0] == BIG  # chunk 32 of 32 lanes is lane 0's
    assert lane_sum(x, 64)[0] == BIG + 2


def test_products_are_fused() -> None:
    e = 2.0**-12
    x, y = row(2, x0=1.0, x1=1 + e), row(2, x0=-1 - 2 * e, x1=1 + e)
    assert lane_dot(x, y)[0] == e * e
    assert f32(x[0, 1] * y[0, 1]) + y[0, 0] == 0


def test_zeros_nan_and_infinity() -> None:
    tiny = np.full((1, 256), 2.0**-100, f32)
    assert np.signbit(lane_dot(tiny, -tiny)[0])  # every lane underflows to -0
    assert not np.signbit(lane_dot(tiny[:, :255], -tiny[:, :255], 64)[0])  # some lanes have none
    assert not np.signbit(lane_sum(np.full((1, 256), -0.0, f32))[0])  # +0 + -0
    assert lane_sum(np.full((1, 2), 2.0**-149, f32))[0] == f32(2.0**-148)
    odd = np.array([[np.inf, 1.0], [np.inf, -np.inf], [3e38, 3e38], [np.nan, 1.0]], f32)
    odd[3, 0] = np.array([0xFFC12345], np.uint32).view(f32)[0]
    bits = lane_sum(odd).view(np.uint32).tolist()
    assert bits == [0x7F800000, 0x7FFFFFFF, 0x7F800000, 0x7FFFFFFF]
    assert lane_dot(odd, odd).view(np.uint32).tolist() == [0x7F800000] * 3 + [0x7FFFFFFF]


@pytest.mark.parametrize("K", [1, 8, 100, 1024, 4097])
def test_error_stays_within_the_bound(K: int) -> None:
    """gamma(n) times the sum of magnitudes, n roundings."""
    rng = np.random.default_rng(K)
    x, y = (rng.standard_normal((2, 64, K)) * 8).astype(f32)
    n = depth(K) * 2.0**-24
    for made, terms in (
        (lane_sum(x), x.astype(np.float64)),
        (lane_dot(x, y), x.astype(np.float64) * y),
    ):
        error = np.abs(made - terms.sum(1))
        assert (error <= n / (1 - n) * np.abs(terms).sum(1)).all()


def test_depth_counts_roundings() -> None:
    assert [depth(1), depth(256), depth(1024), depth(1025), depth(4096)] == [13, 13, 37, 34, 42]
    assert depth(4096, 32) == 133


def test_refusals() -> None:
    x = np.ones((1, 8), f32)
    with pytest.raises(TypeError, match=r"x: got dtype float64; allowed: float32"):
        lane_sum(x.astype(np.float64))
    for count in (0, 16, 33, 2048):
        with pytest.raises(ValueError, match=rf"count: got {count} lanes; allowed: multiples"):
            lane_sum(x, count)
    with pytest.raises(ValueError, match=r"y: got K = 7; allowed: 8, the K of x"):
        lane_dot(x, x[:, :7])
