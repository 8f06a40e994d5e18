"""NVRTC behind one door: options, cache, errors, carried CUBINs, and what the PTX may not hold."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from kernels_cupy import compile as compiler
from kernels_cupy import geometry, int8_linear, int8_quantize, tiling
from kernels_cupy.catalogue import catalogue
from reference.dialects import FIELDS

SMALL = ("int8_dequantize.cu", {"OUTPUT": 1, "VECTOR": 8})
COMPILATIONS = {
    (entry.source, tuple(sorted(entry.defines.items()))): entry for entry in catalogue()
}
# A float operation whose rounding PTX leaves open, or that ptxas may contract.
UNFIXED = re.compile(r"\b(?:add|sub|mul|fma|mad|div|rcp|sqrt)\.(?:f16|f32|f64|bf16)\b")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, on disk and in memory."""
    monkeypatch.setenv("QUANTASSAY_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("QUANTASSAY_CUBINS", raising=False)
    compiler.forget()
    yield tmp_path / "cache"
    compiler.forget()


@pytest.fixture
def no_nvrtc(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Call it: from then on a compilation is an error."""

    def refuse(*_: Any) -> Any:
        raise AssertionError("NVRTC was called")

    compiler.nvrtc_version()
    return lambda: monkeypatch.setattr(compiler, "_nvrtc", refuse)


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text)
    return path


@pytest.mark.parametrize("entry", COMPILATIONS.values(), ids=lambda e: f"{e.kernel} {e.path}")
def test_no_warning_and_no_open_rounding(entry: Any) -> None:
    built = compiler.compiled(entry.source, entry.defines, "sm_80", "ptx")
    text = built.data.decode()
    assert built.log == ""
    assert "--gpu-architecture" not in text
    assert re.search(r"^\.target sm_80$", text, re.M)
    assert not UNFIXED.findall(text)
    assert ".ftz" not in text
    assert ".approx" not in text
    assert f".entry {entry.kernel}(" in text
    assert f'"kernels_cupy/{entry.source}"' in text


def test_cubins_are_elf_files_for_their_arch(cache: Path) -> None:
    found = {arch: compiler.cubin(*SMALL, arch) for arch in compiler.ARCHS}
    assert all(data[:4] == b"\x7fELF" for data in found.values())
    assert len(set(found.values())) == len(compiler.ARCHS)


def test_the_second_call_reads_the_disk(cache: Path, no_nvrtc: Any) -> None:
    first = compiler.ptx(*SMALL)
    compiler.forget()
    no_nvrtc()
    assert compiler.ptx(*SMALL) == first


def test_nothing_temporary_stays(cache: Path) -> None:
    compiler.ptx(*SMALL)
    compiler.cubin(*SMALL, "sm_80")
    assert sorted(path.suffix for path in cache.iterdir()) == [".cubin", ".log", ".log", ".ptx"]
    assert all(re.fullmatch(r"[0-9a-f]{64}\.\w+", path.name) for path in cache.iterdir())


def test_a_cache_that_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path, no_nvrtc: Any
) -> None:
    monkeypatch.setenv("QUANTASSAY_CACHE", str(write(tmp_path, "file", "") / "below"))
    first = compiler.ptx(*SMALL)
    path = compiler.cubin_path(*SMALL, "sm_80")
    assert path.read_bytes() == compiler.cubin(*SMALL, "sm_80")
    no_nvrtc()
    assert compiler.ptx(*SMALL) is not None
    assert compiler.ptx(*SMALL) == first


def test_the_cache_path_holds_the_cubin(cache: Path) -> None:
    path = compiler.cubin_path(*SMALL, "sm_90a")
    assert path.parent == cache
    assert path.read_bytes() == compiler.cubin(*SMALL, "sm_90a")
    assert path.stem == compiler.cubin_key(*SMALL, "sm_90a")


def test_the_key_covers_all_that_decides_the_result(tmp_path: Path, cache: Path) -> None:
    header = write(tmp_path, "inner.cuh", "#define VALUE 1\n")
    write(tmp_path, "outer.cuh", '#include "inner.cuh"\n')
    source = write(tmp_path, "k.cu", '#include "outer.cuh"\n__global__ void k(int* p);\n')

    def key(defines: dict[str, int] | None = None, arch: str = "sm_80", kind: str = "ptx") -> str:
        return compiler.compiled(source, defines or {}, arch, kind).key

    keys = [key(), key({"A": 1}), key({"A": 2}), key(arch="sm_89"), key(kind="cubin")]
    assert key({"A": 1, "B": 2}) == key({"B": 2, "A": 1})
    header.write_text("#define VALUE 2\n")
    keys.append(key())
    source.write_text(source.read_text() + "// a comment: line numbers may move\n")
    keys.append(key())
    assert len(set(keys)) == len(keys)


def test_the_version_is_in_the_key(cache: Path) -> None:
    job = compiler._job(*SMALL, "sm_80", "ptx")
    assert re.fullmatch(r"\d+\.\d+(\.\d+)?", compiler.nvrtc_version())
    assert job.key("13.0.88") != job.key("13.0.89")


def test_an_error_carries_the_log(tmp_path: Path, cache: Path) -> None:
    source = write(tmp_path, "bad.cu", "__global__ void k() {\n    undeclared = 1;\n}\n")
    with pytest.raises(compiler.CompileError, match=r"bad\.cu") as caught:
        compiler.ptx(source, {})
    assert f'{source}(2): error: identifier "undeclared" is undefined' in caught.value.log
    assert not cache.exists()


def test_a_warning_is_in_the_log_and_cached_with_it(tmp_path: Path, cache: Path) -> None:
    source = write(tmp_path, "warn.cu", "__global__ void k() { int unused; }\n")
    assert "never referenced" in compiler.compiled(source, {}, "sm_80", "ptx").log
    compiler.forget()
    assert "never referenced" in compiler.compiled(source, {}, "sm_80", "ptx").log


def test_bad_arch() -> None:
    with pytest.raises(ValueError, match=r"arch: got 'compute_80'; allowed: sm_80"):
        compiler.ptx(*SMALL, "compute_80")
    with pytest.raises(compiler.CompileError, match="gpu-architecture"):
        compiler.cubin(*SMALL, "sm_1")


def test_the_result_does_not_depend_on_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    first = compiler.cubin(*SMALL, "sm_90a")
    monkeypatch.setenv("QUANTASSAY_CACHE", str(tmp_path / "other"))
    monkeypatch.chdir(tmp_path)
    compiler.forget()
    assert compiler.cubin(*SMALL, "sm_90a") == first
    assert str(Path.cwd()).encode() not in first


# ---- carried CUBINs


@pytest.fixture
def carried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path) -> Path:
    """A folder with SMALL for sm_90a, in use; the cache is empty."""
    folder = tmp_path / "cubins"
    assert compiler.export(folder, [SMALL], ["sm_90a"]) == 1
    monkeypatch.setenv("QUANTASSAY_CACHE", str(tmp_path / "unused"))
    monkeypatch.setenv("QUANTASSAY_CUBINS", str(folder))
    compiler.forget()
    return folder


def test_carried_cubins_need_no_compiler(carried: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> Any:
        raise AssertionError("NVRTC was asked")

    monkeypatch.setattr(compiler, "_nvrtc", refuse)
    monkeypatch.setattr(compiler, "nvrtc_version", refuse)
    path = compiler.cubin_path(*SMALL, "sm_90a")
    assert path.parent == carried
    assert path.read_bytes() == compiler.cubin(*SMALL, "sm_90a")


def test_a_missing_carried_cubin_is_an_error(carried: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"holds no CUBIN of int8_dequantize\.cu for sm_80"):
        compiler.cubin(*SMALL, "sm_80")
    with pytest.raises(FileNotFoundError, match=r"'VECTOR': 4"):
        compiler.cubin(SMALL[0], {**SMALL[1], "VECTOR": 4}, "sm_90a")


def test_a_changed_carried_cubin_is_an_error(carried: Path) -> None:
    path = compiler.cubin_path(*SMALL, "sm_90a")
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(ValueError, match=r"is not the file that manifest\.json describes"):
        compiler.cubin(*SMALL, "sm_90a")


def test_a_folder_without_manifest_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    monkeypatch.setenv("QUANTASSAY_CUBINS", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"has no manifest\.json"):
        compiler.cubin(*SMALL, "sm_90a")


def test_the_manifest_says_what_was_built(carried: Path) -> None:
    manifest = json.loads((carried / compiler.MANIFEST).read_text())
    assert manifest["nvrtc"] == compiler.nvrtc_version()
    (entry,) = manifest["cubins"].values()
    assert (entry["source"], entry["arch"]) == (SMALL[0], "sm_90a")
    assert entry["defines"] == SMALL[1]


# ---- the sources and Python say the same


def test_the_enumerators_are_the_dialects_words() -> None:
    text = "\n".join(path.read_text() for path in sorted(compiler.FOLDER.glob("*.cu*")))
    words = re.findall(r'(\d+),\s*// "([^"]+)"', text)
    told = {name for name in FIELDS if f"{name.upper()}_RULE" in text}
    same = {"static_multiplier"}  # its words are the first of multiplier's
    assert FIELDS["multiplier"][:2] == FIELDS["static_multiplier"]
    for name in told - same:
        assert set(words) >= {(str(index), word) for index, word in enumerate(FIELDS[name])}, name
    known = {(str(index), word) for name in told for index, word in enumerate(FIELDS[name])}
    assert set(words) <= known
    one_word = {name for name, allowed in FIELDS.items() if len(allowed) == 1}
    assert set(FIELDS) - told - one_word <= {"k_overflow", "division"}


def test_sizes_are_the_same_on_both_sides() -> None:
    sources = "\n".join(path.read_text() for path in compiler.FOLDER.glob("*.cu*"))
    constants = {
        name: int(value) for name, value in re.findall(r"constexpr int (\w+) = (\d+);", sources)
    }
    assert constants["KEPT"] == geometry.KEPT
    assert constants["INT32"] == geometry.S32
    side = constants["NAIVE_TILE"]
    assert tiling.FIXED["naive"] == tiling.FIXED["tiled"] == (side, side, (side, side))
    side, threads = constants["TILE"], (constants["TILE_THREADS"],)
    assert tiling.FIXED["dp4a"] == (side, side, threads)
    assert (side, threads) == (int8_linear.TILE, int8_linear.BLOCK)
    assert (constants["MMA_COLUMNS"], constants["DEPTH"]) == (tiling.TILE_COLUMNS, tiling.DEPTH)
    assert tiling.FIXED["mma"] == (128, tiling.TILE_COLUMNS, tiling.BLOCK)
    assert (constants["MMA_THREADS"],) == tiling.BLOCK
    shapes = re.findall(r"^using Rows(\d+) = Shape<(\d+), ", sources, re.M)
    assert [int(name) for name, _ in shapes] == [int(rows) for _, rows in shapes]
    assert tuple(int(rows) for rows, _ in shapes) == tiling.TILE_ROWS
    assert int8_quantize.VECTOR_BYTES == 16


def test_the_full_catalogue_holds_the_representative_one() -> None:
    full = {(e.source, e.kernel, tuple(sorted(e.defines.items()))) for e in catalogue(full=True)}
    assert {(e.source, e.kernel, tuple(sorted(e.defines.items()))) for e in catalogue()} <= full
