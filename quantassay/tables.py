"""README's table of ops, wings and dialects and docs/dialects.md, made from what is registered.

Contract: `python -m quantassay.tables` rewrites docs/dialects.md and the lines between the two
marks in README.md; a test holds that they are what the registry says. Ops of one scheme with the
same variants and dialects share a row. "yes": the wing has the op in one form; names: its variants.
"""

from __future__ import annotations

from pathlib import Path

from quantassay.loading import load_wings
from reference.dialects import CORE, DIALECTS, FIELDS, Dialect
from reference.op import OPS, Op, kernels
from reference.storage import replace

README = Path(__file__).resolve().parent.parent / "README.md"
PAGE = README.parent / "docs" / "dialects.md"
BEGIN = "<!-- ops: made by `python -m quantassay.tables` -->"
END = "<!-- end of ops -->"
WINGS = {"cupy": "CuPy wing (CUDA C++)", "numba": "Numba wing"}
HEAD = ("scheme", "ops", *WINGS.values(), "dialects")

_HEAD = """# Dialects

Written by `python -m quantassay.tables` from reference/dialect_table.py. A kernel is bit-exact only
relative to one dialect: the arithmetic of one system. Each is named by its words; what a word means
stands beside it in reference/dialect_fields.py, and what the words leave unsaid of a system in its
entry. How far each agrees with the real package: [packages.md](packages.md)."""


def table() -> str:
    """The table in Markdown, without the marks."""
    load_wings()
    rows: dict[tuple[str, ...], list[str]] = {}
    for op in OPS.values():
        key = (op.scheme, *(variants(op, wing) for wing in WINGS), dialects(op))
        rows.setdefault(key, []).append(op.name)
    lines = [HEAD, ("---",) * len(HEAD)]
    for (scheme, *wings, spoken), names in rows.items():
        lines.append((f"[{scheme}](reference/{scheme}.py)", shortened(names), *wings, spoken))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def variants(op: Op, wing: str) -> str:
    """How a wing has an op: "", "yes" or its variants' names."""
    found = [kernel.variant for kernel in kernels(op=op.name, wing=wing)]
    named = [name for name in found if name]
    return ", ".join(named) if named else ("yes" if found else "no")


def dialects(op: Op) -> str:
    """The op's dialects; those of CORE as "core" where all of them are there."""
    names = op.options["dialect"]
    if not set(CORE) <= set(names):
        return ", ".join(names)
    return ", ".join(("core", *(name for name in names if name not in CORE)))


def dialect_page() -> str:
    """docs/dialects.md: every dialect, its source, its ops, and its words where ieee's differ."""
    parts = [_HEAD]
    for one in DIALECTS.values():
        ops = [name for name, op in OPS.items() if one.name in op.options["dialect"]]
        spoken = "every op" if len(ops) == len(OPS) else shortened(ops)
        parts.append(f"\n## {one.name}\n\n{one.title}.\n")
        parts.append(f"- Source: {one.source}.")
        parts.append(f"- Takes {', '.join(one.inputs)}. Speaks {spoken}.")
        words = _words(one, DIALECTS["ieee"])
        parts.append(f"- {words}." if words else "- The words that the others are compared with.")
        for family, _ in one.overrides:
            parts.append(f"- In the family {family}: {_words(one.under(family), one)}.")
    parts.append("\n## The words\n")
    for field, allowed in FIELDS.items():
        parts.append(f"- {field}: {', '.join(f'`{word}`' for word in allowed)}")
    return "\n".join(parts) + "\n"


def _words(one: Dialect, other: Dialect) -> str:
    """The fields in which they differ, with one's words."""
    changed = [f for f in FIELDS if getattr(one, f) != getattr(other, f)]
    return "; ".join(f"{field} `{getattr(one, field)}`" for field in changed)


def shortened(names: list[str]) -> str:
    """Op names, the family said once: "`int8.gemm`, `gemm_batched`"."""
    first, *rest = names
    family = first.partition(".")[0]
    return ", ".join(f"`{name}`" for name in (first, *(n.removeprefix(f"{family}.") for n in rest)))


def inserted(text: str, made: str) -> str:
    """A README with the table between its marks. Raises ValueError where a mark is missing."""
    if BEGIN not in text or END not in text:
        raise ValueError(f"README: got no {BEGIN!r} ... {END!r}; allowed: both, once")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{made}\n{END}{after}"


def main() -> None:
    """Rewrites README.md and docs/dialects.md."""
    replace(PAGE, dialect_page())
    replace(README, inserted(README.read_text(), table()))


if __name__ == "__main__":
    main()
