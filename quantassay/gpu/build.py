"""Builds what the device run loads: every CUBIN of the CuPy wing for one GPU, audited.

Contract: `build` writes out/cubins (CUBINs and manifest) from `kernels_cupy.catalogue(full=True)`,
refuses to where the audit of any of them finds a spill, a missing 16-byte access or a missing
tensor instruction, and needs no GPU.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from kernels_cupy import catalogue
from kernels_cupy.compile import compiled, export
from quantassay.errors import UsageError
from quantassay.gpu.evidence import CUBINS, commit, manifest_digest

Progress = Callable[[int, int], None]


def configurations() -> list[tuple[str, dict[str, int]]]:
    """Every distinct (source, defines) that a launcher can ask for."""
    seen = {
        (entry.source, tuple(sorted(entry.defines.items()))): None for entry in catalogue(full=True)
    }
    return [(source, dict(defines)) for source, defines in seen]


def build(arch: str = "sm_90a", folder: Path = CUBINS, on_progress: Progress | None = None) -> str:
    """Compiles, audits and writes the CUBINs of `arch`; returns the manifest's digest.

    Raises UsageError with the audit's findings.
    """
    from roofline.audit import audit, problems

    wanted = configurations()
    for number, (source, defines) in enumerate(wanted, 1):
        compiled(source, defines, arch, "cubin")
        if on_progress is not None:
            on_progress(number, len(wanted))
    found = [words for row in audit((arch,), catalogue(full=True)) for words in problems(row)]
    if found:
        raise UsageError("the audit refuses these CUBINs:\n" + "\n".join(found))
    export(folder, wanted, (arch,))
    (folder / "commit").write_text(commit() + "\n")
    return manifest_digest(folder)
