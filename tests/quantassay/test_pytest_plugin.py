"""The pytest plugin, as another project meets it: right, wrong, bad usage."""

from __future__ import annotations

from typing import Any

import pytest

# pytester forgets what the inner run imports, and a second import of NumPy fails.
import quantassay.engine
import quantassay.explain
import quantassay.foreign.kernel
import quantassay.frameworks.functions  # noqa: F401

pytest_plugins = ["pytester"]
RIGHT = """
import numpy as np

def quantize(x):
    wide = x.astype(np.float32)
    scales = np.abs(wide).max(axis=1) / np.float32(127)
    codes = np.clip(np.rint(wide / scales[:, None]), -127, 127)
    codes = np.where(np.isnan(codes) | (scales[:, None] == 0), 0, codes)
    return codes.astype(np.int8), scales

"""
WRONG = RIGHT.replace("np.rint(", "np.trunc(")
THREE_LINES = """
def test_mine(assay):
    assay(quantize, "int8.quantize_per_token", dialect="ieee", device="emulator")
"""


@pytest.fixture
def run(pytester: pytest.Pytester) -> Any:
    plugin = ["-p", "quantassay.pytest_plugin"]  # twice does no harm where it is installed

    def call(text: str, *options: str) -> pytest.RunResult:
        pytester.makepyfile(text)
        return pytester.runpytest(*plugin, "-q", "--strict-markers", *options)

    return call


def test_a_right_kernel_passes(run: Any) -> None:
    run(RIGHT + THREE_LINES, "--assay-examples", "5").assert_outcomes(passed=1)


def test_a_wrong_kernel_fails_with_its_smallest_input_and_no_traceback(run: Any) -> None:
    result = run(WRONG + THREE_LINES, "--assay-examples=5")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "*    assay(quantize, *",
            "E *AssertionError: int8.quantize_per_token numpy/quantize, dialect ieee: WRONG on *",
            "E *smallest input: *",
            "E *codes: 1 of *",
            "E *reason: the kernel truncates *",
        ]
    )
    assert "engine.py" not in result.stdout.str()
    assert "def __call__" not in result.stdout.str()


def test_a_marker_gives_defaults(run: Any) -> None:
    text = """
import pytest

@pytest.mark.assay("int8.quantize_per_token", "ieee", device="emulator", examples=0)
class TestMine:
    def test_defaults(self, assay):
        result = assay(quantize)
        assert (result.op, result.dialect) == ("int8.quantize_per_token", "ieee")
        more = assay(quantize, examples=7)
        assert more.cases == result.cases + 7

    @pytest.mark.assay(dialect=["ieee", "ieee"], dtypes=["fp16"])
    def test_nearer_ones_win(self, assay):
        first, second = assay(quantize)
        assert first.cases == second.cases

    def test_conditions(self, assay):
        def even(x):
            assert x.shape[1] % 16 == 0 and x.ctypes.data % 16 == 0
            return quantize(x)
        assay(even, multiples={"K": 16}, aligned=True, examples=9)
        with pytest.raises(ValueError, match="multiples: got 'G': 16; allowed: .* for M, K"):
            assay(even, multiples={"G": 16})

    @pytest.mark.assay(op="int8.dequantize", options={"out_dtype": "fp32"})
    def test_options(self, assay):
        def scaled(codes, scales):
            return codes.astype(np.float32) * scales[:, None]
        assay(scaled)
"""
    run(RIGHT + text).assert_outcomes(passed=4)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("assay(quantize)", "TypeError: assay: op and dialect is missing; assay(op, dialect, *"),
        ('assay(quantize, "int8.quant", dialect="ieee")', "*ValueError: op: got 'int8.quant'; kn*"),
        (
            'assay(quantize, "int8.gemm", dialect="iee")',
            "*UsageError: dialect: got 'iee'; al*",
        ),
        ('assay(quantize, "int8.gemm", dialect="ieee", device="tpu")', "*UsageError: device: *"),
        ('assay(quantize, "int8.gemm", dialect="ieee", framework="jax")', "*framework: got 'jax'*"),
    ],
)
def test_bad_usage_says_what_is_allowed(run: Any, call: str, message: str) -> None:
    result = run(f"{RIGHT}\ndef test_mine(assay):\n    {call}\n")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([f"E*{message}"])


def test_the_number_of_examples_must_be_one(run: Any) -> None:
    result = run(RIGHT + THREE_LINES, "--assay-examples=-3")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*--assay-examples: got '-3'; allowed: an integer >= 0"])


CUDA = """
extern "C" __global__ void transpose(const signed char* w, signed char* out, int K, int N) {
  int k = blockIdx.x, n = threadIdx.x + blockIdx.y * blockDim.x;
  if (n < N) out[n * K + k] = w[k * N + n];
}
"""


def test_cuda_and_ptx_files(run: Any, pytester: pytest.Pytester) -> None:
    pytester.makefile(".cu", right=CUDA, wrong=CUDA.replace("n < N", "n <= N"))
    text = """
import pytest

LAUNCH = {"grid": "K, cdiv(N, 64)", "block": "64", "args": "w, out, K, N", "examples": 3}

@pytest.mark.assay("int8.transpose", "ieee", entry="transpose", **LAUNCH)
@pytest.mark.parametrize("file", ["right.cu", "wrong.cu"])
def test_file(assay, file):
    assay(cu=file)

def test_no_kernel(assay):
    with pytest.raises(TypeError, match="got no kernel, or several"):
        assay(op="int8.transpose", dialect="ieee")
"""
    result = run(text)
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(["E *the emulator stopped the kernel: transpose: out-of-bounds *"])
