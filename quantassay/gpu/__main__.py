"""`python -m quantassay.gpu [build | STAGE ...]`: see the package's docstring."""

from __future__ import annotations

import os
import shutil
import sys
import time
from pathlib import Path

from quantassay.devices import gpu_problem
from quantassay.errors import UsageError
from quantassay.gpu import evidence
from quantassay.gpu.build import build
from quantassay.gpu.stages import STAGES, carried_output


def run(stages: list[str]) -> int:
    """Runs the stages that have no result for these CUBINs; 1 if one found a wrong kernel."""
    unknown = [name for name in stages if name not in STAGES]
    if unknown:
        raise UsageError(f"stage: got {unknown[0]!r}; known: {', '.join(STAGES)}")
    problem = gpu_problem()
    if problem:
        raise UsageError(f"no GPU is usable here: {problem}")
    digest = evidence.manifest_digest()
    os.environ["QUANTASSAY_CUBINS"] = str(evidence.CUBINS)
    folder = evidence.EVIDENCE / evidence.gpu_folder(evidence.gpu_state()["name"])
    print(f"CUBINs {digest[:16]}, results in {folder}", flush=True)
    wrong = 0
    for name in stages or STAGES:
        path = folder / f"{name}.json"
        if evidence.is_done(path):
            print(f"{name}: done before", flush=True)
            continue
        start = time.perf_counter()
        result = STAGES[name]()
        evidence.write_json(path, evidence.record(name, result))
        for file in (path, *(evidence.ROOT / name for name in result.get("files", ()))):
            _carry(file)
        wrong += int(result.get("mismatches", 0))
        print(f"{name}: {time.perf_counter() - start:.0f} s", flush=True)
    return 1 if wrong else 0


def _carry(path: Path) -> None:
    """A copy into $OUT: a result comes back even if a later stage is cut off."""
    out = carried_output()
    if out:
        shutil.copy(path, Path(out) / path.name)


def main(arguments: list[str]) -> int:
    try:
        if arguments == ["build"]:
            digest = build(on_progress=_tell)
            print(f"\nCUBINs of digest {digest} in {evidence.CUBINS}")
            return 0
        return run(arguments)
    except (UsageError, FileNotFoundError) as error:
        print(f"quantassay.gpu: {error}", file=sys.stderr)
        return 2


def _tell(done: int, total: int) -> None:
    print(f"\r{done}/{total} compiled", end="", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
