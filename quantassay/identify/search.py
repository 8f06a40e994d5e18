"""Identifies a kernel: all dialects ranked, a changed word if none fits, the telling inputs."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from quantassay import devices
from quantassay.calling import Calling
from quantassay.errors import UsageError
from quantassay.identify.examples import Example, against, between
from quantassay.identify.finding import Finding
from quantassay.identify.hybrids import hybrids
from quantassay.identify.probes import Pool
from quantassay.identify.ranking import Run, Standing, run, standings
from reference.arguments import check_int, check_kind
from reference.op import Kernel, Op, get_op

EXAMPLES = 12
Pools = dict[Any, Pool]


def identify(
    kernel: Kernel,
    *,
    device: str = "auto",
    examples: int = EXAMPLES,
    seed: int = 0,
    pools: Pools | None = None,
    on_input: Callable[[int, int], None] | None = None,
) -> list[Finding]:
    """One finding per dialect= that the kernel is registered for, or one if it takes no dialect=.

    examples: random inputs beside the hostile and the built ones; pools: kept from kernel to
    kernel, so that an op's inputs are made once; on_input: hears (inputs done, inputs in all).
    Raises UsageError for an op without dialects, or a device that is unknown or not usable.
    """
    check_kind("kernel", kernel, Kernel, "a Kernel")
    check_int("examples", examples, 0)
    check_int("seed", seed, 0)
    op, place = get_op(kernel.op), devices.choose(device)
    if "dialect" not in op.options:
        raise UsageError(f"op: got {op.name}, which has no dialects; allowed: an op that has")
    found = []
    for spoken, named, calling in _callings(kernel, op):
        narrowed = {**calling.narrowed, **({"dtype": kernel.dtypes} if kernel.dtypes else {})}
        key = (op.name, tuple(sorted(narrowed.items())), examples, seed)
        pools = {} if pools is None else pools
        if key not in pools:
            pools[key] = Pool(op, narrowed, examples, seed)
        pool, runs = pools[key], []
        for number, probe in enumerate(pool.probes, 1):
            runs.append(run(calling, probe, place, spoken))
            if on_input is not None:
                on_input(number, len(pool.probes))
        one = _finding(kernel, spoken, calling, place, pool, runs)
        found.append(one if named else replace(one, passed_dialect=""))
    return found


def _callings(kernel: Kernel, op: Op) -> list[tuple[str, bool, Calling]]:
    """(what is passed as dialect=, whether that is worth saying, how the kernel is called).

    What a kernel is registered for does not matter unless it is told its dialect.
    """
    known = op.options["dialect"]
    some = [d for d in known if not kernel.dtypes or any(op.allows(t, d) for t in kernel.dtypes)]
    alone = Calling(replace(kernel, dialects=(some[0],)), op, some[0])
    if "dialect" not in alone.taken:
        return [("", False, alone)]
    named = _names_it(kernel.function) or len(kernel.dialects) > 1
    return [(name, named, Calling(kernel, op, name)) for name in kernel.dialects]


def _names_it(function: Callable[..., Any]) -> bool:
    """Whether the function has a parameter of the name, and not only **options."""
    try:
        return "dialect" in inspect.signature(function).parameters
    except (TypeError, ValueError):
        return False


def _finding(
    kernel: Kernel, spoken: str, calling: Calling, device: str, pool: Pool, runs: list[Run]
) -> Finding:
    ranked = standings(pool, runs)
    nearest = ranked[0]
    failed = [one for one in runs if one.raised]
    changed = []
    if nearest.total and not (nearest.fits and not nearest.allowed):
        changed = hybrids(pool, runs, ranked, bits_alone=nearest.fits)
    return Finding(
        op=kernel.op,
        wing=kernel.wing,
        variant=kernel.variant,
        passed_dialect=spoken,
        device=devices.name(device),
        inputs=len(runs),
        raised=len(failed),
        reason=failed[0].raised if failed else "",
        standings=tuple(ranked),
        alike=pool.alike(nearest.dialect),
        hybrids=tuple(changed),
        examples=tuple(_examples(spoken, calling, device, pool, runs, ranked)),
    )


def _examples(
    spoken: str,
    calling: Calling,
    device: str,
    pool: Pool,
    runs: list[Run],
    ranked: list[Standing],
) -> list[Example]:
    """Where the kernel differs from the nearest, if it does; what tells the best two apart."""
    nearest, found = ranked[0], []
    if not nearest.total:
        return []
    if not nearest.fits:
        found.append(against(pool, calling, device, spoken, nearest.dialect, runs))
    second = next((o for o in ranked[1:] if pool.apart(nearest.dialect, o.dialect)), None)
    if second is not None:
        pair = nearest.dialect, second.dialect
        found.append(between(pool, calling, device, spoken, *pair, runs))
    return [one for one in found if one is not None]
