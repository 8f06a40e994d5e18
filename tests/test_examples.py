"""Every command of examples/*/README.md prints what the README says."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import pytest

NEEDS = {"torch": "torch", "triton": "triton"}  # folder -> the package without which it is skipped
EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
FOLDERS = sorted(path.parent.name for path in EXAMPLES.glob("*/README.md"))


def blocks() -> ModuleType:
    return importlib.import_module("tests.example_blocks")


def commands() -> list[object]:
    found = []
    for folder in FOLDERS:
        for number, one in enumerate(blocks().examples(EXAMPLES / folder / "README.md")):
            found.append(pytest.param(one, id=f"{folder}-{number}"))
    return found


@pytest.mark.parametrize("example", commands())
def test_the_readme_shows_what_is_printed(example: object) -> None:
    tool = blocks()
    assert isinstance(example, tool.Example)
    needed = NEEDS.get(example.folder.name)
    if needed:
        pytest.importorskip(needed)
    status, output = tool.run(example)
    anew = f"python -m tests.example_blocks --write {example.folder.name}"
    assert tool.comparable(output) == tool.comparable(example.expected), f"if it is meant: {anew}"
    assert status == example.status


def test_every_folder_is_in_the_index() -> None:
    index = (EXAMPLES / "README.md").read_text()
    there = sorted(path.name for path in EXAMPLES.iterdir() if path.is_dir())
    assert [name for name in there if f"]({name}/README.md)" not in index] == []
    assert set(FOLDERS) >= {"cuda", "ptx"}


def test_right_and_wrong_ones_are_shown() -> None:
    """Each language has a kernel that passes and one that does not."""
    for folder in ("cuda", "ptx"):
        found = blocks().examples(EXAMPLES / folder / "README.md")
        assert {one.status for one in found} >= {0, 1}
