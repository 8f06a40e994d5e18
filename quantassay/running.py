"""One run of one kernel on one input: sent, called, fetched, compared.

Contract: `outcome` never raises for what the kernel does: an exception on valid input, a changed
input and an output that differs are what it reports. The oracle's own errors are not caught.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantassay import devices
from quantassay.calling import Calling, fault
from quantassay.compare import Mismatch, compare, deviating, differing
from quantassay.diagnosis.diagnose import Evidence
from quantassay.values import place, show
from reference import approximate
from reference.op import as_tuple

Array = NDArray[Any]
VALUES, NAN_BITS = "values", "NaN bits"  # ways to fail; others: an exception's name, "form", ...
EVIDENCE_ELEMENTS = 1 << 14  # outputs beyond which a run is not kept for the diagnosis


@dataclass
class Outcome:
    """What one run gave. Passed if there is neither a mismatch nor an error.

    elements: outputs compared. error: what the kernel raised, or did to its inputs, in words, and
    kind: the exception's type or "modified input"; fault: the kind of the emulator's finding
    ("RACE") if that is what it raised. allowed: outputs that differ from the oracle's bits inside
    the set that the dialect's approximate division allows.
    """

    elements: int
    mismatch: Mismatch | None = None
    error: str | None = None
    kind: str = ""
    fault: str = ""
    evidence: Evidence | None = None
    allowed: int = 0

    @property
    def failed(self) -> bool:
        return self.mismatch is not None or self.error is not None

    @property
    def ways(self) -> tuple[str, ...]:
        """In which ways the run failed, the gravest first: each gets its own smallest input."""
        if self.error is not None:
            return (self.fault or self.kind,)
        if self.mismatch is None:
            return ()
        one = self.mismatch
        if not one.differences:
            return ("form",)
        values = one.all_counts - one.unwritten - one.nan_bits
        counts = {"unwritten": one.unwritten, VALUES: values, NAN_BITS: one.nan_bits}
        return tuple(way for way, count in counts.items() if count > 0)

    @property
    def wrong(self) -> int:
        """Elements that differ: all of them where the kernel raised."""
        if self.error is not None:
            return self.elements
        return self.mismatch.all_counts if self.mismatch else 0


def outcome(
    calling: Calling,
    inputs: Mapping[str, Any],
    options: Mapping[str, str],
    device: str,
    expected: Sequence[Array] | None = None,
    *,
    shift: int | Mapping[str, int] = 0,
    order: int = 0,
) -> Outcome:
    """Runs the kernel on a copy of `inputs` (NumPy arrays by name) and compares with the oracle.

    device: "emulator" or "gpu". expected: the oracle's outputs, if they are at hand. shift:
    elements by which the copies are off an aligned address, or those by name (0 if absent). order:
    seed of the thread order.
    """
    op = calling.op
    wanted = op.expected(dict(inputs), **options) if expected is None else tuple(expected)
    elements = sum(array.size for array in wanted)
    sent = send(calling, inputs, device, shift)
    try:
        got = call(calling, sent, options, order)
    except Exception as error:  # whatever a kernel raises on valid input is the finding
        words, kind = calling.raised(error), type(error).__name__
        return Outcome(elements, error=words, kind=kind, fault=fault(error))
    changed = _changed(inputs, sent)
    if changed:
        return Outcome(elements, error=changed, kind="modified input")
    bounds = approximate.allowed(op.name, inputs, options)
    mismatch = compare(op, inputs, options, got, wanted, bounds)
    comparable = mismatch is None or bool(mismatch.differences)
    kept = comparable and elements <= EVIDENCE_ELEMENTS
    evidence = Evidence(inputs, options, got, wanted, bounds) if kept else None
    allowed = deviating(got, wanted, bounds) if bounds and comparable else 0
    return Outcome(elements, mismatch, evidence=evidence, allowed=allowed)


def send(
    calling: Calling,
    inputs: Mapping[str, Any],
    device: str,
    shift: int | Mapping[str, int] = 0,
) -> dict[str, Any]:
    """Fresh copies of the inputs on the device."""
    names = [arg.name for arg in calling.op.inputs]
    shifts = dict.fromkeys(names, shift) if isinstance(shift, int) else shift
    return {name: devices.send(inputs[name], device, shifts.get(name, 0)) for name in names}


def call(
    calling: Calling, sent: Mapping[str, Any], options: Mapping[str, str], order: int = 0
) -> tuple[Any, ...]:
    """The kernel's outputs as NumPy arrays. Raises what the kernel raises."""
    with np.errstate(all="ignore"), devices.thread_order(order):
        result = calling(sent, options)
    return tuple(devices.fetch(one) for one in as_tuple(result))


def _changed(inputs: Mapping[str, Any], sent: Mapping[str, Any]) -> str:
    """What the kernel changed in its inputs, in words; empty if nothing."""
    for name, original in inputs.items():
        if not isinstance(original, np.ndarray):
            continue
        after = devices.fetch(sent[name])
        mask = differing(after, original)
        if mask.any():
            at = tuple(int(i) for i in np.argwhere(mask)[0])
            return (
                f"the kernel modifies its input {name}: {int(mask.sum())} of {mask.size} elements, "
                f"first {place(name, at)}: was {show(original[at])}, is {show(after[at])}"
            )
    return ""
