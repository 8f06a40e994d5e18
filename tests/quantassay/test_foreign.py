"""`quantassay check --cu` and `--ptx`: any engineer's kernel, right or wrong, as it comes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from quantassay.cli import app
from quantassay.errors import UsageError
from quantassay.foreign import grammar, load, ptx_file
from reference.op import OPS
from tests.quantassay.foreign_kernels import (
    ARGS,
    BODY,
    CODE,
    NORM,
    PLAIN,
    STATIC,
    checked,
    passes,
    request,
)

# Kernels as they come ------------------------------------------------------------------------


def test_a_plain_kernel_tells_its_types(tmp_path: Path) -> None:
    kernel = load(request(tmp_path, PLAIN))
    assert (kernel.wing, kernel.variant, kernel.dtypes) == ("cuda", "quantize", ("fp32",))
    passes(tmp_path, PLAIN)


@pytest.mark.parametrize(
    ("type_name", "header", "wide", "dtype"),
    [
        ("__half", "cuda_fp16.h", "__half2float(x[i])", "fp16"),
        ("__nv_bfloat16", "cuda_bf16.h", "__bfloat162float(x[i])", "bf16"),
    ],
)
def test_a_kernel_of_another_input_dtype_meets_only_that(
    tmp_path: Path, type_name: str, header: str, wide: str, dtype: str
) -> None:
    text = f"#include <{header}>\n{PLAIN}".replace("const float* x", f"const {type_name}* x")
    text = text.replace("code_of(x[i]", f"code_of({wide}")
    assert load(request(tmp_path, text)).dtypes == (dtype,)
    passes(tmp_path, text)


def test_bits_of_a_half_need_their_dtype(tmp_path: Path) -> None:
    text = PLAIN.replace("const float* x", "const unsigned short* x")
    text = text.replace("code_of(x[i]", "code_of(__uint_as_float((unsigned)x[i] << 16)")
    with pytest.raises(UsageError, match=r"--dtype: say the type of x; .* has: fp32, fp16, bf16"):
        load(request(tmp_path, text))
    passes(tmp_path, text, dtypes=("bf16",))


def test_a_template_in_a_namespace_for_every_dtype(tmp_path: Path) -> None:
    head = "#include <cuda_fp16.h>\n#include <cuda_bf16.h>\nnamespace ours {\n"
    body = PLAIN.replace("__global__", "template <typename T, int THREADS> __global__")
    body = body.replace("const float* x", "const T* x").replace("blockDim.x", "THREADS")
    body = body.replace("code_of(x[i]", "code_of(static_cast<float>(x[i])")
    text = f"{head}{body}}}\n"
    entries = ("ours::quantize<{dtype}, 64>",)
    kernel = load(request(tmp_path, text, entries=entries))
    assert kernel.dtypes == ("fp32", "fp16", "bf16")
    passes(tmp_path, text, entries=entries)
    two = load(request(tmp_path, text, entries=entries, dtypes=("fp16", "bf16")))
    assert two.dtypes == ("fp16", "bf16")


def test_sizes_take_the_parameters_type(tmp_path: Path) -> None:
    text = "#include <cstdint>\n" + PLAIN.replace(
        "int M, int K, int S", "int64_t M, const size_t K, std::int32_t S, float one, bool yes"
    )
    args = f"{ARGS}, 1.0, true"
    passes(tmp_path, text, args=(args,))
    passes(tmp_path, text, args=("x, scales, codes, M:i64, K:size_t, S, 1e0:f32, 1:bool",))


def test_a_struct_by_value(tmp_path: Path) -> None:
    text = CODE + (
        "struct Job { const float* x; bool flag; const float* scales; signed char* codes;"
        " int M, K; long S; };\n"
        "__global__ void quantize(Job job, int unused) {\n"
        "    const float *x = job.x, *scales = job.scales; signed char* codes = job.codes;\n"
        "    const int M = job.M, K = job.K, S = job.S;\n" + BODY.format(x="x[i]") + "}\n"
    )
    args = ("{x, true, scales, codes, M, K, S:i64}, 0",)
    passes(tmp_path, text, args=args, dtypes=("fp32",))
    wrong = text.replace("i < M * K", "i <= M * K")
    result = checked(tmp_path, wrong, args=args, dtypes=("fp32",))
    assert "right behind the end of x (" in str(result.counterexample)


def test_two_launches_share_scratch_memory(tmp_path: Path) -> None:
    """Per tensor: amax by an atomic, which wants zeros, then the codes."""
    text = CODE + (
        "__global__ void amax(const float* x, unsigned* most, int n) {\n"
        "    const int i = blockIdx.x * blockDim.x + threadIdx.x;\n"
        "    if (i < n) atomicMax(most, __float_as_uint(fabsf(x[i])));\n}\n"
        "__global__ void quantize(const float* x, const float* most, signed char* codes,"
        " float* scale, int n) {\n"
        "    const int i = blockIdx.x * blockDim.x + threadIdx.x;\n"
        "    const float wide = isnan(*most) ? __uint_as_float(0x7fffffff) : *most / 127.0f;\n"
        "    if (i == 0) *scale = wide;\n"
        "    if (i < n) codes[i] = isnan(wide) ? 0 : code_of(x[i], wide);\n}\n"
    )
    changes = {
        "op": "int8.quantize_per_tensor",
        "entries": ("amax", "quantize"),
        "args": ("x, most:u32[1]=0, M * K", "x, most:u32[1]=0, codes, scales, M * K"),
    }
    result = passes(tmp_path, text, **changes)
    assert result.variant == "amax+quantize"
    unset = {**changes, "args": tuple(one.replace("=0", "") for one in changes["args"])}
    assert "which nobody has written" in str(checked(tmp_path, text, **unset).counterexample)


def test_a_cooperative_launch_waits_for_all_blocks(tmp_path: Path) -> None:
    text = CODE + (
        "__global__ void quantize(const float* x, unsigned* most, unsigned* there,"
        " signed char* codes, float* scale, int n) {\n"
        "    for (int i = blockIdx.x * 64 + threadIdx.x; i < n; i += 64 * gridDim.x)\n"
        "        atomicMax(most, __float_as_uint(fabsf(x[i])));\n"
        "    __syncthreads();\n"
        "    if (threadIdx.x == 0) {\n"
        "        __threadfence(); atomicAdd(there, 1);\n"
        "        while (atomicAdd(there, 0) < gridDim.x) {}\n"
        "    }\n    __syncthreads();\n"
        "    const float amax = __uint_as_float(*(volatile unsigned*)most);\n"
        "    const float wide = isnan(amax) ? __uint_as_float(0x7fffffff) : amax / 127.0f;\n"
        "    if (blockIdx.x == 0 && threadIdx.x == 0) *scale = wide;\n"
        "    for (int i = blockIdx.x * 64 + threadIdx.x; i < n; i += 64 * gridDim.x)\n"
        "        codes[i] = isnan(wide) ? 0 : code_of(x[i], wide);\n}\n"
    )
    changes = {"op": "int8.quantize_per_tensor", "grids": ("min(4, cdiv(M * K, 64))",)}
    args = ("x, most:u32[1]=0, there:u32[1]=0, codes, scales, M * K",)
    passes(tmp_path, text, args=args, cooperative=True, **changes)


def test_dynamic_shared_memory_by_a_formula(tmp_path: Path) -> None:
    text = CODE + (
        "__global__ void quantize(const float* x, const float* scales, signed char* codes,"
        " int K, int S) {\n    extern __shared__ float row[];\n"
        "    for (int k = threadIdx.x; k < K; k += 64) row[k] = x[blockIdx.x * K + k];\n"
        "    for (int k = threadIdx.x; k < K; k += 64)\n"
        "        codes[blockIdx.x * K + k] = code_of(row[k], scales[S == 1 ? 0 : blockIdx.x]);\n}\n"
    )
    changes = {"grids": ("M",), "args": ("x, scales, codes, K, S",)}
    passes(tmp_path, text, shared=("K * 4",), **changes)
    result = checked(tmp_path, text, shared=("K * 4 - 4",), **changes)
    assert "of shared memory, which has" in str(result.counterexample)


def test_optional_broadcast_and_outputs_of_a_kind(tmp_path: Path) -> None:
    """One scale for all is spread; an absent bias is a null pointer."""
    text = (
        "#include <cuda_fp16.h>\n"
        "__global__ void scale(const int* acc, const float* a, const float* b, const float* bias,"
        " __half* out, int M, int N) {\n    const int n = threadIdx.x, m = blockIdx.x;\n"
        "    for (int i = n; i < N; i += 64) {\n"
        "        float f = __fmul_rn(__fmul_rn(__int2float_rn(acc[m * N + i]), b[i]), a[m]);\n"
        "        if (bias) f = __fadd_rn(f, bias[i]);\n"
        "        out[m * N + i] = __float2half_rn(f);\n    }\n}\n"
    )
    args = ("acc, a_scales, b_scales, bias?, out, M, N",)
    changes = {"op": "int8.epilogue", "grids": ("M",), "args": args}
    kernel = load(request(tmp_path, text, **changes))
    assert kernel.options == (("out_dtype", ("fp16",)),)
    passes(tmp_path, text, **changes)
    with pytest.raises(UsageError, match="out is fp32, and the kernel's parameter __half"):
        load(request(tmp_path, text, options=("out_dtype=fp32",), **changes))


def test_products_and_sums_contract_as_nvcc_does(tmp_path: Path) -> None:
    text = (
        "__global__ void scale(const int* acc, const float* a, const float* b, const float* bias,"
        " float* out, int M, int N) {\n    const int m = blockIdx.x;\n"
        "    for (int i = threadIdx.x; i < N; i += 64) {\n"
        "        const float f = __int2float_rn(acc[m * N + i]) * b[i];\n"
        "        out[m * N + i] = bias == nullptr ? f * a[m] : f * a[m] + bias[i];\n    }\n}\n"
    )
    args = ("acc, a_scales, b_scales, bias?, out, M, N",)
    changes = {"op": "int8.epilogue", "grids": ("M",), "args": args}
    assert "FMA" in str(checked(tmp_path, text, **changes).counterexample)
    passes(tmp_path, text, fmad=False, **changes)


def test_a_pair_that_ptxas_may_fuse_is_noted(tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "examples" / "cuda" / "gemm.cu").read_text()
    changes = {
        "op": "int8.gemm_dequant",
        "entries": ("gemm<float>",),
        "grids": ("cdiv(N, 16), cdiv(M, 16)",),
        "blocks": ("16, 16",),
        "args": ("a, b, a_scales, b_scales, bias?, out, M, N, K",),
    }
    (note,) = passes(tmp_path, text, **changes).notes
    assert re.search(r"may fuse into one FMA \(kernel.cu:\d+\): the emulator rounds both", note)
    assert passes(tmp_path, text, fmad=False, **changes).notes == ()


def test_an_approximate_instruction_is_noted(tmp_path: Path) -> None:
    text = PLAIN.replace("__fdiv_rn(x, scale)", "__fdividef(x, scale)")
    result = checked(tmp_path, text)
    assert any(note.startswith("div.approx.f32 runs as IEEE division") for note in result.notes)


def test_fast_math_is_what_nvcc_makes_of_it(tmp_path: Path) -> None:
    text = PLAIN.replace("__fdiv_rn(x, scale)", "x / scale")
    passes(tmp_path, text)
    result = checked(tmp_path, text, fast_math=True)
    assert "subnormal" in str(result.counterexample)
    assert any("div.approx.ftz.f32" in note for note in result.notes)


def test_in_place_outputs_start_as_their_input(tmp_path: Path) -> None:
    (item,) = grammar.parse("sum=residual", OPS[NORM])
    assert item == grammar.Pointer("sum", output=True, start="residual")
    text = (
        "__global__ void add(float* sum, const float* x, signed char* codes, float* scales, int n)"
        "{ if (threadIdx.x < n) sum[threadIdx.x] += x[threadIdx.x]; }\n"
    )
    changes = {"op": NORM, "grids": ("1",), "args": ("sum=residual, x, codes, scales, M * K",)}
    kernel = load(request(tmp_path, text, **changes))
    x, residual = np.full((2, 3), 2, np.float32), np.ones((2, 3), np.float32)
    *_, total = kernel.function(x, residual, np.ones(3, np.float32), 1e-6, dialect="ieee")
    assert (total == 3).all()
    assert (residual == 1).all()


def test_no_compiler_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(*_: Any) -> Any:
        raise ImportError("No module named 'cuda.bindings'")

    monkeypatch.setattr("quantassay.foreign.cuda_source.named", absent)
    with pytest.raises(UsageError, match="--cu: NVRTC, which compiles it, cannot be used"):
        load(request(tmp_path, PLAIN))


def test_host_code_is_left_out_and_said(tmp_path: Path) -> None:
    host = (
        "#include <torch/extension.h>\n#include <vector>\n#include <stdio.h>\n"
        "void launch(torch::Tensor x) {\n"
        "    quantize<<<1, 64>>>(x.data_ptr<float>(), 0, 0, 1, 1, 1);\n}\n"
        'int main() { std::vector<int> a{1}; printf("}"); return 0; }\n'
        "static inline int rounded(int a) { return a; }\n"
        "PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) { m.def(0); }\n"
    )
    text = "#include <torch/extension.h>\n#include <vector>\n" + PLAIN + host
    result = passes(tmp_path, text)
    assert result.notes == (
        "host code is left out: launch (line 15), main (line 18), rounded (line 19), "
        "PYBIND11_MODULE (line 20)",
        "headers that are not here are read as empty: torch/extension.h, vector, stdio.h",
    )


def test_standard_headers_and_cub(tmp_path: Path) -> None:
    text = (
        "#include <cub/cub.cuh>\n#include <cmath>\n#include <cstdint>\n#include <limits>\n"
        "#include <type_traits>\n"
        "__global__ void quantize(const float* x, int8_t* codes, float* scales, int K) {\n"
        "    using Reduce = cub::BlockReduce<float, 64>;\n"
        "    __shared__ typename Reduce::TempStorage memory; __shared__ float amax;\n"
        "    float most = 0.0f;\n"
        "    for (int k = threadIdx.x; k < K; k += 64) {\n"
        "        const float a = std::abs(x[blockIdx.x * K + k]);\n"
        "        most = a > most || std::isnan(a) ? a : most;\n    }\n"
        "    auto larger = [](float a, float b) { return b > a || isnan(b) ? b : a; };\n"
        "    most = Reduce(memory).Reduce(most, larger);\n"
        "    if (threadIdx.x == 0) { amax = most; scales[blockIdx.x] = most / 127.0f; }\n"
        "    __syncthreads();\n"
        "    const float scale = amax / 127.0f;\n"
        "    for (int k = threadIdx.x; k < K; k += 64) {\n"
        "        const int code = __float2int_rn(x[blockIdx.x * K + k] / scale);\n"
        "        codes[blockIdx.x * K + k] = scale == 0.0f ? 0 : max(-127, min(127, code));\n"
        "    }\n}\n"
    )
    changes = {"grids": ("M",), "args": ("x, codes, scales, K",)}
    result = checked(tmp_path, text, op="int8.quantize_per_token", **changes)
    assert result.counterexample is None, str(result.counterexample)


def test_defines_are_known_to_formulas_and_includes_are_found(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "code.cuh").write_text(CODE)
    (tmp_path / "near.cuh").write_text("constexpr int threads() { return THREADS; }\n")
    text = '#include "code.cuh"\n#include "near.cuh"\n' + PLAIN.replace(CODE, "")
    text = text.replace("blockDim.x", "threads()")
    passes(
        tmp_path,
        text,
        defines=("THREADS=32", "UNUSED"),
        includes=(tmp_path / "deep",),
        grids=("(M * K + THREADS - 1) / THREADS",),
        blocks=("THREADS",),
    )


def test_ptx_by_its_own_or_its_mangled_name(tmp_path: Path) -> None:
    text = load(request(tmp_path, PLAIN)).function.loaded({}).ptx
    (mangled,) = re.findall(r"\.entry (\S+)\(", text)
    for entries in ((), ("quantize",), (mangled,)):
        changes = {"ptx": True, "entries": entries, "dtypes": ("fp32",)}
        kernel = load(request(tmp_path, text, **changes))
        assert kernel.label == f"ptx/{entries[0] if entries else 'quantize'}"
    passes(tmp_path, text, **changes)
    with pytest.raises(UsageError, match="--dtype: say the type of x"):
        load(request(tmp_path, text, ptx=True))


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("_Z8quantizePKfPaPfii", "quantize"),
        ("_ZN4ours8quantizeIfLi64EEEvPKT_", "ours::quantize"),
        ("quantize", "quantize"),
        ("_Zoo", "_Zoo"),
    ],
)
def test_readable_names(name: str, shown: str) -> None:
    assert ptx_file.readable(name) == shown


# Wrong kernels -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("right", "wrong", "words"),
    [
        ("__fdiv_rn(x, scale)", "x * (1.0f / scale)", "multiplies by the reciprocal"),
        ("__float2int_rn", "__float2int_rz", "truncates toward zero"),
        ("-127, min", "-128, min", "clamps to -128..127"),
        ("i < M * K", "i <= M * K", "source line: .*kernel.cu:8"),
        ("i < M * K", "i < M * K - 1", "never written"),
        ("codes[i] = code", "codes[0] = 0; codes[i + 1] = code", "right behind the end of codes, "),
        ("M * K)", "M * K) ((float*)x)[i] = 0.0f; if (i < M * K)", "modifies its input x"),
    ],
)
def test_wrong_kernels_are_explained(tmp_path: Path, right: str, wrong: str, words: str) -> None:
    assert right in PLAIN
    result = checked(tmp_path, PLAIN.replace(right, wrong))
    assert result.counterexample is not None
    assert re.search(words, str(result.counterexample)), str(result.counterexample)


def test_a_grid_that_is_empty_is_the_kernels_fault(tmp_path: Path) -> None:
    result = checked(tmp_path, PLAIN, grids=("M * K // 64",))
    assert "--grid: 'M * K // 64' is 0 at M=1, K=1" in str(result.counterexample)


def test_outputs_are_in_the_ops_order(tmp_path: Path) -> None:
    text = (
        "__global__ void quantize(float* scales, signed char* codes, const float* x, int M, int K)"
        "{ if (threadIdx.x == 0) scales[blockIdx.x] = 2.0f; codes[blockIdx.x * K] = 1; }\n"
    )
    args = ("scales, codes, x, M, K",)
    kernel = load(request(tmp_path, text, op="int8.quantize_per_token", grids=("M",), args=args))
    codes, scales = kernel.function(np.ones((3, 1), np.float32), dialect="ieee")
    assert (codes.dtype, scales.dtype) == (np.int8, np.float32)
    assert scales.tolist() == [2, 2, 2]


def test_conditions_of_a_kernel_are_kept_and_said(tmp_path: Path) -> None:
    """Four at a time: right where K is a multiple of 4 and rows start at 16-byte boundaries."""
    text = CODE + (
        "__global__ void quantize(const float4* x, const float* scales, char4* codes, int M, int K,"
        " int S) {\n    const int i = blockIdx.x * 64 + threadIdx.x;\n"
        "    if (i >= M * K / 4) return;\n"
        "    const float4 v = x[i]; const float s = scales[S == 1 ? 0 : i / (K / 4)];\n"
        "    codes[i] = make_char4(code_of(v.x, s), code_of(v.y, s), code_of(v.z, s),"
        " code_of(v.w, s));\n}\n"
    )
    path = tmp_path / "kernel.cu"
    path.write_text(text)
    words = ["check", "--cu", str(path), "--op", STATIC, "--dialect", "ieee", "--block", "64"]
    words += ["--grid", "cdiv(M * K, 256)", "--args", ARGS, "--dtype", "fp32", "--examples", "8"]
    assert CliRunner().invoke(app, words).exit_code == 1
    aligned = CliRunner().invoke(app, [*words, "--multiple", "K=4", "--aligned"])
    assert aligned.exit_code == 0, aligned.output
    assert (
        "note: run only where K is a multiple of 4 and inputs start at a 16-byte boundary"
        in aligned.output
    )
    wrong = text.replace("code_of(v.w, s)", "code_of(v.z, s)")
    path.write_text(wrong)
    found = CliRunner().invoke(app, [*words, "--multiple", "K=4", "--aligned"])
    assert found.exit_code == 1
    assert "(K=4, M=1, fp32, seed=" in found.output
    for bad in ("K", "K=0", "Z=4", "K=x"):
        refused = CliRunner().invoke(app, [*words, "--multiple", bad])
        assert refused.exit_code == 2
        assert f"--multiple: got {bad!r}; allowed: SIZE=N, N from 1, of M, K" in refused.stderr
