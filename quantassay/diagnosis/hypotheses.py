"""What a wrong kernel may have done: one turned knob of variants.py each, with its words.

Contract: `hypotheses(op, dialect)` lists them for an op, the likelier first: another value of a
dialect field (words.py), then known slips of its stages (slips_*.py). The words complete the
sentence "the kernel ...". Adding a row there is all it takes for `check` to name a new mistake.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import zip_longest
from typing import Any

from quantassay.diagnosis import slips_products, slips_rows, slips_values
from quantassay.diagnosis.variants import spoken
from quantassay.diagnosis.words import FIELDS
from reference.dialects import DIALECTS
from reference.dialects import FIELDS as DIALECT_FIELDS

ROW = ("quantize", "row scales", "dynamic", "row")
STATIC, ONE_SCALE = ("quantize", "row scales", "static"), ("quantize", "static")
EPILOGUE = ("epilogue", "output")
AZP = ("asymmetric codes", "asymmetric")
AZP_ROW = (*AZP, "asymmetric row scales", "asymmetric row")
RMS = ("norm", "rms", "steps", "sums")
LAYER = ("norm", "layer", "steps", "sums")
ADDED = ("residual", *RMS)
SILU, GELU = ("silu", "steps", "exp"), ("gelu", "steps", "exp", "erf")
STAGES: dict[str, tuple[str, ...]] = {
    "int8.quantize_per_token": ROW,
    "int8.quantize_per_channel": ROW,
    "int8.quantize_per_tensor": ("quantize", "dynamic", "tensor"),
    "int8.quantize_static": STATIC,
    "int8.dequantize": ("dequantize",),
    "int8.quantize_per_group": ("group", "group scales", "quantize", "row scales", "dynamic"),
    "int8.quantize_static_per_group": ("group scales", *STATIC),
    "int8.dequantize_per_group": ("group scales", "dequantize"),
    "int8.asymmetric_per_token": AZP_ROW,
    "int8.asymmetric_per_channel": AZP_ROW,
    "int8.asymmetric_per_tensor": (*AZP, "asymmetric tensor"),
    "int8.asymmetric_per_group": (
        *AZP,
        "asymmetric group",
        "asymmetric group scales",
        "asymmetric row scales",
    ),
    "int8.asymmetric_static": (
        "asymmetric static",
        "asymmetric codes",
        "asymmetric row scales",
    ),
    "int8.asymmetric_static_per_group": (
        "asymmetric static",
        "asymmetric codes",
        "asymmetric group scales",
        "asymmetric row scales",
    ),
    "int8.asymmetric_dequantize": ("asymmetric dequantize",),
    "int8.asymmetric_dequantize_per_group": ("asymmetric dequantize", "asymmetric group scales"),
    "int8.gemm": ("gemm",),
    "int8.gemm_batched": ("batch", "gemm"),
    "int8.epilogue": EPILOGUE,
    "int8.gemm_dequant": (*EPILOGUE, "gemm"),
    "int8.linear": (*ROW, *EPILOGUE, "gemm"),
    "int8.column_sums": ("column sums",),
    "int8.gemm_azp": ("azp", *EPILOGUE, "gemm"),
    "int8.gemm_requantize": ("requantize", *ONE_SCALE, "epilogue", "gemm"),
    "int8.gemm_group": ("gemm_group", "group accumulation"),
    "int8.weight_only_linear": ("weight only", "steps", "sums"),
    "int8.transpose": ("transpose",),
    "int8.pack": ("pack",),
    "int8.gemm_packed": ("packed", *EPILOGUE, "gemm"),
    "int8.rms_norm_quantize": (*RMS, *ROW),
    "int8.rms_norm_quantize_static": (*RMS, *ONE_SCALE),
    "int8.add_rms_norm_quantize": (*ADDED, *ROW),
    "int8.add_rms_norm_quantize_static": (*ADDED, *ONE_SCALE),
    "int8.layer_norm_quantize": (*LAYER, *ROW),
    "int8.layer_norm_quantize_static": (*LAYER, *ONE_SCALE),
    "int8.silu_mul_quantize": (*SILU, *ROW),
    "int8.silu_mul_quantize_static": (*SILU, *STATIC),
    "int8.gelu_quantize": (*GELU, *ROW),
    "int8.gelu_quantize_static": (*GELU, *STATIC),
    "int8.smooth_quantize": ("smooth", "steps", *ROW),
    "int8.smooth_quantize_static": ("smooth", "steps", *STATIC),
}
SLIPS = {**slips_rows.SLIPS, **slips_products.SLIPS, **slips_values.SLIPS}
QUANTIZES = ("quantize", "dynamic", "static")


@dataclass(frozen=True)
class Hypothesis:
    """Knobs that differ from the dialect's, and what the kernel does under them."""

    knobs: tuple[tuple[str, Any], ...]
    words: str

    def touches(self) -> set[str]:
        return {name for name, _ in self.knobs}


@cache
def hypotheses(op: str, dialect_name: str) -> list[Hypothesis]:
    """Every single-knob hypothesis for an op under a dialect; empty for an op without a model."""
    stages = STAGES.get(op, ())
    found = [one for stage in stages for one in _fields(op, stage, dialect_name)]
    if "quantize" in stages and op not in QUANTIZERS:
        found += _other_quantizers(op, dialect_name)
    turns = [list(SLIPS[stage]()) for stage in stages if stage in SLIPS]
    for row in zip_longest(*turns):  # in turn, so that pairs of stages are among the first
        found += [Hypothesis(tuple(slip[0].items()), slip[1]) for slip in row if slip is not None]
    return found


# Ops that are a quantization and nothing else: another dialect's is that dialect.
QUANTIZERS = [
    op
    for op, stages in STAGES.items()
    if set(stages) <= {*QUANTIZES, "row", "row scales", "tensor", "group", "group scales"}
]


def differences(op: str, a: str, b: str) -> dict[str, tuple[str, str]]:
    """The fields in which two dialects differ as the op speaks them: field -> (a's, b's word)."""
    first, second = spoken(op, a), spoken(op, b)
    pairs = {field: (getattr(first, field), getattr(second, field)) for field in DIALECT_FIELDS}
    return {field: pair for field, pair in pairs.items() if pair[0] != pair[1]}


def fields_of(op: str) -> set[str]:
    """The dialect fields that an op reads."""
    return {field for stage in STAGES.get(op, ()) for field in FIELDS.get(stage, ())}


def _fields(op: str, stage: str, dialect_name: str) -> Iterator[Hypothesis]:
    words_of = spoken(op, dialect_name)
    for field, values in FIELDS.get(stage, {}).items():
        own = getattr(words_of, field)
        for value, words in values.items():
            if value != own:
                text = f"{words}; the contract of dialect {dialect_name}: {values[own]}"
                yield Hypothesis(((field, value),), text)


def _other_quantizers(op: str, dialect_name: str) -> Iterator[Hypothesis]:
    """The quantization of another dialect inside a longer op."""
    fields = {f for stage in QUANTIZES if stage in STAGES[op] for f in FIELDS[stage]}
    for other in DIALECTS:
        pairs = differences(op, other, dialect_name)
        changed = {field: pair for field, pair in pairs.items() if field in fields}
        if len(changed) > 1:
            words = "; ".join(
                f"{field}: {theirs} where {dialect_name} has {ours}"
                for field, (theirs, ours) in changed.items()
            )
            turned = tuple((field, theirs) for field, (theirs, _) in changed.items())
            yield Hypothesis(turned, f"quantizes as dialect {other} does ({words})")
