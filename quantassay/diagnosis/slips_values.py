"""Slips of norms, activations and SmoothQuant's division, fused with a quantization."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from quantassay.diagnosis.slips import NARROW, Slip, rows
from quantassay.diagnosis.sums import SUMS
from quantassay.diagnosis.words import FIELDS


def norm() -> Iterator[Slip]:
    for where, words in (
        ("none", "leaves out eps"),
        ("after the root", "adds eps after the square root, not under it"),
        ("maximum", "takes the larger of mean square and eps, not their sum"),
    ):
        yield {"eps": where}, words
    for value in (1e-5, 1e-6, 1e-12):
        yield {"eps_value": value}, f"takes eps = {value:g} whatever is asked for"
    yield {"weight": "none"}, "leaves out the weight"
    yield {"weight": "1+w"}, "multiplies by 1 + weight"
    for how, words in (
        ("sum", "takes the sum of squares without dividing by K"),
        ("K-1", "divides the sum of squares by K - 1, not by K"),
        ("times 1/K", "multiplies by 1/K instead of dividing by K"),
    ):
        yield {"variance": how}, words
    yield from rows("weight_at", "the weight", "column")


def rms() -> Iterator[Slip]:
    yield {"mean": "subtracted"}, "subtracts the mean, which RMSNorm does not"


def layer() -> Iterator[Slip]:
    for how, words in (
        ("not subtracted", "does not subtract the mean"),
        ("not in the variance", "takes the variance about 0, without the mean"),
        ("only in the variance", "subtracts the mean in the variance only, not from x"),
    ):
        yield {"mean": how}, words
    yield {"variance": "E[x*x] - mean*mean"}, "takes the variance as E[x*x] - mean*mean (one pass)"
    for how, words in (
        ("none", "leaves out the norm's bias"),
        ("fma", "contracts weight and bias into an FMA (one rounding)"),
        ("before the weight", "adds the norm's bias before it multiplies by the weight"),
    ):
        yield {"norm_bias": how}, words


def residual() -> Iterator[Slip]:
    for how, words in (
        ("unrounded", "normalizes x + residual before it is rounded to x's dtype"),
        ("none", "normalizes x without the residual"),
        ("after", "adds the residual after the norm, not before"),
    ):
        yield {"residual": how}, words
    yield {"residual_stored": "residual"}, "gives back the residual as it came, not the sum"
    yield {"residual_stored": "x"}, "gives back x as it came, not the sum"


def orders() -> Iterator[Slip]:
    """Orders of addition that no word of FIELDS names: fixed lanes."""
    for name in SUMS:
        if name in FIELDS["sums"]["reduction"]:
            continue
        vector, _, count = name.partition(" by ")
        lanes, _, turn = count.partition(" ")
        how = ", the warps in turn" if turn else ""
        words = f"adds up a row in another order: {lanes} lanes take {vector} in turn{how}"
        yield {"reduction": name}, words


def silu() -> Iterator[Slip]:
    for layout, words in (
        ("last", "swaps gate and up (takes silu of the second half)"),
        ("interleaved", "reads gate and up interleaved, not one after the other"),
    ):
        yield {"gate": layout}, words
    for how, words in (
        ("sigmoid", "takes the sigmoid alone, not x * sigmoid(x)"),
        ("x*sigmoid", "multiplies x by 1/(1 + e) instead of dividing x by 1 + e"),
        ("gelu", "takes gelu where the contract has silu"),
        ("relu", "takes relu where the contract has silu"),
    ):
        yield {"silu": how}, words
    yield {"up": "none"}, "leaves out the product with up"


def gelu() -> Iterator[Slip]:
    for how, words in (
        ("other", "takes the other form of gelu (tanh for erf, or erf for tanh)"),
        ("tanh", "takes the tanh form of gelu whatever is asked for"),
        ("erf", "takes the erf form of gelu whatever is asked for"),
        ("x*(0.5*(1+erf))", "multiplies 0.5 and 1 + erf first, then by x"),
        ("real tanh", "takes gelu's tanh form by tanh, not by exp"),
        ("quick", "takes x * sigmoid(1.702 x) for gelu"),
        ("silu", "takes silu where the contract has gelu"),
    ):
        yield {"gelu": how}, words


def smooth() -> Iterator[Slip]:
    for how, words in (
        ("x*(1/f)", "multiplies by the reciprocal of the smooth factor instead of dividing by it"),
        ("x*f", "multiplies by the smooth factor where it should divide"),
        ("none", "leaves out the smooth factor"),
    ):
        yield {"smooth": how}, words
    yield {"smooth_axis": "row"}, "takes the smooth factor by row, not by channel"
    for form in NARROW:
        yield {"smooth_format": form}, f"rounds the smooth factor to {form}"
    yield from rows("smooth_at", "the smooth factor", "channel")


SLIPS: dict[str, Callable[[], Iterator[Slip]]] = {
    "norm": norm,
    "rms": rms,
    "layer": layer,
    "residual": residual,
    "sums": orders,
    "silu": silu,
    "gelu": gelu,
    "smooth": smooth,
}
