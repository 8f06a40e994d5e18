"""Which dialect is my kernel: every oracle is found as itself, hybrids by their changed word."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from quantassay import cli
from quantassay.identify import Finding, identify
from quantassay.identify.hybrids import altered, speaking
from quantassay.identify.probes import Pool
from quantassay.identify.shrinking import shrunk, sizes, take
from quantassay.loading import load_wings
from reference import OPS, get_op, recipe
from reference.dialects import DIALECTS, dialect
from reference.int8_quantize import half_away
from reference.numerics import canonical_nan, to_float32
from reference.op import Kernel, Op, kernels

F32 = np.float32
TOKEN = get_op("int8.quantize_per_token")
WITH_DIALECTS = [op for op in OPS.values() if "dialect" in op.options]
POOLS: dict[Any, Pool] = {}


def found(op: Op, function: Callable[..., Any], **settings: Any) -> Finding:
    """What the function is identified as, registered for the op's first dialect."""
    kernel = Kernel(op.name, "planted", "", op.options["dialect"][:1], function)
    (one,) = identify(kernel, device="emulator", examples=0, pools=POOLS, **settings)
    return one


def oracle(op: Op, spoken: str) -> Callable[..., Any]:
    """The op's oracle in one dialect, as a function without dialect=."""
    if "out_dtype" in op.options:
        return lambda *args, out_dtype: op.oracle(*args, dialect=spoken, out_dtype=out_dtype)
    return lambda *args: op.oracle(*args, dialect=spoken)


@pytest.mark.parametrize("op", WITH_DIALECTS, ids=[op.name for op in WITH_DIALECTS])
def test_every_oracle_is_identified_as_its_dialect(op: Op) -> None:
    """Or as the dialects that are equal to it on all inputs of the op."""
    for spoken in op.options["dialect"]:
        one = found(op, oracle(op, spoken))
        assert one.kind == "exact"
        assert spoken in (*one.dialects, *one.others), one.verdict
        (pool,) = (pool for key, pool in POOLS.items() if key[0] == op.name)
        assert spoken == one.dialects[0] or not pool.apart(spoken, one.dialects[0])
        assert one.standings[0].nan_bits == 0 == one.standings[0].allowed
    POOLS.clear()


def test_all_dialects_of_dynamic_quantization_are_told_apart() -> None:
    pool = Pool(TOKEN, examples=0)
    for spoken in pool.dialects:
        assert pool.alike(spoken) == ()


@pytest.mark.parametrize("wing", ["cupy", "numba"])
def test_wing_kernels_are_identified_as_their_dialects(wing: str) -> None:
    """dialect= is passed, and what comes back is looked at: two variants stand for all, whose bits
    tests/test_differential.py compares."""
    load_wings([wing])
    kernel = kernels(op="int8.quantize_per_token", wing=wing)[0]
    named = tuple(name for name in ("ieee", "vllm", "article_torch") if name in kernel.dialects)
    few = replace(kernel, dialects=named, dtypes=("fp16",))
    made = identify(few, device="emulator", examples=0, pools={KEY: thin()})
    assert tuple(one.passed_dialect for one in made) == named
    for one in made:
        assert one.dialects == (one.passed_dialect,), one.verdict


HALF = {"dtype": ("fp16",)}
KEY = (TOKEN.name, tuple(HALF.items()), 0, 0)


def thin() -> Pool:
    """Enough to tell these dialects apart, and no more: each input costs a launch."""
    pool = Pool(TOKEN, HALF, examples=0)
    kept = [one for one in pool.probes if one.words.startswith("built") or "M=5" in one.words]
    return pool.with_probes(kept)


# --- planted hybrids


def quantizer(
    multiplier: str = "x*(127/amax)",
    rounding: Callable[[Any], Any] = np.rint,
    low: int = -128,
    levels: float = 127,
    least: float = 0.0,
    skip: bool = True,
    guard: bool = True,
    of_nan: int = 0,
    stored: str = "scale",
) -> Callable[[Any], Any]:
    """A dynamic quantizer in NumPy, written without the oracle. The defaults are vLLM's."""

    def kernel(x: Any) -> Any:
        wide = to_float32(x)
        largest = np.fmax if skip else np.maximum
        amax = largest.reduce(np.abs(wide), axis=1, keepdims=True, initial=F32(least))
        scale = canonical_nan(amax / F32(levels))
        if multiplier == "x*(127/amax)":
            quotient, divisor = wide * (F32(127) / amax), amax
        elif multiplier == "x/s":
            quotient, divisor = wide / scale, scale
        else:
            quotient, divisor = wide * (F32(1) / scale), scale
        if guard:
            quotient = np.where(divisor == 0, F32(0), quotient)
        whole = np.clip(rounding(quotient), low, 127)
        codes = np.where(np.isnan(whole), of_nan, whole).astype(np.int8)
        return codes, canonical_nan(amax if stored == "amax" else scale)[:, 0].copy()

    return kernel


IEEE: dict[str, Any] = {"multiplier": "x/s", "low": -127, "skip": False}
HYBRIDS = [
    ("vllm", "rounding", "truncate", {"rounding": np.trunc}),
    ("vllm", "rounding", "half away", {"rounding": half_away}),
    ("vllm", "floor", "1e-10", {"least": 1e-10}),
    ("vllm", "floor", "1e-5", {"least": 1e-5}),
    ("vllm", "nan_code", "low", {"of_nan": -128}),
    ("vllm", "scale", "amax/127.5", {"levels": 127.5}),
    ("ieee", "clamp", "-128..127", {**IEEE, "low": -128}),
    ("ieee", "nan", "skip", {**IEEE, "skip": True}),
    ("ieee", "zero", "unguarded", {**IEEE, "guard": False}),
    ("ieee", "multiplier", "x*(1/s)", {**IEEE, "multiplier": "x*(1/s)"}),
    ("article_cuda", "stored", "amax", {"multiplier": "x*(1/s)", "stored": "amax"}),
]


@pytest.mark.parametrize(
    ("base", "field", "word", "settings"), HYBRIDS, ids=[" ".join(one[:3]) for one in HYBRIDS]
)
def test_a_hybrid_is_identified_by_its_word(
    base: str, field: str, word: str, settings: dict[str, Any]
) -> None:
    one = found(TOKEN, quantizer(**settings))
    near = one.standings[0]
    assert one.kind == ("exact" if near.fits else "hybrid"), one.verdict
    assert not near.fits or near.allowed  # no more than another dialect's division allows
    changed = {(hybrid.dialect, *hybrid.fields) for hybrid in one.hybrids}
    own = getattr(dialect(base), field)
    assert (base, (field, own, word)) in changed, one.verdict
    assert (
        "bit for bit it is" if near.fits else "no dialect known here fits; what does is"
    ) in one.verdict
    assert "none of" in one.verdict
    assert one.examples[-1].purpose.startswith("what tells")
    if not near.fits:
        assert one.examples[0].purpose.startswith("where the kernel differs from")
        assert len(set(dict(one.examples[0].results).values())) == 2


def test_the_defaults_of_the_planted_quantizer_are_vllm() -> None:
    one = found(TOKEN, quantizer())
    assert one.dialects == ("vllm",)
    assert one.verdict.startswith("speaks vllm exactly: none of ")
    (apart,) = one.examples
    assert apart.results[0] == ("vllm", apart.results[2][1])
    assert apart.results[1][1] != apart.results[2][1]


def test_two_changed_words_are_found_together() -> None:
    one = found(TOKEN, quantizer(rounding=np.trunc, of_nan=-128, least=0.0))
    assert one.kind == "hybrid"
    assert {field for field, _, _ in one.hybrids[0].fields} == {"rounding", "nan_code"}


def test_a_slip_that_no_dialect_has_is_named() -> None:
    one = found(TOKEN, quantizer(rounding=lambda v: np.floor(v + F32(0.5))))
    assert one.kind == "hybrid"
    assert "vllm, except that the kernel rounds halves up" in one.verdict


@pytest.mark.parametrize(
    "wrong",
    [
        quantizer(levels=100, rounding=np.ceil),
        lambda x: (np.zeros(x.shape, np.int8), np.ones(len(x), F32)),
        lambda x: (quantizer()(x)[0], quantizer()(x)[1].astype(np.float64)),
        lambda x: quantizer()(x)[0],
    ],
    ids=["other levels", "constants", "fp64 scales", "one output"],
)
def test_a_wrong_kernel_is_none(wrong: Callable[..., Any]) -> None:
    one = found(TOKEN, wrong)
    assert one.kind == "unknown", one.verdict
    assert "a dialect that is not known here, or a wrong kernel" in one.verdict
    assert "differ" in one.verdict


def test_an_output_that_is_right_alone_is_said_to_be() -> None:
    def kernel(x: Any) -> Any:
        codes, scales = TOKEN.oracle(x, dialect="vllm")
        return codes, canonical_nan(scales * F32(1.1))

    one = found(TOKEN, kernel)
    assert one.kind == "unknown"
    alone = one.verdict.partition("; its codes alone are those of ")[2]
    assert set(alone.split(", ")) == {"vllm", "bitsandbytes"}  # the same in fp16


def test_dialects_that_are_equal_in_an_op_are_all_named() -> None:
    op = get_op("int8.dequantize")
    one = found(op, oracle(op, "vllm"))
    assert set(one.dialects) == set(op.options["dialect"])
    assert "cannot be told apart from" in one.verdict
    assert one.examples == ()


def test_a_kernel_that_raises_is_said_to() -> None:
    def half(x: Any) -> Any:
        if x.dtype != np.float16:
            raise TypeError("fp16 only")
        return TOKEN.oracle(x, dialect="bitsandbytes")

    one = found(TOKEN, half)
    assert one.dialects == ("bitsandbytes",)
    assert one.raised > 10

    def never(x: Any) -> Any:
        raise RuntimeError("no such device")

    assert found(TOKEN, never).kind == "raises"
    assert "no such device" in found(TOKEN, never).verdict


def test_approximate_divisions_are_identified_within_their_bounds() -> None:
    def kernel(x: Any) -> Any:
        wide = to_float32(x)
        amax = np.fmax.reduce(np.abs(wide), axis=1, keepdims=True, initial=F32(1e-10))
        factor = np.nextafter(F32(127) / amax, F32(0))
        quotient = half_away(wide * np.where(np.isfinite(factor), factor, F32(0)))
        quotient = np.where(np.isinf(amax) & np.isinf(wide), 0, quotient)
        codes = np.where(np.isnan(quotient), 0, np.clip(quotient, -128, 127))
        return codes.astype(np.int8), canonical_nan(amax / F32(127))[:, 0].copy()

    one = found(TOKEN, kernel)
    assert one.dialects == ("sglang",)
    assert "speaks sglang within what its own division allows" in one.verdict
    assert one.standings[0].allowed > 0


def test_a_kernels_conditions_are_kept() -> None:
    def kernel(x: Any) -> Any:
        assert x.shape[1] % 16 == 0
        assert x.shape[0] % 2 == 0
        return TOKEN.oracle(x, dialect="vllm")

    made = Kernel(TOKEN.name, "planted", "", ("ieee",), kernel, multiples=(("K", 16), ("M", 2)))
    (one,) = identify(made, device="emulator", examples=2)
    assert (one.dialects, one.raised) == (("vllm",), 0)
    assert ": fp32 (2, 16)" in one.examples[0].inputs[0].replace("fp16", "fp32")


# --- inputs


def test_the_same_seed_gives_the_same_inputs() -> None:
    a, b = (Pool(TOKEN, examples=5, seed=3).probes for _ in range(2))
    assert [one.words for one in a] == [one.words for one in b]
    for one, two in zip(a, b, strict=True):
        assert one.inputs["x"].tobytes() == two.inputs["x"].tobytes()
    assert [o.words for o in Pool(TOKEN, examples=5, seed=4).probes] != [o.words for o in a]


@pytest.mark.parametrize("name", ["int8.quantize_per_token", "int8.linear", "int8.gemm_group"])
def test_shrinking_keeps_what_holds(name: str) -> None:
    op = get_op(name)
    dims = dict.fromkeys(op.dims, 6)
    inputs = op.build(recipe("normal", seed=1, **dims))
    array = op.arrays()[0].name
    wanted = inputs[array][3, 4]

    def holds(some: dict[str, Any]) -> bool:
        op.expected(some, dialect="ieee")  # still a valid input
        return bool((some[array] == wanted).any())

    small = shrunk(op, inputs, holds)
    assert small[array].size == 1
    assert set(sizes(op, small).values()) == {1}


def test_an_index_of_a_group_is_taken_from_every_array() -> None:
    op = get_op("int8.quantize_per_group")
    inputs = op.build(recipe("normal", M=2, Q=3, G=4))
    taken = take(op, inputs, "G", [1, 2])
    assert taken is not None
    assert taken["group_size"] == 2
    whole = inputs["x"].reshape(2, 3, 4)[:, :, [1, 2]]
    np.testing.assert_array_equal(taken["x"], whole.reshape(2, 6))


def test_a_changed_word_holds_in_every_family_and_only_inside() -> None:
    own = DIALECTS["vllm"]
    changed = altered(own, {"rounding": "half away"})
    assert changed.under("group").rounding == "half away"
    assert changed.under("group").multiplier == own.under("group").multiplier
    with speaking(changed):
        assert dialect("vllm") is changed
    assert DIALECTS["vllm"] is own
    with pytest.raises(ValueError, match="rounding is 'up'"):
        altered(own, {"rounding": "up"})


# --- the command

FILE = """
import numpy as np
import quantassay
from reference.int8_quantize import quantize_per_token

@quantassay.implements("int8.quantize_per_token", wing="mine", dialects=["ieee"])
def exact(x):
    return quantize_per_token(x, dialect="vllm")

@quantassay.implements("int8.quantize_per_token", wing="mine", variant="told",
                       dialects=["ieee", "vllm"])
def told(x, *, dialect):
    return quantize_per_token(x, dialect="article_cuda")
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(FILE)
    return path


def run(*words: str) -> Any:
    from reference.op import forget

    forget("mine")
    result = CliRunner().invoke(cli.app, ["identify", "--device", "emulator", *words])
    forget("mine")
    return result


def test_the_command_says_which_whatever_is_registered(file: Path) -> None:
    result = run("--kernels", str(file), "--examples", "0")
    assert result.exit_code == 0, result.output
    assert "mine: speaks vllm exactly" in result.output
    assert result.output.count("speaks article_cuda exactly") == 2
    assert "what tells vllm from " in result.output
    assert "the kernel gives" in result.output


def test_json_holds_the_ranking(file: Path, tmp_path: Path) -> None:
    target = tmp_path / "found.json"
    result = run("--kernels", str(file), "--examples", "0", "--json", str(target))
    assert result.exit_code == 0
    made = json.loads(target.read_text())
    assert made["schema"] == "quantassay.identify/1"
    assert made["identified"] is True
    first = made["kernels"][0]
    assert (first["kind"], first["dialects"]) == ("exact", ["vllm"])
    assert {"codes", "scales"} == set(first["ranking"][1]["outputs"])


def test_kernels_come_in_as_for_check() -> None:
    """Every option of check that says which kernel, and how it is called."""
    own, others = (set(inspect.signature(one).parameters) for one in (cli.identify, cli.check))
    assert others - own == {"dialect", "sweep", "workers"}
    assert own <= others


def test_a_cuda_file_is_identified_from_its_ptx() -> None:
    folder = Path(__file__).parents[2] / "examples" / "cuda"
    given = ("--cu", str(folder / "quantize.cu"), "--op", TOKEN.name, "--grid", "M")
    given = (*given, "--block", "256", "--args", "x, codes, scales, M, K", "--examples", "0")
    result = run(*given)
    assert result.exit_code == 0, result.output
    assert "quantize: speaks ieee exactly" in result.output
    result = run(*given, "-D", "ROUNDF=1")
    assert result.exit_code == 1
    assert "ieee with rounding 'half away' in place of 'rne'" in result.output


def test_an_unknown_dialect_and_bad_usage_have_their_exit_status(tmp_path: Path) -> None:
    path = tmp_path / "odd.py"
    path.write_text(FILE.replace('dialect="vllm")', 'dialect="vllm")[0], np.ones(len(x))'))
    result = run("--kernels", str(path), "--examples", "0")
    assert result.exit_code == 1
    assert "nearest:" in result.output
    assert run("--kernels", str(tmp_path / "none.py")).exit_code == 2
    assert run("--kernels", str(path), "--op", "int8.nothing").exit_code == 2
