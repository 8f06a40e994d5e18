"""The house: packages lie in this checkout, imports run one way, files stay readable."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = (
    "reference",
    "emulator",
    "kernels_cupy",
    "kernels_numba",
    "roofline",
    "bench",
    "quantassay",
)
# Who may import whom: a room imports itself and these.
ALLOWED = {
    "reference": set(),
    "emulator": {"reference"},
    "kernels_cupy": {"reference", "emulator"},
    "kernels_numba": {"reference", "emulator"},
    "roofline": {"reference", "emulator", "kernels_cupy", "kernels_numba"},
    "bench": {"reference", "emulator", "kernels_cupy", "kernels_numba", "roofline"},
    "quantassay": {"reference", "emulator", "kernels_cupy", "kernels_numba", "roofline", "bench"},
}


def imports(path: Path) -> set[str]:
    """Top-level packages that a file imports, wherever in the file."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.split(".")[0])
    return found


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_lies_in_this_checkout(package: str) -> None:
    file = importlib.import_module(package).__file__
    assert file is not None
    assert Path(file).resolve().parent == ROOT / package
    assert (ROOT / package / "py.typed").exists()


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_run_one_way(package: str) -> None:
    for path in (ROOT / package).rglob("*.py"):
        foreign = (imports(path) & set(PACKAGES)) - {package} - ALLOWED[package]
        assert not foreign, f"{path.relative_to(ROOT)} imports {foreign}"


def test_a_scheme_has_the_same_file_name_in_every_room() -> None:
    schemes = {path.name for path in (ROOT / "reference").glob("int8_*.py")}
    for wing in ("kernels_cupy", "kernels_numba"):
        assert {path.name for path in (ROOT / wing).glob("int8_*.py")} == schemes


def test_every_file_opens_with_its_contract() -> None:
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            assert ast.get_docstring(ast.parse(path.read_text())), path
