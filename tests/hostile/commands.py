"""Malformed command lines and files, made from the commands' own parameters.

Contract: `lines(app, folder)` yields (words, argument list): every option of every command with
values that cannot be right, every file with contents that cannot be used (`files` writes them into
`folder`), and lines with unknown words. Each ends in exit status 2. `EXCUSE` makes sure that none
starts work where the fault itself would be acceptable.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from tests.hostile.targets import PTX

Line = tuple[str, list[str]]
EXCUSE = {"check": ["--op", "nonsense"], "identify": ["--op", "nonsense"],
          "report": ["--device", "nonsense"]}  # fmt: skip
NUMBERS = ("x", "-1", "1.5", "", "nan", "-99999999999999999999999999")
WORDS = ("nonsense", "", "-", "\u00e4\U0001f600", "a" * 5000)
SOURCES = {
    "empty.py": b"",
    "comment.py": b"# nothing here\n",
    "binary.py": bytes(range(256)) * 8,
    "null.py": b"import os\0\n",
    "utf16.py": "import numpy\n".encode("utf-16"),
    "latin1.py": b"x = '\xe9'\n",
    "half.py": b"def quantize(x:\n",
    "tabs.py": b"if True:\n\tx = 1\n        y = 2\n",
    "raises.py": b"raise RuntimeError('two\\nlines')\n",
    "exits.py": b"raise SystemExit(0)\n",
    "missing_import.py": b"import no_such_package_anywhere\n",
    "circular_a.py": b"from circular_b import b\na = 1\n",
    "circular_b.py": b"from circular_a import a\nb = 1\n",
    "itself.py": b"from itself import x\nx = 1\n",
    "recursion.py": b"def f(): f()\nf()\n",
    "bad_op.py": b"import quantassay\n@quantassay.implements('no.op', wing='w')\ndef f(): pass\n",
    "bad_wing.py": b"import quantassay\n@quantassay.implements('int8.gemm')\ndef f(): pass\n",
    "bad_dialect.py": b"import quantassay\n@quantassay.implements('int8.gemm', wing='w', "
    b"dialects='ieee')\ndef f(): pass\n",
    "no_suffix": b"x = 1\n",
    "kernel.ptx": PTX[: len(PTX) // 2].encode(),
    "kernel.cu": b'extern "C" __global__ void k(float* x) { x[0] = ',
    "model.safetensors": b"\x10\0\0\0\0\0\0\0{not json",
    "tokenizer.json": b"{",
}


def files(folder: Path) -> None:
    """Writes the files that no command can use."""
    for name, content in SOURCES.items():
        (folder / name).write_bytes(content)
    (folder / "folder.py").mkdir()


def lines(app: typer.Typer, folder: Path) -> Iterator[Line]:
    """Every command line of this module."""
    command: Any = typer.main.get_command(app)
    for wrong in ("nonsense", "chekc", "--nonsense", "-x", "--json"):
        yield wrong, [wrong]
    for name, verb in command.commands.items():
        excuse = EXCUSE.get(name, [])
        for extra in ("surplus", "--nonsense", "--nonsense=1", "-q"):
            yield f"{name} {extra}", [name, *excuse, extra]
        if name not in EXCUSE:
            continue
        for option in verb.params:
            long = max((o for o in option.opts if o.startswith("--")), key=len, default="")
            if long and long != "--help":
                unread = [] if long == "--model" else excuse  # a device is looked at before
                every = 1 if name == "check" else 3  # the others read files by the same functions
                for words, more in _faults(option, long, folder, every):
                    yield f"{name} {words}", [name, *unread, *more]


def _faults(option: Any, long: str, folder: Path, every: int) -> Iterator[Line]:
    kind = _kind(option)
    if kind == "flag":
        yield f"{long}=x", [f"{long}=x"]
        return
    if long != "--json":  # which may stand alone
        yield f"{long} without a value", [long]
    if kind == "number":
        for value in NUMBERS:
            yield f"{long}={value!r}", [f"{long}={value}"]
    elif kind == "text":
        for value in WORDS:
            yield f"{long}={value[:20]!r}", [f"{long}={value}"]
    else:
        yield from _targets(long, folder, every)


def _kind(option: Any) -> str:
    if getattr(option, "is_flag", False):
        return "flag"
    known = vars(option)  # one of the two, as Typer's version has it
    words = f"{known.get('type_descriptor') or known.get('type')}".split("parameter_info")[0]
    if "Path" in words or "FILE" in str(option.metavar):
        return "file"
    if "bool" in words:
        return "flag"
    return "number" if "int" in words.lower() else "text"


def _targets(long: str, folder: Path, every: int) -> Iterator[Line]:
    if long in ("--json", "--out"):
        for place in ("folder.py/no/such/place.json", "comment.py/inside.json", "folder.py"):
            yield f"{long} {place}", [f"{long}={folder / place}"]
        return
    for name in (*list(SOURCES)[::every], ".", "folder.py", "missing.py", "missing/missing.py"):
        yield f"{long} {name}", [f"{long}={folder / name}"]
    yield f"{long} empty", [f"{long}="]
    yield f"{long} /dev/null", [f"{long}=/dev/null"]
    yield f"{long} a long name", [f"{long}={'a' * 5000}"]
