"""README's table of ops, wings and dialects, made from what is registered.

Contract: `python -m quantassay.tables` rewrites the lines between the two marks in README.md; a
test holds that they are what the registry says. Ops of one scheme with the same variants and
dialects share a row. "yes": the wing has the op in one form; names: its variants.
"""

from __future__ import annotations

from pathlib import Path

from quantassay.loading import load_wings
from reference.dialects import DIALECTS
from reference.op import OPS, Op, kernels
from reference.storage import replace

README = Path(__file__).resolve().parent.parent / "README.md"
BEGIN = "<!-- ops: made by `python -m quantassay.tables` -->"
END = "<!-- end of ops -->"
WINGS = {"cupy": "CuPy wing (CUDA C++)", "numba": "Numba wing"}
HEAD = ("scheme", "ops", *WINGS.values(), "dialects")


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
    """The op's dialects, or "all"."""
    names = op.options["dialect"]
    return "all" if set(names) == set(DIALECTS) else ", ".join(names)


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
    """Rewrites README.md."""
    replace(README, inserted(README.read_text(), table()))


if __name__ == "__main__":
    main()
