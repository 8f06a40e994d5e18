"""Evidence files: what was measured, on which machine, for which CUBINs.

Contract: one JSON file per stage under bench/evidence/<gpu>/, written whole or not at all. Each
holds the commit, the manifest's hash (a digest of every CUBIN's SHA-256), the device as the driver
names it, and versions. A file for other CUBINs or another commit does not count as done.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform
import re
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from reference.storage import replace

ROOT = Path(__file__).resolve().parent.parent.parent
EVIDENCE = ROOT / "bench" / "evidence"
CUBINS = ROOT / "out" / "cubins"
PACKAGES = ("numpy", "cupy-cuda13x", "cupy-cuda12x", "numba", "numba-cuda", "torch", "triton")
QUERY = "name,driver_version,clocks.sm,clocks.mem,clocks.max.sm,temperature.gpu,power.draw"


def write_json(path: Path, content: Any) -> None:
    """As JSON, in one step; makes the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    replace(path, json.dumps(content, indent=1, sort_keys=True) + "\n")


def manifest_digest(folder: Path = CUBINS) -> str:
    """SHA-256 over the SHA-256s of all carried CUBINs. Raises FileNotFoundError without a build."""
    path = folder / "manifest.json"
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is missing: run `make cubins` on the machine with the pinned compiler"
        )
    cubins = json.loads(path.read_text())["cubins"]
    parts = sorted(f"{key} {entry['sha256']}" for key, entry in cubins.items())
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def commit(folder: Path = CUBINS) -> str:
    """The checkout's commit, with "+" if files differ from it.

    A copy of the tree without git (a borrowed machine) takes the one that `build` noted beside the
    CUBINs; "unknown" if there is none.
    """
    words = ["git", "-C", str(ROOT)]
    try:
        head, state = (
            subprocess.run([*words, *rest], capture_output=True, text=True, check=True).stdout
            for rest in (("rev-parse", "HEAD"), ("status", "--porcelain"))
        )
    except (OSError, subprocess.CalledProcessError):
        noted = folder / "commit"
        return noted.read_text().strip() if noted.is_file() else "unknown"
    return head.strip() + ("+" if state.strip() else "")


def gpu_state() -> dict[str, str]:
    """The first GPU's name, driver, clocks, temperature and power, as nvidia-smi says them."""
    words = ["nvidia-smi", f"--query-gpu={QUERY}", "--format=csv,noheader", "-i", "0"]
    told = subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()
    return dict(zip(QUERY.split(","), (part.strip() for part in told.split(",")), strict=True))


def gpu_folder(name: str) -> str:
    """ "NVIDIA H200" -> "nvidia_h200"."""
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")


def versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def record(stage: str, result: Any) -> dict[str, Any]:
    """A stage's result with all that identifies its run."""
    return {
        "schema": 1,
        "stage": stage,
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "cubins": manifest_digest(),
        "gpu": gpu_state(),
        "versions": versions(),
        "result": result,
    }


def is_done(path: Path) -> bool:
    """Whether `path` holds a result for this commit and the CUBINs at hand."""
    if not path.is_file():
        return False
    found = json.loads(path.read_text())
    return bool(found.get("cubins") == manifest_digest() and found.get("commit") == commit())
