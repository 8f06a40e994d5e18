"""What a command line says of a user's kernels, checked as far as words can be.

Contract: `plans(request, ...)` gives one `Plan` per entry: grid, block and shared memory as
formulas, the argument list as items. Raises UsageError that names the option, what was got and
what is known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path

from quantassay.errors import UsageError
from quantassay.foreign import grammar, host_code
from quantassay.foreign.formulas import Formula, formulas
from quantassay.foreign.grammar import Item, parse, pointers
from reference.op import OPS, Op

MAX_THREADS = 1024


@dataclass(frozen=True)
class Request:
    """What the command line says. file: a .cu, or with `ptx` a PTX file. Several entries are
    launched one after another; grids, blocks and shared: one for all, or one for each."""

    file: Path
    ptx: bool
    op: str
    dialects: tuple[str, ...]
    entries: tuple[str, ...] = ()
    grids: tuple[str, ...] = ()
    blocks: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    defines: tuple[str, ...] = ()
    includes: tuple[Path, ...] = ()
    shared: tuple[str, ...] = ()
    arch: str = "sm_80"
    fmad: bool = True
    fast_math: bool = False
    cooperative: bool = False
    dtypes: tuple[str, ...] = ()
    options: tuple[str, ...] = ()

    @property
    def option(self) -> str:
        return "--ptx" if self.ptx else "--cu"


@dataclass(frozen=True)
class Plan:
    """One launch of every call."""

    entry: str
    grid: tuple[Formula, ...]
    block: tuple[Formula, ...]
    shared: Formula | None
    items: tuple[Item, ...]


def op_of(name: str) -> Op:
    """Raises UsageError that lists the ops."""
    if name not in OPS:
        raise UsageError(f"--op: got {name!r}; known: {', '.join(sorted(OPS))}")
    return OPS[name]


def defines_of(request: Request) -> dict[str, str]:
    """Macros by name; one without a value is 1, as for a compiler."""
    found = {}
    for text in request.defines:
        name, equal, value = text.partition("=")
        if not name.isidentifier():
            raise UsageError(f"--define: got {text!r}; allowed: NAME or NAME=VALUE")
        found[name] = value if equal else "1"
    return found


def plans(request: Request, op: Op, defines: Mapping[str, str], text: str) -> tuple[Plan, ...]:
    """One plan per launch. defines: as `defines_of` gives them; text: the file's."""
    there = [] if request.ptx else host_code.kernels(text)
    entries = request.entries or (tuple(there) if len(there) == 1 else ("",))
    if not request.ptx and entries == ("",):
        listed = ", ".join(there) or "none"
        raise UsageError(f"--entry: say which; __global__ functions of {request.file}: {listed}")
    numbers = integers(defines)
    names = (*grammar.sizes(op), *numbers)
    grids = _each("--grid", request.grids, len(entries), "M")
    blocks = _each("--block", request.blocks, len(entries), "256")
    args = _each("--args", request.args, len(entries), "x, codes, scales, M, K")
    shared = _each("--shared", request.shared or ("0",), len(entries), "K * 4")
    found = []
    for entry, grid, block, arg, size in zip(entries, grids, blocks, args, shared, strict=True):
        sides = formulas(grid, "--grid", 3), formulas(block, "--block", 3)
        _check_block(sides[1], numbers)
        memory = formulas(size, "--shared", 1)[0]
        for one in (*sides[0], *sides[1], memory):
            one.check_names(names)
        found.append(Plan(entry, *sides, memory, parse(arg, op, numbers)))
    given = {one.name for plan in found for one in pointers(plan.items)}
    missing = [arg.name for arg in op.outputs if arg.name not in given]
    if missing:
        raise UsageError(
            f"--args: nothing is given for {', '.join(missing)}, of {op.name}'s outputs "
            f"{', '.join(op.output_names())}"
        )
    return tuple(found)


def _each(option: str, given: Sequence[str], count: int, example: str) -> tuple[str, ...]:
    if not given:
        raise UsageError(f'{option} is missing; such as {option} "{example}"')
    if len(given) not in (1, count):
        raise UsageError(f"{option}: got {len(given)} for {count} entries; allowed: 1 or {count}")
    return tuple(given) * (count if len(given) == 1 else 1)


def _check_block(block: Sequence[Formula], numbers: Mapping[str, int]) -> None:
    """Of a block that is the same for all inputs."""
    if not all(set(one.names) <= set(numbers) for one in block):
        return
    try:
        sides = [one.value(numbers) for one in block]
    except ZeroDivisionError:
        raise UsageError(f"--block: {block[0].text!r} divides by 0") from None
    if min(sides) < 1 or prod(sides) > MAX_THREADS:
        raise UsageError(
            f"--block: got {', '.join(map(str, sides))}; allowed: sides from 1, in all up to "
            f"{MAX_THREADS} threads"
        )


def integers(defines: Mapping[str, str]) -> dict[str, int]:
    """The macros whose value is an integer: formulas may use them."""
    found = {}
    for name, value in defines.items():
        try:
            found[name] = int(value, 0)
        except ValueError:
            continue
    return found
