"""The smallest inputs that tell two dialects apart, or a kernel from a dialect.

Contract: an example is a part of a probe that cannot be made smaller by leaving out rows, columns
or groups (shrinking.py), with one element that differs and what each side gives for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from quantassay.calling import Calling
from quantassay.identify.probes import Pool, Probe, Results, elements, parting, results
from quantassay.identify.ranking import Run, compared, fits, run
from quantassay.identify.shrinking import shrunk, sizes
from quantassay.values import number, place, show
from reference.numerics import dtype_name

SHOWN = 16  # elements of an array that are printed
RUNS = 60  # of the kernel, in search of a small input
ORDINARY = (2.0**-14, 2.0**15)
KERNEL = "the kernel"


@dataclass(frozen=True)
class Example:
    """An input, one of its output elements, and (who, "value (0xbits)") of it."""

    purpose: str
    inputs: tuple[str, ...]
    element: str
    results: tuple[tuple[str, str], ...]

    @property
    def words(self) -> str:
        given = ", ".join(f"{who} gives {value}" for who, value in self.results)
        return "\n".join([f"{self.purpose}:", *(f"  {one}" for one in self.inputs),
                          f"  {self.element}: {given}"])  # fmt: skip

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "purpose": self.purpose, "inputs": list(self.inputs), "element": self.element,
            "results": dict(self.results),
        }  # fmt: skip


def between(
    pool: Pool, calling: Calling, device: str, spoken: str, a: str, b: str, runs: Sequence[Run]
) -> Example | None:
    """What tells dialect a from b, and what the kernel gives there; None if nothing does.

    spoken: what the kernel is passed as dialect=. Inputs on which it ran are preferred.
    """
    ran = {id(one.probe) for one in runs if not one.raised}
    found = pool.apart(a, b)
    if not found:
        return None
    start = min(found, key=lambda one: (id(one) not in ran, not ordinary(one), elements(one)))

    def parts(inputs: Mapping[str, Any]) -> bool:
        if not pool.fits(sizes(pool.op, inputs)):
            return False
        first, second = _both(pool, _part(start, inputs), a, b)
        return first is not None and second is not None and bool(parting(first, second))

    probe = _part(start, shrunk(pool.op, start.inputs, parts))
    first, second = _both(pool, probe, a, b)
    if first is None or second is None:
        return None
    output, index = parting(first, second)[0]
    made = run(calling, probe, device, spoken)
    sides = {a: first.outputs, b: second.outputs, KERNEL: made.outputs}
    given = [(who, _value(outputs, output, index)) for who, outputs in sides.items()]
    if made.raised:
        given[-1] = (KERNEL, made.raised)
    name = place(pool.op.output_names()[output], index)
    return Example(f"what tells {a} from {b}", described(pool, probe), name, tuple(given))


def against(
    pool: Pool, calling: Calling, device: str, spoken: str, dialect: str, runs: Sequence[Run]
) -> Example | None:
    """The smallest input found on which the kernel differs from a dialect."""
    failing = []
    for one in runs:
        want = pool.results(one.probe, dialect)
        if want is not None and not one.raised and not fits(one, want):
            failing.append(one.probe)
    if not failing:
        return None
    start = min(failing, key=lambda one: (not ordinary(one), elements(one)))

    def differs(inputs: Mapping[str, Any]) -> bool:
        probe = _part(start, inputs)
        want = results(pool.op, probe, dialect)
        if want is None or not pool.fits(sizes(pool.op, inputs)):
            return False
        made = run(calling, probe, device, spoken)
        return not made.raised and not fits(made, want)

    probe = _part(start, shrunk(pool.op, start.inputs, differs, RUNS))
    want, made = results(pool.op, probe, dialect), run(calling, probe, device, spoken)
    if want is None or made.raised:
        return None
    for output, name in enumerate(pool.op.output_names()):
        mask = compared(made, want, output)[0]
        if mask.any():
            index = tuple(int(at) for at in np.argwhere(mask)[0])
            given = (
                (dialect, _value(want.outputs, output, index)),
                (KERNEL, _value(made.outputs, output, index)),
            )
            purpose = f"where the kernel differs from {dialect}"
            return Example(purpose, described(pool, probe), place(name, index), given)
    return None  # gone on the second run: the kernel gives different bits from run to run


def ordinary(probe: Probe) -> bool:
    """Whether all floats are finite, and the largest of each array neither tiny nor huge."""
    for value in probe.inputs.values():
        if isinstance(value, np.ndarray) and value.dtype.kind not in "iub":
            largest = np.abs(value.astype(np.float64)).max(initial=0.0)
            if not ORDINARY[0] <= largest <= ORDINARY[1]:
                return False
    return True


def _part(start: Probe, inputs: Mapping[str, Any]) -> Probe:
    return Probe(start.words, inputs, start.options)


def _both(pool: Pool, probe: Probe, a: str, b: str) -> tuple[Results | None, Results | None]:
    return results(pool.op, probe, a), results(pool.op, probe, b)


def _value(outputs: Sequence[Any], output: int, index: tuple[int, ...]) -> str:
    if output >= len(outputs) or not isinstance(outputs[output], np.ndarray):
        return "no such output"
    array = outputs[output]
    if array.ndim != len(index) or any(i >= n for i, n in zip(index, array.shape, strict=True)):
        return f"shape {array.shape}"
    name = dtype_name(array.dtype)
    return show(array[index]) if name in ("s8", "fp32") else f"{show(array[index])} as {name}"


def described(pool: Pool, probe: Probe) -> tuple[str, ...]:
    """A line per input, and one for options."""
    lines = []
    for arg in pool.op.inputs:
        value = probe.inputs.get(arg.name)
        if isinstance(value, np.ndarray):
            head = f"{arg.name}: {dtype_name(value.dtype)} {value.shape}"
            shown = ", ".join(number(one) for one in value.reshape(-1))
            lines.append(f"{head} = {shown}" if value.size <= SHOWN else f"{head}, {probe.words}")
        else:
            lines.append(f"{arg.name} = {value}")
    return (*lines, *(f"{name} = {value}" for name, value in probe.options))
