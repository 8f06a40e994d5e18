"""Roofline rows of the report: the least time that the hardware allows, per op, layer and GPU.

Contract: every row is a lower bound by the plain roofline (roofline/model.py), labelled
"predicted". Nothing here was measured. Floats are fp16 where an op may take it, the bias counts,
static scales are one per row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bench.workloads import LLMS, TOKENS, Shape
from quantassay.report.inputs import GROUP_SIZE
from reference.op import OPS, Op
from roofline.devices import DEVICES, Device
from roofline.model import FORMS, LABEL, Bound, bound, half_linear, linear_form

FP16_LINEAR = "fp16 linear"
SWEEP = tuple(1 << power for power in range(14))  # M of the crossover chart


@dataclass(frozen=True)
class Row:
    """One lower bound. `what` is an op, "linear <form>" or the fp16 linear."""

    what: str
    model: str
    layer: str
    dims: Mapping[str, int]
    device: str
    microseconds: float
    ceiling: str
    bytes: int
    operations: Mapping[str, int]
    label: str = LABEL


def rows(layers: Mapping[str, Mapping[str, int]], model: str) -> list[Row]:
    """Every op at the given layers' sizes (kind -> M, N, K), and every form of the linear at LLM
    shapes for the token counts of TOKENS, on every known device."""
    made = []
    for device in DEVICES.values():
        for kind, dims in layers.items():
            made += [_op_row(op, model, kind, dims, device) for op in OPS.values()]
            made += _linears(model, kind, dims, device)
        for shape in LLMS:
            for M in TOKENS:
                made += _linears(shape.model, shape.layer, _dims(shape, M), device)
    return made


def _dims(shape: Shape, M: int) -> dict[str, int]:
    return {"M": M, "N": shape.N, "K": shape.K}


def half_dtypes(op: Op) -> dict[str, str]:
    """dtypes for `Op.traffic`: fp16 where allowed, optional arguments present."""
    chosen = {arg.name: "fp16" for arg in (*op.inputs, *op.outputs) if "fp16" in arg.dtypes}
    return chosen | {arg.name: arg.dtypes[0] for arg in op.inputs if arg.optional}


def _op_row(op: Op, model: str, kind: str, dims: Mapping[str, int], device: Device) -> Row:
    groups = {"G": GROUP_SIZE, "Q": dims["K"] // GROUP_SIZE, "P": dims["N"] // 8, "B": 1}
    sizes = {**dims, **groups, "S": dims["M"]}
    return _row(op.name, model, kind, sizes, bound(op, sizes, device, half_dtypes(op)))


def _linears(model: str, kind: str, dims: Mapping[str, int], device: Device) -> list[Row]:
    made = [
        _row(f"linear {form}", model, kind, dims, linear_form(form, dims, device)) for form in FORMS
    ]
    made.append(_row(FP16_LINEAR, model, kind, dims, half_linear(dims, device)))
    return made


def _row(what: str, model: str, kind: str, dims: Mapping[str, int], made: Bound) -> Row:
    return Row(
        what, model, kind, dict(dims), made.device, made.seconds * 1e6, made.ceiling, made.bytes,
        dict(made.operations),
    )  # fmt: skip


def crossover(shape: Shape, form: str = "fused") -> dict[str, list[float]]:
    """Bound of the fp16 linear over that of the W8A8 one, per device, at every M of SWEEP."""
    return {
        device.title: [
            half_linear(_dims(shape, M), device).seconds
            / linear_form(form, _dims(shape, M), device).seconds
            for M in SWEEP
        ]
        for device in DEVICES.values()
    }


def find(rows: Sequence[Row], what: str, device: str, model: str, layer: str, M: int) -> Row:
    """The one row asked for. Raises LookupError if there is none."""
    for row in rows:
        if (row.what, row.device, row.model, row.layer, row.dims["M"]) == (
            what, device, model, layer, M,
        ):  # fmt: skip
            return row
    raise LookupError(f"no roofline row for {what}, {device}, {model} {layer}, M={M}")
