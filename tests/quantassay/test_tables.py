"""README's generated table: it is what the registry says."""

from __future__ import annotations

import pytest

from quantassay import tables
from reference import DIALECTS, OPS
from reference.op import kernels


def test_the_readme_is_up_to_date() -> None:
    text = tables.README.read_text()
    assert tables.inserted(text, tables.table()) == text, "run `python -m quantassay.tables`"


def test_the_page_of_dialects_is_up_to_date() -> None:
    made = tables.dialect_page()
    assert tables.PAGE.read_text() == made, "run `python -m quantassay.tables`"
    for name, one in DIALECTS.items():
        assert f"\n## {name}\n" in made
        assert one.source in made


def test_the_table_names_every_op_and_variant() -> None:
    made = tables.table()
    for op in OPS.values():
        assert op.name in made or f"`{op.name.partition('.')[2]}`" in made
        assert f"(reference/{op.scheme}.py)" in made
    for kernel in kernels(wing="cupy"):
        assert kernel.variant in made


def test_a_readme_without_marks_is_refused() -> None:
    with pytest.raises(ValueError, match="README: got no"):
        tables.inserted("nothing", "table")
