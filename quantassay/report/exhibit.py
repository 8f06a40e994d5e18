"""First exhibit: one article, two formulas. Its CUDA kernel against its own torch code.

Contract: both dialects quantize the same fp16 activations per token. `article_cuda` computes in
fp32 and multiplies by 1/s; `article_torch` rounds the scale and every quotient to fp16, whose 11
bits leave steps of 1/16 between 64 and 128, so quotients land on exact halves and round the other
way. Counts are over the arrays given; examples are the first differing elements in C order, one
per row, so that they show different scales.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.workloads import Layer
from quantassay.report.quality import Error, error, half
from reference.dialects import DIALECTS
from reference.int8_linear import linear
from reference.int8_quantize import quantize_per_channel, quantize_per_token
from reference.numerics import round_to

Array = NDArray[Any]
FIRST, SECOND = "article_cuda", "article_torch"
BUCKETS = ((0, 8), (8, 16), (16, 32), (32, 64), (64, 96), (96, 128))  # of |code|, [low, high)


@dataclass(frozen=True)
class Example:
    """One element that the two formulas give different codes."""

    layer: str
    row: int
    column: int
    x: float
    x_bits: str
    scales: tuple[float, float]
    quotients: tuple[float, float]
    codes: tuple[int, int]


@dataclass(frozen=True)
class Bucket:
    """Elements whose FIRST code has a magnitude in [low, high), and how many of them differ."""

    low: int
    high: int
    elements: int
    differing: int


@dataclass(frozen=True)
class LayerExhibit:
    """The comparison on one layer. `by_difference` counts elements by SECOND's code minus FIRST's;
    `on_ties` are differing elements whose fp16 quotient is exactly half-way between two codes."""

    layer: str
    kind: str
    elements: int
    differing: int
    rows: int
    scales_differing: int
    scale_relative_max: float
    by_difference: dict[str, int]
    on_ties: int
    quotient_ties: tuple[int, int]
    buckets: tuple[Bucket, ...]
    output_error: tuple[Error, Error]
    output_difference: Error
    examples: tuple[Example, ...]


@dataclass(frozen=True)
class Quantized:
    """Codes s8 (M, K), scales fp32 (M,) and the quotients before rounding, fp32 (M, K)."""

    codes: Array
    scales: Array
    quotients: Array


def quantized(x: Array, dialect: str) -> Quantized:
    """Codes and scales from the oracle, and the quotient that was rounded to a code."""
    codes, scales = quantize_per_token(x, dialect=dialect)
    wide, column = x.astype(np.float32), scales[:, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        if DIALECTS[dialect].multiplier == "x*(1/s)":
            quotients = wide * (np.float32(1) / column)
        else:
            quotients = wide / column
        if DIALECTS[dialect].arithmetic == "input":
            quotients = round_to(quotients, "fp16").astype(np.float32)
    return Quantized(codes, scales, quotients)


def layer_exhibit(layer: Layer, examples: int = 3) -> LayerExhibit:
    """FIRST against SECOND on the layer's activations and through its weights."""
    x = half(layer.activations)
    first, second = quantized(x, FIRST), quantized(x, SECOND)
    wide = (first.codes.astype(np.int32), second.codes.astype(np.int32))
    difference = wide[1] - wide[0]
    differs = difference != 0
    ties = [np.abs(each.quotients - np.trunc(each.quotients)) == 0.5 for each in (first, second)]
    values, counts = np.unique(difference[differs], return_counts=True)
    relative = np.abs(second.scales - first.scales) / np.where(first.scales == 0, 1, first.scales)
    outputs = [_output(layer, dialect) for dialect in (FIRST, SECOND)]
    return LayerExhibit(
        layer=layer.name,
        kind=layer.kind,
        elements=int(differs.size),
        differing=int(differs.sum()),
        rows=int(first.scales.size),
        scales_differing=int((first.scales != second.scales).sum()),
        scale_relative_max=float(relative.max()),
        by_difference={f"{v:+d}": int(n) for v, n in zip(values, counts, strict=True)},
        on_ties=int((differs & ties[1]).sum()),
        quotient_ties=(int(ties[0].sum()), int(ties[1].sum())),
        buckets=_buckets(np.abs(wide[0]), differs),
        output_error=(error(layer.exact, outputs[0]), error(layer.exact, outputs[1])),
        output_difference=error(outputs[0], outputs[1]),
        examples=_examples(layer, x, first, second, differs, examples),
    )


def _output(layer: Layer, dialect: str) -> Array:
    codes, scales = quantize_per_channel(half(layer.weight), dialect=dialect)
    x = half(layer.activations)
    return linear(x, codes, scales, layer.bias, dialect=dialect, out_dtype="fp16")


def _buckets(magnitude: Array, differs: Array) -> tuple[Bucket, ...]:
    made = []
    for low, high in BUCKETS:
        inside = (magnitude >= low) & (magnitude < high if high < 128 else magnitude >= low)
        made.append(Bucket(low, high, int(inside.sum()), int((inside & differs).sum())))
    return tuple(made)


def _examples(
    layer: Layer, x: Array, first: Quantized, second: Quantized, differs: Array, count: int
) -> tuple[Example, ...]:
    rows = np.flatnonzero(differs.any(axis=1))[:count]
    made = []
    for row in rows:
        column = int(differs[row].argmax())
        pair = (first, second)
        made.append(
            Example(
                layer=layer.kind,
                row=int(row),
                column=column,
                x=float(x[row, column]),
                x_bits=f"0x{int(x.view(np.uint16)[row, column]):04x}",
                scales=(float(first.scales[row]), float(second.scales[row])),
                quotients=(
                    float(first.quotients[row, column]),
                    float(second.quotients[row, column]),
                ),
                codes=(int(pair[0].codes[row, column]), int(pair[1].codes[row, column])),
            )
        )
    return tuple(made)


def disagreement(layers: Sequence[Layer], dialects: Sequence[str]) -> dict[str, Any]:
    """Codes that differ between every two dialects over all layers' activations.

    Returns {"elements": n, "dialects": [...], "differing": square list of counts}.
    """
    counts = np.zeros((len(dialects), len(dialects)), np.int64)
    elements = 0
    for layer in layers:
        x = half(layer.activations)
        codes = [quantize_per_token(x, dialect=dialect)[0] for dialect in dialects]
        elements += x.size
        for i, a in enumerate(codes):
            for j, b in enumerate(codes[:i]):
                counts[i, j] += np.count_nonzero(a != b)
    counts += counts.T
    return {"elements": elements, "dialects": list(dialects), "differing": counts.tolist()}
