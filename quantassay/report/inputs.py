"""What a real layer gives to each op: its tensors, and the oracle's results on them.

Contract: ops say themselves what they take of a layer and what they give (`Op.takes`, `Op.gives`);
nothing is listed here by op. `cases` runs the oracle through every op whose inputs a layer has or
an earlier op gave, so that every kernel meets real data alone and not another kernel's output.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.workloads import Layer
from reference.dialects import DIALECTS
from reference.numerics import round_to
from reference.op import OPS, Op, get_op

Array = NDArray[Any]
GROUP_SIZE = 128  # divides every K of the model; what DeepSeek and most servers use
# These two are compared with each other in the first exhibit, so both see the same fp16 tensors.
EXHIBITED = ("article_cuda", "article_torch")


@dataclass(frozen=True)
class Case:
    """One op's inputs from one layer, with the oracle's outputs."""

    op: Op
    layer: str
    dtype: str
    inputs: Mapping[str, Any]
    options: Mapping[str, str]
    expected: tuple[Array, ...]

    @property
    def elements(self) -> int:
        return sum(array.size for array in self.expected)


def cases(
    layers: Sequence[Layer], dialect: str, wanted: Collection[str] | None = None
) -> Iterator[Case]:
    """Every op that a layer feeds (or of those the wanted ones), on every layer, in one dialect.

    Dtypes turn with the layer through those that the dialect accepts, for inputs and outputs
    alike, except in the exhibited dialects: fp16 throughout. Other options turn with the layer too.
    """
    allowed = ("fp16",) if dialect in EXHIBITED else DIALECTS[dialect].inputs
    for number, layer in enumerate(layers):
        dtype = allowed[number % len(allowed)]
        for case in _layer_cases(layer, dialect, dtype, number, wanted):
            if wanted is None or case.op.name in wanted:
                yield case


def _layer_cases(
    layer: Layer, dialect: str, dtype: str, turn: int, wanted: Collection[str] | None
) -> Iterator[Case]:
    pool = tensors(layer, dtype, dialect)
    for op in _needed(_ready(set(pool), dialect), wanted):
        inputs = {arg.name: pool[key] for arg, key in zip(op.inputs, op.takes, strict=True)}
        options = {name: values[turn % len(values)] for name, values in op.options.items()}
        options["dialect"] = dialect
        if "out_dtype" in options:
            options["out_dtype"] = dtype
        expected = op.expected(inputs, **options)
        pool.update(zip(op.gives, expected, strict=False))
        yield Case(op, layer.kind, dtype, inputs, options, expected)


def tensors(layer: Layer, dtype: str, dialect: str) -> dict[str, Any]:
    """A layer's own tensors by the names of `Op.takes`: floats in `dtype`, scales in fp32; and its
    weight per group, where the dialect quantizes so.
    """
    made: dict[str, Any] = {name: round_to(a, dtype) for name, a in layer.neighbours.items()}
    made["x"], made["w"] = round_to(layer.activations, dtype), round_to(layer.weight, dtype)
    made["bias"] = layer.bias
    made["w_kn"] = np.ascontiguousarray(np.rint(layer.weight.T * 256).clip(-128, 127), np.int8)
    made["smooth"] = smoothing(layer)
    made["group_size"], made["eps"] = GROUP_SIZE, layer.epsilon
    grouped = get_op("int8.quantize_per_group")
    if dialect in grouped.options["dialect"]:
        inputs = {"x": made["w"], "group_size": GROUP_SIZE}
        made["w_group_codes"], made["w_group_scales"] = grouped.expected(inputs, dialect=dialect)
    made["x_scale"] = np.array([np.abs(layer.activations).max() / 127], np.float32)
    made["out_scale"] = np.array([np.abs(layer.exact).max() / 127], np.float32)
    return made


def smoothing(layer: Layer) -> NDArray[np.float32]:
    """SmoothQuant's factors at alpha 0.5, fp32 (K,): sqrt(amax of x / amax of w) per channel.

    Source: smoothquant/smooth.py; both maxima at least 1e-5.
    """
    x = np.abs(layer.activations).max(axis=0).clip(1e-5)
    w = np.abs(layer.weight).max(axis=0).clip(1e-5)
    return np.sqrt(x / w).clip(1e-5).astype(np.float32)


def _ready(known: set[str], dialect: str) -> list[Op]:
    """The ops that can run, each after those whose results it takes."""
    waiting = [op for op in OPS.values() if op.takes and dialect in op.options["dialect"]]
    order: list[Op] = []
    while fit := [op for op in waiting if set(op.takes) <= known]:
        for op in fit:
            waiting.remove(op)
            known |= set(op.gives)
        order += fit
    return order


def _needed(order: Sequence[Op], wanted: Collection[str] | None) -> list[Op]:
    """The wanted ops and those whose results they take, directly or not."""
    keys: set[str] = set()
    found: list[Op] = []
    for op in reversed(order):
        if wanted is None or op.name in wanted or keys & set(op.gives):
            keys |= set(op.takes)
            found.append(op)
    return found[::-1]


def fed(layer: Layer, dialect: str) -> list[str]:
    """Names of the ops that a layer feeds in a dialect, in the order in which they run."""
    return [op.name for op in _ready(set(tensors(layer, "fp16", dialect)), dialect)]


def op_order(op: str) -> int:
    """Place of an op among all, as they are declared; unknown ones come last."""
    names = list(OPS)
    return names.index(op) if op in names else len(names)
