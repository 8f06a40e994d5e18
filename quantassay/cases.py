"""The inputs that every kernel meets: the op's fixed hostile recipes, then seeded random ones.

Contract: `cases(op, dialect, examples=n, seed=s)` yields the same cases in the same order on every
machine with the same NumPy: all hostile recipes that the dialect accepts, GEMMs deep enough to
leave float32's integers (and int32 where the dialect wraps), then `n` drawn from `seed`. Options
other than the dialect (the output dtype) rotate over what is allowed. No random case is larger
than `LIMIT` elements of work, so that a case takes milliseconds in the emulator. With `sweep` come
the sizes that servers meet and kernels have broken at: every batch of 1 to 33 tokens, at hidden
sizes that are and are not multiples of 128.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from reference import approximate
from reference.dialects import dialect as get_dialect
from reference.numerics import RANGES, k_limit
from reference.op import Op, Recipe, recipe

# Sizes at which kernels break: one, and the neighbours of powers of two.
EDGES = (1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129, 255, 256, 257)
# Per symbol, others as K. Q groups of G elements, a batch of B, P panels of 8 columns.
LARGEST = {"M": 70, "N": 140, "K": 700, "Q": 9, "G": 260, "B": 4, "P": 17}
LIMIT = 1 << 19  # product of a case's sizes
# Hidden sizes: MiniLM's and Llama's, two that broke public kernels (sglang PR 8543), an odd one.
HIDDEN = (384, 1076, 1368, 4096, 771)
FEATURES = (384, 65, 7, 129, 33, 1)  # N of products, the first that keeps a case within SWEPT
SWEPT = 1 << 22
BATCHES = (*range(1, 34), 1, 33, 16, 17)  # M; the first ones again at other hidden sizes
SEEDS = 1 << 16


@dataclass(frozen=True)
class Case:
    """One input of an op and the options of the call, in words that can be repeated."""

    recipe: Recipe
    options: tuple[tuple[str, str], ...]

    def keywords(self) -> dict[str, str]:
        return dict(self.options)

    @property
    def shift(self) -> int:
        """Elements by which the inputs' memory is off a 16-byte boundary, as a slice's may be."""
        return 1 if self.recipe.seed % 4 == 3 else 0

    @property
    def order(self) -> int:
        """Seed of the order in which the emulator runs threads."""
        return self.recipe.seed

    def __str__(self) -> str:
        extra = [f"{name}={value}" for name, value in self.options if name != "dialect"]
        moved = ["inputs off a 16-byte boundary by one element"] if self.shift else []
        return ", ".join([str(self.recipe), *extra, *moved])


def cases(
    op: Op,
    dialect: str,
    *,
    examples: int,
    seed: int,
    sweep: bool = False,
    allowed: Mapping[str, Sequence[str]] | None = None,
) -> Iterator[Case]:
    """Hostile recipes, those of `swept` if asked for, then `examples` random ones.

    `allowed` narrows options, such as {"out_dtype": ("fp32",)} for a kernel that takes no other,
    under "dtype" the recipes' dtypes, and sizes and shifts as `fitted` has it.
    """
    turns = options_of(op, dialect, allowed)
    kinds, dtypes = op.kinds_in(dialect), dtypes_of(op, dialect, allowed)
    fixed = [*op.hostile, *(swept(op) if sweep else ())]
    fixed = [made for made in fixed if made.dtype in dtypes and made.kind in kinds]
    for number, made in enumerate(fixed):
        yield Case(fitted(made, allowed), turns[number % len(turns)])
    for made in _deep(op, dialect):  # in the finest output dtype, where a unit shows
        yield Case(fitted(made, allowed), turns[0])
    if "fp32" in dtypes:
        for made in _beside(op, dialect):
            yield Case(fitted(made, allowed), turns[0])
    rng = np.random.default_rng([seed, *op.name.encode()])
    for number in range(examples):
        drawn = fitted(_draw(op, dialect, rng, dtypes), allowed)
        yield Case(drawn, turns[number % len(turns)])


def fitted(made: Recipe, allowed: Mapping[str, Sequence[str]] | None) -> Recipe:
    """The recipe that a kernel's conditions let through: `allowed["K"]` of ("16",) raises K to a
    multiple of 16; where "shift" is there, the seed shifts no input.
    """
    given = allowed or {}
    if not given:
        return made
    steps = {symbol: int(given.get(symbol, ("1",))[0]) for symbol, _ in made.dims}
    sizes = {symbol: -(-side // steps[symbol]) * steps[symbol] for symbol, side in made.dims}
    seed = made.seed + 1 if "shift" in given and made.seed % 4 == 3 else made.seed
    return recipe(made.kind, seed=seed, dtype=made.dtype, **sizes)


def planned(op: Op, examples: int, sweep: bool) -> int:
    """About how many cases `cases` yields, for a progress bar."""
    return len(op.hostile) + examples + (len(BATCHES) if sweep else 0)


def swept(op: Op) -> list[Recipe]:
    """One recipe per batch size, hidden sizes, kinds and dtypes in turn."""
    return [
        recipe(
            op.kinds[turn % len(op.kinds)],
            seed=turn,
            dtype=op.dtypes[turn % len(op.dtypes)],
            **_served(op.dims, batch, HIDDEN[turn % len(HIDDEN)], turn),
        )
        for turn, batch in enumerate(BATCHES)
    ]


def _served(dims: Sequence[str], batch: int, hidden: int, turn: int) -> dict[str, int]:
    """An op's sizes for a batch of tokens and a hidden size."""
    group = next(size for size in (128, 269, 171, 257) if hidden % size == 0)
    sizes = {"K": hidden, "G": group, "Q": hidden // group, "B": 1 + turn % 3}
    rows = "M" if "M" in dims else dims[0]
    sizes = {symbol: sizes[symbol] for symbol in dims if symbol in sizes}
    sizes[rows] = batch
    wide = [symbol for symbol in dims if symbol not in sizes]  # N or P
    if wide and "K" not in sizes and "Q" not in sizes:
        return {**sizes, wide[0]: hidden}
    work = prod(sizes.values())
    turned = FEATURES[turn % len(FEATURES) :] + FEATURES
    for symbol in wide:
        count = next(n for n in turned if work * n <= SWEPT)
        sizes[symbol] = max(1, count // 8) if symbol == "P" else count
    return sizes


def _deep(op: Op, dialect: str) -> list[Recipe]:
    """Sums that leave float32's exact integers, and int32 where the dialect wraps."""
    summed = [arg for arg in op.inputs if "s8" in arg.dtypes and "K" in f"{arg.shape}"]
    if len(summed) < 2 or "saturating" not in op.kinds:
        return []
    sizes = {s: n for s, n in (("M", 2), ("N", 3), ("B", 2), ("P", 1)) if s in op.dims}
    found = [recipe("saturating", dtype="fp32", K=K, **sizes) for K in (1103, 2103)]
    if get_dialect(dialect).k_overflow == "wrap":
        K = k_limit(RANGES["s8"], RANGES["s8"]) + 18
        once = dict.fromkeys(sizes, 1)
        found.append(recipe("saturating", seed=1, dtype="fp32", K=K, **once))
    return found


def _beside(op: Op, dialect: str) -> list[Recipe]:
    """Products just beside what an approximate division allows, if the dialect's is."""
    if not approximate.concerns(op.name, dialect):
        return []
    sides = {"M": 8, "N": 8, "Q": 2, "G": 128}
    sizes = {symbol: sides.get(symbol, 256) for symbol in op.dims}
    return [recipe("beside_ties", seed=seed, dtype="fp32", **sizes) for seed in (0, 1)]


def options_of(
    op: Op, dialect: str, allowed: Mapping[str, Sequence[str]] | None = None
) -> list[tuple[tuple[str, str], ...]]:
    """Every combination of the op's options with this dialect, as keyword pairs."""
    combinations: list[tuple[tuple[str, str], ...]] = [()]
    for name, values in op.options.items():
        chosen = (dialect,) if name == "dialect" else (allowed or {}).get(name, values)
        combinations = [(*done, (name, value)) for done in combinations for value in chosen]
    return combinations


def dtypes_of(
    op: Op, dialect: str, allowed: Mapping[str, Sequence[str]] | None = None
) -> tuple[str, ...]:
    """The recipe dtypes that the dialect accepts, of those in `allowed["dtype"]` if it is there."""
    chosen = (allowed or {}).get("dtype", op.dtypes)
    return tuple(dtype for dtype in op.dtypes if dtype in chosen and op.allows(dtype, dialect))


def largest(symbol: str) -> int:
    return LARGEST.get(symbol, LARGEST["K"])


def _draw(op: Op, dialect: str, rng: np.random.Generator, dtypes: Sequence[str]) -> Recipe:
    sizes = {symbol: _size(rng, largest(symbol)) for symbol in op.dims}
    while prod(sizes.values()) > LIMIT:
        widest = max(sizes, key=lambda symbol: sizes[symbol])
        sizes[widest] //= 2
    kind = str(rng.choice(op.kinds_in(dialect)))
    dtype = str(rng.choice(dtypes))
    return recipe(kind, seed=int(rng.integers(SEEDS)), dtype=dtype, **sizes)


def _size(rng: np.random.Generator, bound: int) -> int:
    """An edge in half of the draws, else evenly spread over the orders of magnitude."""
    if rng.random() < 0.5:
        return int(rng.choice([edge for edge in EDGES if edge <= bound]))
    return int(np.exp(rng.uniform(0, np.log(bound + 1))))
