"""The cache folder, and files that are replaced in one step.

Contract: compiled things are kept under $QUANTASSAY_CACHE; where that is unset or empty, under
~/.cache/quantassay. The folder is made when something is kept. Where it cannot be written, nothing
is kept on disk and results live in memory only: no error. `replace` writes to a name of its own
beside the file and renames, so that a reader never sees half a file.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path

VARIABLE = "QUANTASSAY_CACHE"


def cache_folder() -> Path:
    """Where results are kept; it may not be there yet, or not be writable."""
    chosen = os.environ.get(VARIABLE)
    if chosen:
        return Path(chosen)
    try:
        return Path.home() / ".cache" / "quantassay"
    except RuntimeError:  # no home: a folder that cannot be made
        return Path(os.devnull) / "quantassay"


def private_folder(name: str) -> Path | None:
    """A folder in the cache for machine code, made if missing; None where it is not writable, or
    not this user's: what lies there is executed.
    """
    folder = cache_folder() / name
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        ours = not hasattr(os, "getuid") or folder.stat().st_uid == os.getuid()
    except OSError:
        return None
    return folder if ours and os.access(folder, os.W_OK) else None


def replace(path: Path, data: bytes | str) -> None:
    """Give a file new content (text as UTF-8), whole or not at all. Raises OSError."""
    temporary = path.with_name(f".{path.name[:32]}-{secrets.token_hex(8)}")
    try:
        with temporary.open("xb") as file:
            file.write(data.encode() if isinstance(data, str) else data)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def keep(path: Path, data: bytes | str) -> bool:
    """`replace` in the cache, whose folder is made if missing; False where it cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace(path, data)
    except OSError:
        return False
    return True
