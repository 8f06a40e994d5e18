"""A dialect is data: how one system computes what everybody calls "INT8 symmetric quantization".

Contract: a kernel is bit-exact only relative to one named dialect. Each field takes one of a
fixed tuple of words (dialect_fields.py); `Dialect.code(field)` is the word's index, which both
wings pass to their compilers, so that oracle and kernels branch on the same table. dialect_table.py
has the entries.

What holds in every dialect: divisions are IEEE's and subnormal results are kept, also where the
system's own code divides approximately (`division`); an infinite quotient becomes the clamp's end;
NaN outputs have the GPU's canonical bits (fp32 0x7fffffff, fp16 and bf16 0x7fff).
"""

from __future__ import annotations

from dataclasses import fields

from reference.dialect_fields import FIELDS, Dialect
from reference.dialect_table import DIALECTS

__all__ = ["CORE", "DIALECTS", "FIELDS", "Dialect", "dialect", "differences"]

# Dialects of whole chains of ops; the others quantize and do nothing else.
CORE = ("ieee", "vllm", "article_cuda", "article_torch")


def dialect(name: str) -> Dialect:
    """The dialect called `name`. Raises ValueError that lists the known ones."""
    try:
        return DIALECTS[name]
    except (KeyError, TypeError):
        raise ValueError(f"dialect: got {name!r}; allowed: {', '.join(DIALECTS)}") from None


def differences(a: str, b: str) -> dict[str, tuple[str, str]]:
    """The fields in which two dialects differ: field -> (a's word, b's word)."""
    first, second = dialect(a), dialect(b)
    return {
        field.name: (getattr(first, field.name), getattr(second, field.name))
        for field in fields(Dialect)
        if field.name in FIELDS and getattr(first, field.name) != getattr(second, field.name)
    }
