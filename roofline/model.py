"""The plain roofline: no kernel is faster than its bytes or its operations allow.

Contract: `bound(op, dims, device)` gives the lower bound

    seconds >= max(bytes / DRAM bandwidth, operations / peak of each pipe)

from the op's own declaration (`Op.traffic`: every input read once, every output written once;
`Op.operations`). It is a prediction from paper, without launch overhead, waves, caches or clocks:
real kernels are slower, never faster. On GEMMs whose time was measured, published errors of the
plain roofline are 16-34% (NeuSight, 2024; LLMCompass, 2024).

Source: Williams, Waterman, Patterson, "Roofline: an insightful visual performance model", 2009.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from reference.arguments import (
    check_int,
    check_kind,
    check_list,
    check_sizes,
    check_text,
    check_word,
)
from reference.op import Op, get_op
from roofline.devices import Device

LABEL = "predicted"
MEMORY = "memory"
# The forms of the W8A8 linear: the launches each consists of, as ops.
FORMS: Mapping[str, tuple[str, ...]] = {
    "unfused": ("int8.quantize_per_token", "int8.gemm", "int8.epilogue"),
    "fused": ("int8.quantize_per_token", "int8.gemm_dequant"),
    "prologue": ("int8.linear",),
}


@dataclass(frozen=True)
class Bound:
    """A lower bound on one launch's (or several launches') time. `ceiling` names what binds:
    "memory" or a pipe."""

    seconds: float
    ceiling: str
    bytes: int
    operations: Mapping[str, int]
    device: str
    label: str = LABEL

    def per_second(self, pipe: str) -> float:
        """Operations per second of a pipe if the bound were reached."""
        return self.operations.get(pipe, 0) / self.seconds


def from_counts(moved: int, operations: Mapping[str, int], device: Device) -> Bound:
    """The bound from bytes and operations per pipe.

    Raises ValueError for a pipe that the device lacks, or where nothing is moved or computed.
    """
    check_int("moved", moved, 0)
    check_kind("device", device, Device, "a roofline Device")
    check_kind("operations", operations, Mapping, "a mapping of pipes to numbers")
    times = {MEMORY: moved / device.bandwidth}
    for pipe, count in operations.items():
        check_int(f"operations[{pipe!r}]", count, 0)
        times[pipe] = count / device.peak(pipe).per_second
    ceiling = max(times, key=lambda name: times[name])
    if times[ceiling] <= 0:
        raise ValueError(f"moved, operations: got {moved} and {dict(operations)}; allowed: > 0")
    return Bound(times[ceiling], ceiling, moved, dict(operations), device.name)


def bound(
    op: Op, dims: Mapping[str, int], device: Device, dtypes: Mapping[str, str] | None = None
) -> Bound:
    """Lower bound of one launch of `op` at the given sizes (`dtypes` as in `Op.traffic`)."""
    check_kind("op", op, Op, "a reference Op")
    check_sizes("dims", dims, op.dims)
    check_kind("device", device, Device, "a roofline Device")
    return from_counts(op.traffic(dims, dtypes).total, op.operations(**dims), device)


def in_sequence(bounds: Sequence[Bound]) -> Bound:
    """Launches one after the other: times, bytes and operations add up; the longest names the
    ceiling. Raises ValueError for none, or for different devices."""
    check_list("bounds", bounds, Bound, "a Bound")
    if not bounds or len({each.device for each in bounds}) != 1:
        got = f"{len(bounds)} of devices {[each.device for each in bounds]}"
        raise ValueError(f"bounds: got {got}; allowed: one or more, all of one device")
    operations: dict[str, int] = {}
    for each in bounds:
        for pipe, count in each.operations.items():
            operations[pipe] = operations.get(pipe, 0) + count
    longest = max(bounds, key=lambda each: each.seconds)
    return Bound(
        sum(each.seconds for each in bounds),
        longest.ceiling,
        sum(each.bytes for each in bounds),
        operations,
        bounds[0].device,
    )


def linear_form(form: str, dims: Mapping[str, int], device: Device, dtype: str = "fp16") -> Bound:
    """Lower bound of the W8A8 linear in one of FORMS, activations and outputs of `dtype`.

    Raises ValueError that lists the forms.
    """
    check_word("form", form, FORMS)
    check_text("dtype", dtype)
    check_sizes("dims", dims, ("M", "N", "K"))
    launches = []
    for name in FORMS[form]:
        op = get_op(name)
        floats = {arg.name: dtype for arg in (*op.inputs, *op.outputs) if dtype in arg.dtypes}
        chosen = {name: dtype for name, dtype in floats.items() if name in ("x", "out")}
        launches.append(bound(op, dims, device, chosen))
    return in_sequence(launches)


def half_linear(dims: Mapping[str, int], device: Device) -> Bound:
    """Lower bound of the fp16 linear that W8A8 replaces: fp16 everywhere, fp32 accumulators."""
    check_sizes("dims", dims, ("M", "N", "K"))
    M, N, K = dims["M"], dims["N"], dims["K"]
    return from_counts(2 * (M * K + N * K + M * N), {"fp16_tensor": 2 * M * N * K}, device)
