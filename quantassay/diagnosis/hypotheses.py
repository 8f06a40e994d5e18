"""What a wrong kernel may have done: one turned knob of variants.py each, with its words.

Contract: `hypotheses(op, dialect)` lists them for an op, the likelier first: another value of a
dialect field, then known slips of quantize, GEMM and epilogue kernels. The words complete the
sentence "the kernel ...". Adding a row here is all it takes for `check` to name a new mistake.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

from quantassay.diagnosis import knobs
from reference.dialects import DIALECTS, dialect, differences

STAGES: dict[str, tuple[str, ...]] = {
    "int8.quantize_per_token": ("quantize", "dynamic"),
    "int8.quantize_per_channel": ("quantize", "dynamic"),
    "int8.quantize_per_tensor": ("quantize", "dynamic"),
    "int8.quantize_static": ("quantize", "static"),
    "int8.dequantize": ("dequantize",),
    "int8.gemm": ("gemm",),
    "int8.epilogue": ("epilogue",),
    "int8.gemm_dequant": ("epilogue", "gemm"),
    "int8.linear": ("quantize", "dynamic", "epilogue", "gemm"),
}


@dataclass(frozen=True)
class Hypothesis:
    """Knobs that differ from the dialect's, and what the kernel does under them."""

    knobs: tuple[tuple[str, Any], ...]
    words: str

    def touches(self) -> set[str]:
        return {name for name, _ in self.knobs}


def hypotheses(op: str, dialect_name: str) -> list[Hypothesis]:
    """Every single-knob hypothesis for an op under a dialect; empty for an op without a model."""
    stages = STAGES.get(op, ())
    found = [one for stage in stages for one in _fields(stage, dialect_name)]
    if {"dynamic", "gemm"} <= set(stages):
        found += _other_quantizers(dialect_name)
    turns = [list(SLIPS[stage]()) for stage in stages]
    for row in zip_longest(*turns):  # in turn, so that pairs of stages are among the first
        found += [Hypothesis(tuple(slip[0].items()), slip[1]) for slip in row if slip is not None]
    return found


# Dialect fields by stage: value -> words. Values beyond the dialects' own are frequent mistakes.
FIELDS: dict[str, dict[str, dict[str, str]]] = {
    "quantize": {
        "rounding": {
            "rne": "rounds to the nearest even",
            "half_away": "rounds halves away from zero",
            "truncate": "truncates toward zero",
            "half_toward_zero": "rounds halves toward zero",
            "half_up": "rounds halves up (floor(v + 0.5))",
            "floor": "rounds down (floor)",
            "ceil": "rounds up (ceil)",
            "trunc(x+-0.5)": "rounds by trunc(v +- 0.5), which is wrong just below a half",
        },
        "clamp": {
            "-127..127": "clamps to -127..127",
            "-128..127": "clamps to -128..127",
            "none": "does not clamp: an integer beyond int8 keeps its low byte",
        },
        "arithmetic": {
            "fp32": "computes scale and quotient in fp32",
            "input": "rounds scale and quotient to x's own dtype",
        },
    },
    "dynamic": {
        "multiplier": {
            "x/s": "divides by the scale (x/s)",
            "x*(1/s)": "multiplies by the reciprocal of the scale (x*(1/s)) instead of dividing",
            "x*(127/amax)": "multiplies by 127/amax (x*(127/amax))",
            "x*s": "multiplies by the scale where it should divide",
        },
        "zero": {
            "code0": "gives code 0 where the divisor is 0",
            "unguarded": "does not guard the zero divisor (x/0 saturates)",
        },
        "nan": {
            "propagate": "lets a NaN into the row's amax",
            "skip": "ignores NaN in the row's amax",
        },
    },
    "static": {
        "static_multiplier": {
            "x/s": "divides by the scale (x/s)",
            "x*(1/s)": "multiplies by the reciprocal of the scale (x*(1/s)) instead of dividing",
            "x*s": "multiplies by the scale where it should divide",
        },
    },
    "dequantize": {},
    "gemm": {},
    "epilogue": {
        "epilogue": {
            "acc*sB*sA+bias": "multiplies by sB, then by sA, then adds the bias",
            "acc*sA*sB+bias": "multiplies by sA, then by sB, then adds the bias",
            "acc*(sA*sB)+bias": "multiplies the two scales first (acc*(sA*sB)), then adds the bias",
            "sA*(sB*acc) fma bias": "contracts the last product and the bias into an FMA "
            "(fma(acc*sB, sA, bias): one rounding)",
            "sB*(sA*acc) fma bias": "contracts the last product and the bias into an FMA "
            "(fma(acc*sA, sB, bias): one rounding)",
            "(sA*sB)*acc fma bias": "multiplies the two scales first and contracts with the bias "
            "into an FMA (fma(acc, sA*sB, bias))",
            "(acc+bias)*sB*sA": "adds the bias before the scales are applied ((acc+bias)*sB*sA)",
            "(acc+bias)*sA*sB": "adds the bias before the scales are applied ((acc+bias)*sA*sB)",
            "(acc+bias)*(sA*sB)": "adds the bias before the scales are applied",
            "(acc*sB+bias)*sA": "adds the bias before the scale sA is applied",
            "(acc*sA+bias)*sB": "adds the bias before the scale sB is applied",
            "acc*sB+bias": "leaves out the scale sA",
            "acc*sA+bias": "leaves out the scale sB",
            "fp64": "computes in double precision and rounds once",
        },
    },
}


def _fields(stage: str, dialect_name: str) -> Iterator[Hypothesis]:
    spoken = dialect(dialect_name)
    for field, values in FIELDS[stage].items():
        own = getattr(spoken, field)
        for value, words in values.items():
            if value != own:
                text = f"{words}; the contract of dialect {dialect_name}: {values[own]}"
                yield Hypothesis(((field, value),), text)


def _other_quantizers(dialect_name: str) -> Iterator[Hypothesis]:
    """The quantization of another dialect inside a longer op."""
    fields = (*FIELDS["quantize"], *FIELDS["dynamic"])
    for other in DIALECTS:
        changed = {
            field: pair
            for field, pair in differences(other, dialect_name).items()
            if field in fields
        }
        if len(changed) > 1:
            words = "; ".join(
                f"{field}: {theirs} where {dialect_name} has {ours}"
                for field, (theirs, ours) in changed.items()
            )
            turned = tuple((field, theirs) for field, (theirs, _) in changed.items())
            yield Hypothesis(turned, f"quantizes as dialect {other} does ({words})")


Slip = tuple[dict[str, Any], str]


def _quantize() -> Iterator[Slip]:
    for name in ("fp16", "bf16"):
        yield {"used_format": name}, f"divides by the scale rounded to {name}"
        yield {"input_format": name}, f"rounds x to {name} first"
    yield from _rows("scale_row", "the scale", "row")
    yield {"nan_code": "low"}, "gives a NaN element the lowest code instead of 0"
    yield {"nan_code": "high"}, "gives a NaN element the highest code instead of 0"
    yield {"flush": "inputs"}, "flushes subnormals of x to zero"
    yield {"flush": "all"}, "flushes subnormals to zero (ftz)"


def _dynamic() -> Iterator[Slip]:
    for name in ("fp16", "bf16"):
        yield {"scale_format": name}, f"rounds the scale to {name} before it is used and stored"
        yield {"stored_format": name}, f"stores the scale rounded to {name}"
    for levels in (128, 127.5, 126, 255):
        yield {"levels": levels}, f"takes amax/{levels:g} as the scale instead of amax/127"
    yield {"stored": "inverse"}, "stores the inverse of the scale"
    yield {"amax_signed": True}, "takes the largest element, not the largest magnitude, as amax"
    yield {"amax_over": "tensor"}, "takes amax over the whole tensor instead of each row"
    yield {"amax_over": "row"}, "takes amax over one row instead of the whole tensor"
    for value in (1.0, float("nan"), float("inf")):
        yield {"zero_scale": value}, f"gives a zero row the scale {value:g} instead of 0"
    for least in (1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-10, 1e-12):
        yield {"least_amax": least}, f"floors amax at {least:g}"
        yield {"least_scale": least}, f"floors the scale at {least:g}"
    yield from _amax_subsets()


def _amax_subsets() -> Iterator[Slip]:
    part = "takes amax over a part of the row only: {}"
    for step in (2, 4, 8, 16, 32, 64, 128, 256):
        yield {"amax_of": knobs.whole_of(step)}, part.format(f"the last K % {step} are left out")
    for end in ("last", "first"):
        yield {"amax_of": knobs.all_but(1, end)}, part.format(f"without the {end} element")
    for count in (1, 16, 32, 64, 128, 256, 512, 1024):
        yield {"amax_of": knobs.head(count)}, part.format(f"the first {count} elements")
    for vector in (1, 2, 4, 8, 16):
        for threads in (64, 128, 256, 512, 1024):
            subset = knobs.lanes(threads, vector, lambda lane: lane < 32)
            text = f"the first 32 lanes of {threads} (the other warps are lost)"
            yield {"amax_of": subset}, part.format(text)
        for step in (16, 8, 4, 2, 1):
            subset = knobs.lanes(32, vector, lambda lane, step=step: lane & step == 0)  # type: ignore[misc]
            text = f"the shuffle step {step} of the reduction is lost"
            yield {"amax_of": subset}, part.format(text)


def _dequantize() -> Iterator[Slip]:
    yield {"a_type": "u8"}, "reads the signed codes as unsigned"
    yield {"a_type": "-127..127"}, "takes code -128 for -127"
    yield {"divide": True}, "divides by the scale where it should multiply"
    yield {"scale_axis": "column"}, "takes the scale by column where it goes by row (swapped axes)"
    yield from _rows("scale_row", "the scale", "row")
    for name in ("fp16", "bf16"):
        yield {"scale_format": name}, f"rounds the scale to {name}"
    yield from _output()


def _gemm() -> Iterator[Slip]:
    for knob, name in (("a_type", "a"), ("b_type", "b")):
        yield {knob: "u8"}, f"reads the signed codes of {name} as unsigned"
        yield {knob: "-127..127"}, f"takes code -128 of {name} for -127"
    yield {"a_type": "u8", "b_type": "u8"}, "reads the signed codes of a and b as unsigned"
    for name, words in (
        ("int16", "in 16 bits: the accumulator wraps (int16 overflow)"),
        ("int16 saturated", "in 16 bits: the accumulator saturates (int16 overflow)"),
        ("int16 pairs saturated", "pairs of products in 16 bits (int16 overflow)"),
        ("int32 saturated", "in int32 that saturates where it should wrap"),
        ("int24", "in 24 bits"),
        ("int8", "in 8 bits"),
        ("fp32", "in fp32, which rounds sums beyond 2**24"),
        ("fp16", "in fp16"),
    ):
        yield {"accumulate": name}, f"accumulates {words}"
    for step in (2, 4, 8, 16, 32, 64, 128, 256):
        yield {"k_of": knobs.whole_of(step)}, f"drops the tail of K: the last K % {step} products"
    for end in ("last", "first"):
        yield {"k_of": knobs.all_but(1, end)}, f"leaves out the {end} product of K"
    for step in (4, 8, 16, 32, 64, 128):
        for at in (step - 1, 0):
            where = f"leaves out the products at a tile edge: k % {step} == {at}"
            yield {"k_of": knobs.all_but_every(step, at)}, where
    for count in (16, 32, 64, 128):
        yield {"k_of": knobs.head(count)}, f"adds the first {count} products of K only"
    yield {"b_layout": "KN"}, "reads b as (K, N), not as the K-major (N, K)"
    yield {"a_layout": "KM"}, "reads a as (K, M), not as (M, K)"
    yield {"acc_layout": "NM"}, "writes the result transposed"
    yield from _rows("a_row", "the elements of a", "row")
    yield from _rows("b_row", "the elements of b", "row (output column)")


def _epilogue() -> Iterator[Slip]:
    yield (
        {"a_scale_at": "swapped", "b_scale_at": "swapped"},
        "swaps the axes of the scales (sA by column, sB by row)",
    )
    yield {"a_scale_at": "swapped"}, "takes sA by column instead of by row (swapped axes)"
    yield {"b_scale_at": "swapped"}, "takes sB by row instead of by column (swapped axes)"
    yield {"bias_at": "swapped"}, "takes the bias by row instead of by column (swapped axes)"
    for name in ("fp16", "bf16"):
        yield {"a_scale_format": name}, f"rounds the scale sA to {name}"
        yield {"b_scale_format": name}, f"rounds the scale sB to {name}"
        yield (
            {"a_scale_format": name, "b_scale_format": name},
            f"rounds the scales sA and sB to {name}",
        )
        yield {"bias_format": name}, f"rounds the bias to {name}"
        yield {"acc_format": name}, f"rounds the accumulator to {name}"
    yield {"acc_format": "toward zero"}, "converts the accumulator to fp32 toward zero"
    yield {"bias": "none"}, "leaves out the bias"
    yield {"bias": "after rounding"}, "adds the bias after the rounding to the output dtype"
    yield from _rows("a_scale_at", "the scale sA", "row")
    yield from _rows("b_scale_at", "the scale sB", "column")
    yield from _rows("bias_at", "the bias", "column")
    yield from _output()


def _output() -> Iterator[Slip]:
    yield {"out_rounding": "rz"}, "truncates toward zero when it rounds to the output dtype"
    for name in ("fp16", "bf16"):
        turned = {"out_rounding": "rz", "out_rounding_of": name}
        yield turned, f"truncates toward zero when it rounds to the output dtype {name}"
    yield {"out_rounding": "via fp16"}, "rounds to fp16 on the way to the output (double rounding)"
    yield {"out_rounding": "via bf16"}, "rounds to bf16 on the way to the output (double rounding)"
    yield {"out_rounding": "saturate"}, "saturates the output where it should overflow to infinity"
    yield {"out_rounding": "flush"}, "flushes subnormals of the output to zero"


def _rows(knob: str, what: str, axis: str) -> Iterator[Slip]:
    """Entry of another index: `what` of the wrong row or column."""
    wrong = f"takes {what} of the wrong {axis}"
    for name, index in knobs.ROWS.items():
        yield {knob: index}, f"{wrong}: {name}"
    for tile in (2, 4, 8, 16, 32, 64, 128):
        yield {knob: knobs.first_of(tile)}, f"{wrong}: the first of each {tile}"
        yield {knob: knobs.within(tile)}, f"{wrong}: index % {tile}, the place inside a tile"


SLIPS = {
    "quantize": _quantize,
    "dynamic": _dynamic,
    "static": lambda: iter(()),
    "dequantize": _dequantize,
    "gemm": _gemm,
    "epilogue": _epilogue,
}
