"""A kernel's results on the probes, and how far each dialect is from them.

Contract: the kernel runs once per probe. `standings` gives one `Standing` per dialect of the op,
the nearest first: elements compared and differing, per output and together. A NaN equals a NaN
whatever its bits (they are counted apart). A result inside what the dialect's own division allows
is no difference (counted apart too; a dialect that fits by bits comes before). Dialects that refuse
some inputs are held against the rest; those with no input left come last.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantassay.calling import Calling
from quantassay.compare import both_nan, differing, written
from quantassay.identify.probes import Pool, Probe, Results
from quantassay.running import call, send
from reference import approximate

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Run:
    """What the kernel gave for a probe: its outputs, or the exception in words."""

    probe: Probe
    outputs: tuple[Any, ...] = ()
    raised: str = ""


@dataclass
class Standing:
    """How a kernel's results compare with one dialect's. outputs: name -> [differing, compared];
    refused: inputs of the dialect on which the kernel raised."""

    dialect: str
    inputs: int = 0
    refused: int = 0
    outputs: dict[str, list[int]] = field(default_factory=dict)
    allowed: int = 0
    nan_bits: int = 0

    @property
    def wrong(self) -> int:
        return sum(one[0] for one in self.outputs.values())

    @property
    def total(self) -> int:
        return sum(one[1] for one in self.outputs.values())

    @property
    def fits(self) -> bool:
        return self.total > 0 and self.wrong == 0

    @property
    def share(self) -> float:
        """Of the elements that differ; 1 where nothing was compared."""
        return self.wrong / self.total if self.total else 1.0

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        outputs = {name: {"differ": w, "of": n} for name, (w, n) in self.outputs.items()}
        return {
            "dialect": self.dialect, "inputs": self.inputs, "refused": self.refused,
            "outputs": outputs, "differ": self.wrong, "of": self.total,
            "allowed": self.allowed, "nan_bits": self.nan_bits,
        }  # fmt: skip


def run(calling: Calling, probe: Probe, device: str, dialect: str = "") -> Run:
    """One call. dialect: what is passed as dialect=, where the kernel takes it."""
    options = {**dict(probe.options), "dialect": dialect}
    try:
        return Run(probe, call(calling, send(calling, probe.inputs, device), options))
    except Exception as error:  # whatever a kernel raises says what it does not take
        return Run(probe, raised=calling.raised(error))


def standings(pool: Pool, runs: Sequence[Run]) -> list[Standing]:
    """One per dialect, the nearest first."""
    found = [_standing(pool, runs, dialect) for dialect in pool.dialects]
    return sorted(found, key=lambda one: (one.share, one.allowed > 0, -one.total))


def _standing(pool: Pool, runs: Sequence[Run], dialect: str) -> Standing:
    names = pool.op.output_names()
    one = Standing(dialect, outputs={name: [0, 0] for name in names})
    for made in runs:
        want = pool.results(made.probe, dialect)
        if want is None:
            continue
        if made.raised:
            one.refused += 1
            continue
        one.inputs += 1
        for i, name in enumerate(names):
            mask, nan, allowed = compared(made, want, i)
            one.outputs[name][0] += int(mask.sum())
            one.outputs[name][1] += mask.size
            one.nan_bits += nan
            one.allowed += allowed
    return one


def compared(made: Run, want: Results, output: int) -> tuple[NDArray[np.bool_], int, int]:
    """(where the output differs, NaN of other bits, elements that only the division allows)."""
    expected = want.outputs[output]
    whole = np.ones(expected.shape, dtype=bool)
    got = made.outputs[output] if output < len(made.outputs) else None
    if not isinstance(got, np.ndarray) or got.dtype != expected.dtype:
        return whole, 0, 0
    if got.shape != expected.shape or len(made.outputs) != len(want.outputs):
        return whole, 0, 0
    mask, nan = differing(got, expected), both_nan(got, expected)
    lost = ~written(got)
    limits = want.bounds[output] if want.bounds else None
    inside = np.zeros_like(mask) if limits is None else approximate.inside(got, limits)
    inside &= mask & ~nan & ~lost
    return (mask & ~nan & ~inside) | lost, int((mask & nan).sum()), int(inside.sum())


def fits(made: Run, want: Results) -> bool:
    """Whether a run gave nothing but the dialect's results."""
    return not any(compared(made, want, i)[0].any() for i in range(len(want.outputs)))
