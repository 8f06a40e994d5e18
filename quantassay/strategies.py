"""Hypothesis: a strategy over cases, and the search for the smallest one that fails.

Contract: recipes are drawn, never arrays: a few integers and words, from which NumPy builds the
input, so that Hypothesis shrinks quickly and to something that can be printed and repeated.
`smallest` is deterministic for a given seed and writes nothing to disk. Smaller means fewer
elements first, then a simpler kind, then a smaller seed.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import product
from math import prod
from random import Random
from typing import Any

from hypothesis import HealthCheck, Phase, configuration, find, settings
from hypothesis import strategies as st
from hypothesis.errors import NoSuchExample

from quantassay.cases import SEEDS, Case, dtypes_of, fitted, largest, options_of
from reference.op import Op, Recipe, recipe

Fails = Callable[[Case], bool]
DRAWS = 150  # that Hypothesis may make before it gives up
SPARE_SEEDS = 6  # tried at every smaller size
TRIES = 400  # runs of the kernel, for the search and again for the descent


def case_strategy(
    op: Op,
    dialect: str,
    *,
    limits: Mapping[str, int] | None = None,
    allowed: Mapping[str, Sequence[str]] | None = None,
) -> st.SearchStrategy[Case]:
    """Cases of an op in a dialect; `limits` bounds the sizes by symbol, `allowed` the options.

    Order matters: what is drawn first shrinks first, and words shrink to the first of their list.
    """
    bounds = {symbol: (limits or {}).get(symbol, largest(symbol)) for symbol in op.dims}
    return st.builds(
        _case,
        sizes=st.tuples(*(st.tuples(st.just(s), st.integers(1, n)) for s, n in bounds.items())),
        kind=st.sampled_from(op.kinds_in(dialect)),
        dtype=st.sampled_from(dtypes_of(op, dialect, allowed)),
        options=st.sampled_from(options_of(op, dialect, allowed)),
        seed=st.integers(0, SEEDS - 1),
        allowed=st.just(allowed),
    )


def _case(
    sizes: tuple[tuple[str, int], ...],
    kind: str,
    dtype: str,
    options: tuple[tuple[str, str], ...],
    seed: int,
    allowed: Mapping[str, Sequence[str]] | None,
) -> Case:
    return Case(fitted(recipe(kind, seed=seed, dtype=dtype, **dict(sizes)), allowed), options)


def smallest(
    op: Op,
    dialect: str,
    failing: Case,
    fails: Fails,
    *,
    seed: int = 0,
    allowed: Mapping[str, Sequence[str]] | None = None,
) -> Case:
    """The smallest case found on which `fails` holds; at worst `failing` itself.

    Tiny inputs of every kind come first. If none fails, Hypothesis searches and shrinks below the
    failing case's sizes. A greedy descent follows, for bugs that random draws miss.
    """
    tiny = next((case for case in _tiny(op, dialect, failing, allowed) if fails(case)), None)
    if tiny is None:
        tiny = _search(op, dialect, failing, _Budget(fails), seed, allowed)
    best = min((failing, tiny), key=lambda case: size(op, case))
    return _descend(op, dialect, best, _Budget(fails), allowed)


def size(op: Op, case: Case) -> tuple[Any, ...]:
    """What smaller means."""
    made = case.recipe
    sizes = [side for _, side in made.dims]
    options = op.options.get("out_dtype", ())
    chosen = case.keywords().get("out_dtype")
    return (
        prod(sizes),
        sum(sizes),
        op.dtypes.index(made.dtype),
        options.index(chosen) if chosen else 0,
        _rank(op, made.kind),
        case.shift,
        made.seed,
    )


def _rank(op: Op, kind: str) -> int:
    """The simpler kinds first; last those that only some dialects meet (cases._beside)."""
    return op.kinds.index(kind) if kind in op.kinds else len(op.kinds)


def _tiny(
    op: Op, dialect: str, failing: Case, allowed: Mapping[str, Sequence[str]] | None
) -> Iterator[Case]:
    """Inputs of one element and of two a side, of every kind, with the failing case's options."""
    dtypes = dict.fromkeys((dtypes_of(op, dialect, allowed)[0], failing.recipe.dtype))
    kinds = dict.fromkeys((failing.recipe.kind, *op.kinds_in(dialect)))
    for side, dtype, kind, seed in product((1, 2), dtypes, kinds, range(3)):
        made = recipe(kind, seed=seed, dtype=dtype, **dict.fromkeys(op.dims, side))
        made = fitted(made, allowed)
        if Case(made, failing.options) != failing:
            yield Case(made, failing.options)


class _Budget:
    """Remembers verdicts, and says no once the tries are used up."""

    def __init__(self, fails: Fails) -> None:
        self.fails = fails
        self.known: dict[Case, bool] = {}

    def __call__(self, case: Case) -> bool:
        if case not in self.known:
            if len(self.known) >= TRIES:
                return False
            self.known[case] = self.fails(case)
        return self.known[case]


def _search(
    op: Op,
    dialect: str,
    failing: Case,
    budget: _Budget,
    seed: int,
    allowed: Mapping[str, Sequence[str]] | None,
) -> Case:
    strategy = case_strategy(op, dialect, limits=dict(failing.recipe.dims), allowed=allowed)
    quiet = settings(
        max_examples=DRAWS,
        database=None,
        deadline=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    with tempfile.TemporaryDirectory(prefix="quantassay-") as folder:
        configuration.set_hypothesis_home_dir(folder)  # its notes never reach the user's folder
        try:
            return find(strategy, budget, settings=quiet, random=Random(seed))
        except NoSuchExample:
            return failing
        finally:
            configuration.set_hypothesis_home_dir(None)


def _descend(
    op: Op,
    dialect: str,
    case: Case,
    budget: _Budget,
    allowed: Mapping[str, Sequence[str]] | None,
) -> Case:
    """Takes any simpler neighbour that still fails, until there is none."""
    while True:
        for candidate in _simpler(op, dialect, case.recipe):
            smaller = Case(fitted(candidate, allowed), case.options)
            if size(op, smaller) < size(op, case) and budget(smaller):
                case = smaller
                break
        else:
            return case


def _simpler(op: Op, dialect: str, made: Recipe) -> list[Recipe]:
    """One number changed: halved, one less, or the simplest; a few seeds at every size."""
    sizes, kinds = dict(made.dims), op.kinds_in(dialect)
    found = []
    for symbol, side in sizes.items():
        for less in sorted({1, side // 2, side - 1} - {0, side}):
            for seed in dict.fromkeys((made.seed, *range(SPARE_SEEDS))):
                smaller = {**sizes, symbol: less}
                found.append(recipe(made.kind, seed=seed, dtype=made.dtype, **smaller))
    for kind in [one for one in kinds if _rank(op, one) < _rank(op, made.kind)]:
        found.append(recipe(kind, seed=made.seed, dtype=made.dtype, **sizes))
    for seed in sorted({0, 1, made.seed // 2} - {made.seed}):
        found.append(recipe(made.kind, seed=seed, dtype=made.dtype, **sizes))
    return found
