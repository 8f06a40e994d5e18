"""What ptxas made of the kernels: no spills, wide accesses; and the reader. Tensor-core kernels are
in test_gemm_audit.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from kernels_cupy.catalogue import catalogue
from kernels_cupy.compile import ARCHS, cubin
from kernels_cupy.configuration import Configuration
from roofline import sass
from roofline.audit import AuditRow, audit, problems, table

WIDE = {
    "quantize_rows ieee fp16 x8",
    "quantize_rows vllm fp16 x8",
    "quantize_static ieee fp16 x8",
    "tensor_maximum ieee fp16 x8",
    "dequantize fp16 x8",
    "epilogue fp16 x4",
    "gemm_dp4a copy 16",
    "linear_prologue ieee fp16 x8 copy 16",
}


def named(configuration: Configuration) -> str:
    words = configuration.kernel, configuration.dialect, configuration.path
    return " ".join(word for word in words if word)


@pytest.fixture(scope="module")
def rows() -> dict[tuple[str, str], AuditRow]:
    """(kernel and path, arch) -> row, of the kernels whose speed matters."""
    chosen = [configuration for configuration in catalogue() if named(configuration) in WIDE]
    assert {named(configuration) for configuration in chosen} == WIDE
    found = audit(ARCHS, chosen)
    return {(row.name.removesuffix(f" {row.arch}"), row.arch): row for row in found}


def test_all_is_as_intended(rows: dict[tuple[str, str], AuditRow]) -> None:
    assert [words for row in rows.values() for words in problems(row)] == []
    assert all(0 < row.registers <= 128 for row in rows.values())
    assert all(row.stack_bytes == row.local_loads == row.local_stores == 0 for row in rows.values())


@pytest.mark.parametrize("arch", ARCHS)
def test_quantize_rows(rows: dict[tuple[str, str], AuditRow], arch: str) -> None:
    """16-byte loads; the common path divides nowhere: at most 11 slots per element in ieee."""
    for dialect, slots in (("ieee", 11), ("vllm", 8)):
        row = rows[f"quantize_rows {dialect} fp16 x8", arch]
        assert set(row.loads) == {"LDG.128"}
        assert row.stores["STG.64"] >= 4
        loop = row.hot_loop
        assert loop is not None
        assert (loop.load_bytes, loop.store_bytes, loop.calls) == (16, 8, 0)
        assert loop.issue_slots <= 8 * slots


def test_dp4a_loop_is_mostly_dp4a(rows: dict[tuple[str, str], AuditRow]) -> None:
    for arch in ARCHS:
        loop = rows["gemm_dp4a copy 16", arch].hot_loop
        assert loop is not None
        assert loop.dp4a == 4 * 4 * 4
        assert loop.dp4a / loop.issue_slots > 0.7


def test_the_table_shows_every_row(rows: dict[tuple[str, str], AuditRow]) -> None:
    lines = table(rows.values()).splitlines()
    assert len(lines) == 2 + len(rows)
    assert all(line.count("|") == lines[0].count("|") for line in lines)


# ---- the reader


def configuration(path: Path, kernel: str = "gemm_pipeline_16", **defines: int) -> Configuration:
    told = {"COPY": 16, **defines}
    return Configuration("int8.gemm", "pipeline", str(path), kernel, told, "", "copy 16")


def test_problems_are_found(tmp_path: Path) -> None:
    source = tmp_path / "slow.cu"
    source.write_text(
        'extern "C" __global__ void gemm_pipeline_16(int* a, int n) {\n'
        "    int kept[64];\n"
        "    for (int i = 0; i < 64; i++) kept[i] = a[i];\n"
        "    for (int i = 0; i < n; i++) kept[a[i]] += kept[a[i + 1]];\n"
        "    for (int i = 0; i < 64; i++) a[i] = kept[i];\n"
        "}\n"
    )
    (row,) = audit(["sm_80"], [configuration(source)])
    words = " / ".join(problems(row))
    for expected in ("registers spill: ", "no 128-bit access", "no tensor", "no LDSM", "no async"):
        assert expected in words
    assert row.stack_bytes >= 64
    assert row.local_loads


def test_nested_loops(tmp_path: Path) -> None:
    source = tmp_path / "loops.cu"
    source.write_text(
        'extern "C" __global__ void gemm_pipeline_16(const int* a, int* out, int n) {\n'
        "    int sum = 0;\n"
        "#pragma unroll 1\n"
        "    for (int i = 0; i < n; i++) {\n"
        "        const int end = a[i];\n"
        "#pragma unroll 1\n"
        "        for (int j = 0; j < end; j++) sum = sum * 3 + a[j];\n"
        "        out[i] = sum;\n"
        "    }\n"
        "}\n"
    )
    for arch in ARCHS:
        (function,) = sass.disassemble(cubin(source, {}, arch)).values()
        inner, outer = sorted(sass.find_loops(function), key=lambda loop: loop.issue_slots)
        assert (inner.innermost, inner.load_bytes, inner.store_bytes) == (True, 4, 0)
        assert (outer.innermost, outer.load_bytes, outer.store_bytes) == (False, 8, 4)


LISTING = """
        /*0000*/                   MOV R1, c[0x0][0x28] ;
.L_x_1:
        /*0010*/              @!P0 LDG.E.128.CONSTANT R8, [R2.64] ;
        /*0020*/                   CALL.REL.NOINC `($__internal_0_$__cuda_sm3x_div_rn) ;
        /*0030*/               @P0 CALL.REL.NOINC `(.L_x_2) ;
        /*0040*/                   BRA `(.L_x_1) ;
.L_x_2:
        /*0050*/                   EXIT ;
.L_x_3:
        /*0060*/                   BRA `(.L_x_3);
        /*0070*/                   NOP;
"""


def test_a_listing_is_read() -> None:
    code, labels = sass._parse(LISTING)
    assert [one.opcode for one in code[:2]] == ["MOV", "LDG.E.128.CONSTANT"]
    assert (code[1].predicate, code[1].width, code[1].operands) == ("@!P0", 16, "R8, [R2.64]")
    assert code[-1].root == "EXIT"
    assert labels[".L_x_2"] == 0x50
    assert [one.calls for one in code] == [False, False, True, False, False, False]
    (loop,) = sass.find_loops(sass.Function(0, 0, 0, code, labels))
    assert (loop.start, loop.issue_slots, loop.load_bytes, loop.calls) == (0x10, 4, 16, 1)


def test_resources_come_from_the_file() -> None:
    told = next(entry for entry in catalogue() if entry.kernel == "dequantize")
    found = sass.read_resources(cubin(told.source, told.defines, "sm_80"))
    ((registers, stack, shared),) = found.values()
    assert set(found) == {"dequantize"}
    assert 8 <= registers <= 64
    assert (stack, shared) == (0, 0)
    with pytest.raises(ValueError, match="cubin: got b'text'"):
        sass.read_resources(b"text")


def test_nvdisasm_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.path", [])
    monkeypatch.setenv("PATH", "")
    with pytest.raises(FileNotFoundError, match="install nvidia-cuda-nvdisasm"):
        sass.find_nvdisasm.__wrapped__()


def test_nvdisasm_refuses(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="nvdisasm: "):
        sass.disassemble(b"\x7fELF no cubin")
