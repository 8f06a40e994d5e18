"""Figures of every kernel that are the same on every machine, and their history.

Contract: `figures(launches, ...)` sums what the emulator counted: instructions per element, bytes,
32-byte sectors and shared-memory wavefronts against their ideal, and the source lines that are
above it. `measure(kernel)` runs a kernel once on a fixed input. bench/counters.json holds the
figures of all kernels of the repository, as the pinned compilers make them; git keeps its history.

    python -m bench.counters            compares: one row per figure that changed; status 1 if any
    python -m bench.counters --write    measures and writes the file
"""

from __future__ import annotations

import importlib.metadata
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from emulator.recording import Launch, recording
from reference.op import Kernel, Op, Recipe, as_tuple, get_op, kernels, recipe

ROOT = f"{Path(__file__).resolve().parent.parent}/"
FILE = Path(__file__).with_name("counters.json")
COMPILERS = ("nvidia-cuda-nvrtc", "nvidia-nvvm", "numba-cuda", "llvmlite")
ROWS = {"M": 64, "N": 64, "K": 4096, "Q": 32, "G": 128, "P": 8}  # sizes of row kernels
PRODUCTS = {"M": 128, "N": 256, "K": 512, "Q": 4, "G": 128, "B": 2, "P": 32}
DECODE = {**PRODUCTS, "M": 8, "K": 1024}  # of kernels made for small M
SMALL_M = ("split_k", "packed", "weight_only")
LESS_IS_BETTER = ("instructions", "load_bytes", "store_bytes", "sectors", "wavefronts", "launches")


@dataclass(frozen=True)
class Waste:
    """One source line whose accesses move more than they must. Shared memory: `moved` are
    wavefronts, so that moved - ideal are bank conflicts; global memory: 32-byte sectors.
    """

    source: str
    memory: str
    requests: int
    moved: int
    ideal: int


@dataclass(frozen=True)
class Figures:
    """One call of one kernel, summed over its launches. A sector that two requests touch counts
    twice: the emulator has no cache. `ideal_bytes`: every input read once, every output written.
    """

    elements: int
    launches: int
    threads: int
    instructions: int
    tensor_instructions: int
    load_bytes: int
    store_bytes: int
    ideal_bytes: int
    sectors: int
    ideal_sectors: int
    wavefronts: int
    ideal_wavefronts: int
    waste: tuple[Waste, ...]

    @property
    def instructions_per_element(self) -> float:
        return self.instructions / self.elements


def figures(launches: Sequence[Launch], elements: int, ideal_bytes: int) -> Figures:
    """The sums over traced launches."""
    stats = [launch.stats for launch in launches]
    return Figures(
        elements=elements,
        launches=len(launches),
        threads=sum(int(np.prod(one.grid) * np.prod(one.block)) for one in launches),
        instructions=sum(one.instructions for one in stats),
        tensor_instructions=sum(_tensor(one.opcodes) for one in stats),
        load_bytes=sum(one.global_load_bytes for one in stats),
        store_bytes=sum(one.global_store_bytes for one in stats),
        ideal_bytes=ideal_bytes,
        sectors=sum(one.global_sectors for one in stats),
        ideal_sectors=sum(one.ideal_sectors for one in stats),
        wavefronts=sum(one.shared_wavefronts for one in stats),
        ideal_wavefronts=sum(one.shared_ideal_wavefronts for one in stats),
        waste=waste(stats),
    )


def _tensor(opcodes: Mapping[str, int]) -> int:
    """Tensor-core instructions of warps: every one of the 32 lanes is counted as executing one."""
    return sum(n for name, n in opcodes.items() if name.startswith(("mma", "wgmma"))) // 32


def waste(stats: Iterable[Any]) -> tuple[Waste, ...]:
    """Source lines above their ideal, the most wasteful first."""
    sums: dict[tuple[str, str], list[int]] = {}
    for line in (line for one in stats for line in one.source_lines()):
        where = line.source.replace(ROOT, "")
        shared = line.shared_requests, line.shared_wavefronts, line.shared_ideal_wavefronts
        memory = line.global_requests, line.global_sectors, line.ideal_sectors
        for kind, counts in (("shared", shared), ("global", memory)):
            total = sums.setdefault((where, kind), [0, 0, 0])
            total[:] = [old + new for old, new in zip(total, counts, strict=True)]
    found = [Waste(source, kind, *counts) for (source, kind), counts in sums.items()]
    above = [one for one in found if one.moved > one.ideal]
    return tuple(sorted(above, key=lambda one: (one.ideal - one.moved, one.source)))


def measure(kernel: Kernel) -> Figures:
    """Runs the kernel once, traced, on a fixed input of its op: fp16 where it may be, in dialect
    ieee if it speaks it. The output is not compared: tests/test_differential.py does that.
    """
    op = get_op(kernel.op)
    inputs = op.build(recipe_of(op, kernel))
    options = {name: values[0] for name, values in op.options.items()}
    options["dialect"] = "ieee" if "ieee" in kernel.dialects else kernel.dialects[0]
    if "out_dtype" in options:
        options["out_dtype"] = "fp16"
    with recording(trace=True) as session, np.errstate(all="ignore"):
        made = kernel.function(*(inputs[arg.name] for arg in op.inputs), **options)
    outputs = [np.asarray(one) for one in as_tuple(made)]
    arrays = [inputs[arg.name] for arg in op.arrays() if inputs[arg.name] is not None]
    moved = sum(array.nbytes for array in (*arrays, *outputs))
    return figures(session.launches, sum(array.size for array in outputs), moved)


def recipe_of(op: Op, kernel: Kernel) -> Recipe:
    """The fixed input: sizes that 16-byte accesses fit, few tokens where a kernel is for few."""
    products = len({"M", "N", "P", "B"} & set(op.dims)) > 1
    small = any(word in f"{op.name} {kernel.variant}" for word in SMALL_M)
    sizes = (DECODE if small else PRODUCTS) if products else ROWS
    dtype = "fp16" if "fp16" in op.dtypes else op.dtypes[0]
    return recipe("normal", seed=1, dtype=dtype, **{symbol: sizes[symbol] for symbol in op.dims})


def name_of(kernel: Kernel) -> str:
    """ "int8.gemm cupy/pipeline"."""
    return f"{kernel.op} {kernel.label}"


def measured(wings: Sequence[str] = ("cupy", "numba")) -> dict[str, Any]:
    """All figures of the wings' kernels and the compilers that made them, as JSON has them."""
    found = [kernel for wing in wings for kernel in kernels(wing=wing)]
    rows = {name_of(kernel): asdict(measure(kernel)) for kernel in found}
    plain = json.loads(json.dumps(rows))  # tuples become lists, as in the file
    return {"compilers": compilers(), "kernels": dict(sorted(plain.items()))}


def compilers() -> dict[str, str]:
    """Versions on which the PTX depends."""
    found = {}
    for name in COMPILERS:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "none"
    return found


@dataclass(frozen=True)
class Change:
    """One figure that is not what it was. verdict: "worse", "better", "changed", "new", "gone"."""

    kernel: str
    figure: str
    before: Any
    after: Any
    verdict: str


def compare(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Change]:
    """What differs between two files' "kernels"."""
    changes = []
    for name in sorted({*before, *after}):
        if name not in after:
            changes.append(Change(name, "", "", "", "gone"))
        elif name not in before:
            changes.append(Change(name, "", "", "", "new"))
        else:
            changes += _changes(name, before[name], after[name])
    return changes


def _changes(name: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Change]:
    found = []
    for figure in sorted({*before, *after} - {"waste"}):
        old, new = before.get(figure), after.get(figure)
        if old != new:
            verdict = "changed"
            if figure in LESS_IS_BETTER and old is not None and new is not None:
                verdict = "worse" if new > old else "better"
            found.append(Change(name, figure, old, new, verdict))
    return found


def main(arguments: Sequence[str]) -> int:
    """Compares, or with --write writes. Returns the exit status."""
    import kernels_cupy  # noqa: F401  registers its kernels
    import kernels_numba  # noqa: F401

    if list(arguments) not in ([], ["--write"]):
        print(f"bench.counters: got {' '.join(arguments)}; allowed: nothing or --write")
        return 2
    made = measured()
    if arguments:
        FILE.write_text(json.dumps(made, indent=1) + "\n")
        print(f"{len(made['kernels'])} kernels written to {FILE.name}")
        return 0
    kept = json.loads(FILE.read_text())
    if kept["compilers"] != made["compilers"]:
        print(f"the file was made by {kept['compilers']}; here: {made['compilers']}")
    changes = compare(kept["kernels"], made["kernels"])
    for one in changes:
        print(f"{one.verdict:8} {one.kernel}  {one.figure}  {one.before} -> {one.after}")
    print(f"{len(made['kernels'])} kernels, {len(changes)} figures differ")
    return 1 if changes else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
