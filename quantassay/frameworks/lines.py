"""Line information of compiled PTX: the user's own files by their path from here.

Contract: `near(ptx)` is the same PTX, except that a `.file` below the current folder is named
relative to it, so that the emulator's findings are short and the same on every machine.
"""

from __future__ import annotations

import re
from pathlib import Path

_FILE = re.compile(r'^(\s*\.file\s+\d+\s+")([^"\n]+)(")', re.M)


def near(ptx: str) -> str:
    """The PTX with short file names."""
    here = f"{Path.cwd()}/"
    return _FILE.sub(lambda found: f"{found[1]}{found[2].removeprefix(here)}{found[3]}", ptx)
