"""The tiled GEMMs: which tile and how many parts of K, where blocks work, what memory sees."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import emulator
from kernels_cupy import int8_gemm, int8_gemm_azp, int8_gemm_requantize, launch, tiling
from kernels_cupy.launch import Launch, recording
from reference import int8_gemm as oracle
from reference import int8_gemm_azp as azp_oracle

# ---- pure functions of the sizes


def test_tile_rows() -> None:
    edges = {1: 16, 16: 16, 17: 32, 32: 32, 33: 64, 64: 64, 65: 128, 128: 128, 10**6: 128}
    assert {M: tiling.tile_rows(M) for M in edges} == edges


def test_splits() -> None:
    assert tiling.splits(16, 4096, 4096) == 8  # 32 tiles, two blocks per SM
    assert tiling.splits(1, 28672, 8192) == 1  # 224 tiles fill the device
    assert tiling.splits(16, 128, 64 * 7) == 1  # too short to cut
    assert tiling.splits(16, 128, 64 * 8) == 2
    assert tiling.best_variant(16, 4096, 4096) == "split_k"
    assert tiling.best_variant(4096, 4096, 4096) == "pipeline"


@pytest.mark.parametrize("M", [1, 17, 64, 129])
@pytest.mark.parametrize("N", [1, 129, 4096])
def test_no_part_of_k_is_empty_or_short(M: int, N: int) -> None:
    for stages in range(1, 200):
        parts = tiling.splits(M, N, stages * tiling.DEPTH)
        length = -(-stages // parts)
        assert (parts - 1) * length < stages <= parts * length
        assert parts == 1 or length >= tiling.FEWEST_STAGES
        blocks = tiling.tiles(M, N, tiling.tile_rows(M)) * parts
        assert parts == 1 or blocks <= 2 * tiling.SMS


# ---- where blocks work

PLACES = """
#define COPY 16
#include "tile.cuh"
extern "C" __global__ void places(int* batch, int* m, int* n, int M, int N) {
    const Place at = place<16, 128>(blockIdx.x, M, N);
    if (threadIdx.x == 0) batch[blockIdx.x] = at.batch, m[blockIdx.x] = at.m, n[blockIdx.x] = at.n;
}
"""


@pytest.mark.parametrize(("M", "N", "batch"), [(1, 1, 1), (16 * 37 - 3, 128 * 5, 1), (40, 300, 3)])
def test_every_tile_has_one_block(tmp_path: Path, M: int, N: int, batch: int) -> None:
    source = tmp_path / "places.cu"
    source.write_text(PLACES)
    blocks = tiling.tiles(M, N, 16) * batch
    found = [np.zeros(blocks, np.int32) for _ in range(3)]
    launch.run(str(source), "places", {}, (blocks,), (32,), (*found, np.int32(M), np.int32(N)))
    places = list(zip(*(one.tolist() for one in found), strict=True))
    rows, columns = range(0, M, 16), range(0, N, 128)
    assert sorted(places) == [(i, m, n) for i in range(batch) for m in rows for n in columns]
    if batch == 1 and M > 16 * 16:  # blocks side by side: 16 row tiles, as many column tiles
        first = places[: 16 * len(columns)]
        assert {m for _, m, _ in first} == {16 * i for i in range(16)}
        assert [n for _, _, n in first[:16]] == [0] * 16


# ---- what memory sees


def aligned(array: np.ndarray) -> np.ndarray:
    copy = emulator.empty(array.shape, array.dtype)
    copy[...] = array
    emulator.mark_written(copy)
    return copy


def operands(M: int, N: int, K: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng([M, N, K])
    a, b = (rng.integers(-128, 128, (side, K)).astype(np.int8) for side in (M, N))
    scales = (rng.random(side).astype(np.float32) for side in (M, N))
    return tuple(map(aligned, (a, b, *scales)))  # type: ignore[return-value]


def run_all(M: int, N: int, K: int) -> list[Launch]:
    """Every tensor-core kernel on these sizes, traced."""
    a, b, a_scales, b_scales = operands(M, N, K)
    sums = aligned(azp_oracle.column_sums(b))
    zero_points, out_scale = aligned(np.ones(M, np.int32)), aligned(np.ones(1, np.float32))
    vectors = a_scales, b_scales
    with recording(trace=True) as session:
        int8_gemm.gemm_mma(a, b)
        int8_gemm.gemm_pipeline(a, b)
        int8_gemm.gemm_split_k(a, b)
        for out_dtype in ("fp32", "fp16"):
            told = {"out_dtype": out_dtype}
            int8_gemm.gemm_dequant_pipeline(a, b, *vectors, b_scales, **told)
            int8_gemm.gemm_dequant_split_k(a, b, *vectors, **told)
        int8_gemm_azp.gemm_azp_pipeline(a, b, *vectors, zero_points, sums, out_dtype="fp16")
        int8_gemm_requantize.gemm_requantize_pipeline(a, b, *vectors, out_scale)
    return session.launches


@pytest.mark.parametrize("M", [16, 32, 64, 128, 33])
@pytest.mark.parametrize("K", [640, 644, 131], ids=["cp.async 16", "cp.async 4", "plain loads"])
def test_no_bank_conflict(M: int, K: int) -> None:
    for N in (256, 129):
        for one in run_all(M, N, K):
            found = one.stats.shared_wavefronts, one.stats.shared_ideal_wavefronts
            assert found[0] == found[1] > 0, (one.kernel, one.constants, found)


@pytest.mark.parametrize("M", [16, 32, 64, 128])
def test_whole_sectors(M: int) -> None:
    """Every request of the 16-byte paths, loads and stores, fills the sectors that it touches."""
    for one in run_all(M, 256, 640):
        assert one.stats.global_sectors == one.stats.ideal_sectors, one.kernel


@pytest.mark.parametrize(("out_dtype", "size"), [("fp32", 4), ("fp16", 2), ("bf16", 2)])
def test_results_are_stored_once(out_dtype: str, size: int) -> None:
    M, N, K = 128, 256, 128
    a, b, a_scales, b_scales = operands(M, N, K)
    with recording(trace=True) as session:
        int8_gemm.gemm_dequant_pipeline(a, b, a_scales, b_scales, out_dtype=out_dtype)
    (one,) = session.launches
    stores = [line for line in one.stats.lines if line.store and not line.shared]
    assert sum(line.transactions for line in stores) * 32 == M * N * size
    assert sum(line.bytes for line in stores) == M * N * size


# ---- K split over blocks


@pytest.mark.parametrize("seed", [0, 1, 5])
def test_blocks_of_a_split_may_run_in_any_order(seed: int) -> None:
    M, N, K = 20, 140, 1300
    a, b, a_scales, b_scales = operands(M, N, K)
    parts = tiling.splits(M, N, K)
    assert parts == 5
    with recording(seed=seed) as session:
        plain = int8_gemm.gemm_split_k(a, b)
        scaled = int8_gemm.gemm_dequant_split_k(a, b, a_scales, b_scales, out_dtype="bf16")
    assert plain.tobytes() == oracle.gemm(a, b).tobytes()
    expected = oracle.gemm_dequant(a, b, a_scales, b_scales, out_dtype="bf16")
    assert scaled.tobytes() == expected.tobytes()
    assert [one.grid[0] for one in session.launches] == [2 * parts, 2 * parts]


def test_split_sums_are_added_once() -> None:
    """Additions to memory: M x N for each part, to 32 neighbours at a time."""
    M, N, K = 16, 256, 1024
    a, b, *_ = operands(M, N, K)
    with recording(trace=True) as session:
        int8_gemm.gemm_split_k(a, b)
    (one,) = session.launches
    parts = tiling.splits(M, N, K)
    assert parts == 4
    assert one.stats.global_store_bytes == parts * M * N * 4
    assert one.stats.opcodes["red.global.add.s32"] == parts * M * N


# ---- the rest


@pytest.mark.parametrize("M", range(1, 34, 4))
@pytest.mark.parametrize("K", [384, 771, 1076, 1368])
def test_small_m(M: int, K: int) -> None:
    for N in (7, 65, 384):
        a, b, a_scales, b_scales = operands(M, N, K)
        expected = oracle.gemm(a, b)
        for kernel in (int8_gemm.gemm_pipeline, int8_gemm.gemm_split_k):
            assert kernel(a, b).tobytes() == expected.tobytes()
        scales = a_scales[:1], b_scales  # one for all tokens
        fused = oracle.gemm_dequant(a, b, *scales, dialect="vllm", out_dtype="fp16")
        for kernel in (int8_gemm.gemm_dequant_pipeline, int8_gemm.gemm_dequant_split_k):
            found = kernel(a, b, *scales, dialect="vllm", out_dtype="fp16")
            assert found.tobytes() == fused.tobytes()


def test_dialects_share_compilations() -> None:
    a, b, a_scales, b_scales = operands(3, 5, 16)
    told: set[Any] = set()
    for dialect in ("ieee", "vllm", "article_cuda"):
        with recording() as session:
            int8_gemm.gemm_dequant_pipeline(a, b, a_scales, b_scales, dialect=dialect)
            int8_gemm.epilogue(oracle.gemm(a, b), a_scales, b_scales, dialect=dialect)
        told |= {one.constants for one in session.launches}
    assert len(told) == 2
