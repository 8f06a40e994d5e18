"""The inputs on which a kernel is identified, and what each dialect gives for them.

Contract: `Pool(op, ...)` holds the same inputs for the same arguments: the op's hostile recipes,
`examples` random ones, small ones of every kind and dtype, and rows built at the places where
dialects part (rows.py). Recipes are added, up to `FURTHER`, while two dialects give equal results
on all inputs that both accept. A dialect that refuses an input has no result for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from itertools import combinations, product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantassay.cases import Case, cases, dtypes_of, fitted
from quantassay.compare import Allowed, both_nan, differing
from quantassay.identify import rows
from reference import approximate
from reference.op import Op, Recipe, recipe

Array = NDArray[Any]
Arrays = Mapping[str, Any]
Options = tuple[tuple[str, str], ...]
FURTHER = 60  # recipes tried for pairs that nothing has told apart yet
LARGE = 1 << 16  # elements of an output beyond which a recipe is left out: time, not insight
SMALL = {"M": 6, "N": 5, "K": 40, "Q": 2, "G": 16, "B": 2, "P": 1}
WIDE = {"M": 16, "N": 16, "K": 256, "Q": 4, "G": 64, "B": 2, "P": 2}


@dataclass(frozen=True, eq=False)
class Probe:
    """One input: in words, its arrays by name, and the call's options without the dialect."""

    words: str
    inputs: Arrays
    options: Options = ()
    kind: str = ""  # of the recipe that made it; empty if none did


@dataclass(frozen=True)
class Results:
    """What a dialect gives for a probe, and what its division allows beside it."""

    outputs: tuple[Array, ...]
    bounds: Allowed


@dataclass
class Pool:
    """Probes of one op, and every dialect's results on them, each computed once.

    narrowed: options, dtypes and sizes that the kernel takes, as Calling.narrowed has them.
    """

    op: Op
    narrowed: Mapping[str, Sequence[str]] = field(default_factory=dict)
    examples: int = 12
    seed: int = 0

    def __post_init__(self) -> None:
        self.dialects = tuple(self.op.options["dialect"])
        self._results: dict[tuple[int, str], Results | None] = {}
        self._apart: dict[tuple[str, str], list[Probe]] = {}
        self.probes = [*self._recipes(), *self._built()]
        self._search()

    def with_probes(self, probes: Sequence[Probe]) -> Pool:
        """This pool with only these probes."""
        fewer = copy(self)
        fewer.probes, fewer._apart = list(probes), {}
        return fewer

    def results(self, probe: Probe, dialect: str) -> Results | None:
        """None where the dialect refuses the input."""
        key = id(probe), dialect
        if key not in self._results:
            self._results[key] = results(self.op, probe, dialect)
        return self._results[key]

    def apart(self, a: str, b: str) -> list[Probe]:
        """The probes on which two dialects give different results, small ones first."""
        key = (a, b) if a < b else (b, a)
        if key not in self._apart:
            found = [one for one in self.probes if self._differ(one, *key)]
            self._apart[key] = sorted(found, key=elements)
        return self._apart[key]

    def alike(self, dialect: str) -> tuple[str, ...]:
        """The other dialects that give the same results on every input that both accept, of which
        there is one at least."""
        others = [d for d in self.dialects if d != dialect and not self.apart(d, dialect)]
        return tuple(d for d in others if any(self._both(one, d, dialect) for one in self.probes))

    def _both(self, probe: Probe, a: str, b: str) -> bool:
        return self.results(probe, a) is not None and self.results(probe, b) is not None

    def _differ(self, probe: Probe, a: str, b: str) -> bool:
        first, second = self.results(probe, a), self.results(probe, b)
        return first is not None and second is not None and bool(parting(first, second))

    def _recipes(self) -> Iterator[Probe]:
        seen: set[tuple[Recipe, Options]] = set()
        op, narrowed, found = self.op, self.narrowed, list[Case]()
        for dialect in self.dialects:
            if dtypes_of(op, dialect, narrowed):
                found += cases(
                    op, dialect, examples=self.examples, seed=self.seed, allowed=narrowed
                )
        for case in (*found, *self._small()):
            key = case.recipe, _others(case.options)
            if key not in seen and self.extent(case.recipe) <= LARGE:
                seen.add(key)
                yield self.probe(case)

    def _small(self, sizes: Mapping[str, int] = SMALL, seed: int = 0) -> list[Case]:
        """A recipe per kind and dtype, with each of the options in turn."""
        turns = self._turns()
        dims = {symbol: sizes.get(symbol, sizes["K"]) for symbol in self.op.dims}
        pairs = product(self.op.kinds, self.dtypes)
        made = [
            recipe(kind, seed=self.seed + seed + 2 * number, dtype=dtype, **dims)
            for number, (kind, dtype) in enumerate(pairs)
        ]
        return [
            Case(fitted(one, self.narrowed), turns[(number + seed) % len(turns)])
            for number, one in enumerate(made)
        ]

    @property
    def multiples(self) -> dict[str, int]:
        """Sizes that must be multiples, where the kernel has such a condition."""
        return {s: int(self.narrowed[s][0]) for s in self.op.dims if s in self.narrowed}

    def fits(self, sizes: Mapping[str, int]) -> bool:
        """Whether the kernel is for these sizes."""
        return all(sizes.get(s, number) % number == 0 for s, number in self.multiples.items())

    @property
    def dtypes(self) -> tuple[str, ...]:
        """The input dtypes that the kernel takes."""
        chosen = self.narrowed.get("dtype", self.op.dtypes)
        return tuple(dtype for dtype in self.op.dtypes if dtype in chosen)

    def _turns(self) -> list[Options]:
        named = [
            [(name, value) for value in self.narrowed.get(name, values)]
            for name, values in self.op.options.items()
            if name != "dialect"
        ]
        return [tuple(one) for one in product(*named)]

    def probe(self, case: Case) -> Probe:
        return Probe(
            str(case.recipe), self.op.build(case.recipe), _others(case.options), case.recipe.kind
        )

    def extent(self, made: Recipe) -> int:
        """Elements of the largest output."""
        dims = dict(made.dims)
        known = {**dims, "S": max(dims.values())}
        return max(arg.extent(known) for arg in self.op.outputs)

    def _built(self) -> Iterator[Probe]:
        """Built rows in place of the only array of a quantization, or of x beside its scales."""
        arrays = {arg.name: arg for arg in self.op.arrays()}
        first = next(iter(arrays.values()))
        if not set(self.op.dtypes) <= set(first.dtypes):
            return
        for dtype, turn in product(self.dtypes, self._turns()):
            if set(arrays) == {"x", "scales"} and arrays["scales"].shape == ("S",):
                x, scales = rows.scaled(dtype)
                yield self._with_rows(dtype, turn, x=x, scales=scales)
            elif len(arrays) == 1 and any(arg.shape == (1,) for arg in self.op.outputs):
                for row in rows.built(dtype, sparse=True):  # rows would share one scale
                    yield self._with_rows(dtype, turn, **{first.name: row[None]})
            elif len(arrays) == 1:
                yield self._with_rows(dtype, turn, **{first.name: rows.built(dtype)})

    def _with_rows(self, dtype: str, turn: Options, **arrays: Array) -> Probe:
        height, width = next(iter(arrays.values())).shape
        known: dict[str, int] = {"G": width, "Q": 1, "K": width}
        dims = {symbol: known.get(symbol, int(height)) for symbol in self.op.dims}
        if not self.fits(dims):
            wanted = dict(fitted(recipe(self.op.kinds[0], dtype=dtype, **dims), self.narrowed).dims)
            width = wanted.get("K", wanted.get("G", 1) * wanted.get("Q", 1))
            height = wanted[self.op.dims[0]]
            arrays = {name: _padded(array, height, width) for name, array in arrays.items()}
            dims = wanted
        inputs = self.op.build(recipe(self.op.kinds[0], dtype=dtype, **dims))
        return Probe(f"built rows, {dtype}", {**inputs, **arrays}, turn)

    def _search(self) -> None:
        """Adds recipes that tell apart what nothing has told apart yet."""
        pairs = [
            pair
            for pair in combinations(self.dialects, 2)
            if not self.apart(*pair) and any(self._both(one, *pair) for one in self.probes)
        ]
        tries = 0
        for seed in range(1, FURTHER):
            for case in self._small(WIDE, 101 * seed):
                tries += 1
                if not pairs or tries > FURTHER:
                    return
                probe = self.probe(case)
                told = [pair for pair in pairs if self._differ(probe, *pair)]
                if told:
                    self.probes.append(probe)
                    self._apart.clear()
                    pairs = [pair for pair in pairs if pair not in told]


def results(op: Op, probe: Probe, dialect: str) -> Results | None:
    """What a dialect gives for a probe, or None where it refuses the input."""
    if probe.kind in op.kinds and probe.kind not in op.kinds_in(dialect):
        return None
    options = {**dict(probe.options), "dialect": dialect}
    try:
        outputs = op.expected(dict(probe.inputs), **options)
    except (TypeError, ValueError):  # the oracle names what it does not take
        return None
    return Results(outputs, approximate.allowed(op.name, probe.inputs, options))


def parting(a: Results, b: Results) -> list[tuple[int, tuple[int, ...]]]:
    """(output, index) of the first element per output in which two dialects part: in more than the
    bits of a NaN, and beyond what either's division allows."""
    found = []
    for i, (one, two) in enumerate(zip(a.outputs, b.outputs, strict=True)):
        if one.dtype != two.dtype or one.shape != two.shape:
            found.append((i, (0,) * one.ndim))
            continue
        mask = differing(one, two) & ~both_nan(one, two)
        for bounds, other in ((a.bounds, two), (b.bounds, one)):
            limits = bounds[i] if bounds else None
            if limits is not None:
                mask &= ~approximate.inside(other, limits)
        if mask.any():
            found.append((i, tuple(int(at) for at in np.argwhere(mask)[0])))
    return found


def elements(probe: Probe) -> int:
    """Elements of a probe's arrays."""
    return sum(one.size for one in probe.inputs.values() if isinstance(one, np.ndarray))


def _padded(array: Array, *sides: int) -> Array:
    """The last row and the last column repeated, up to these sides."""
    for axis in range(array.ndim):
        spare = max(0, sides[axis] - array.shape[axis])
        last = array.take([-1] * spare, axis)
        array = np.concatenate([array, last], axis)
    return np.ascontiguousarray(array)


def _others(options: Options) -> Options:
    return tuple((name, value) for name, value in options if name != "dialect")
