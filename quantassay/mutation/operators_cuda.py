"""What can be changed in a CUDA C++ source of ours.

Contract: `edits(source)` yields every edit that the operators below make, in no order. Comments,
preprocessor lines, static_assert, launch bounds, alignments and template heads stay as they are.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np

from quantassay.mutation.mutant import Edit
from quantassay.mutation.tokens import Tokens

ARITHMETIC = {
    "+": "-", "-": "+", "*": "+", "/": "*", "%": "/", "<<": ">>", ">>": "<<", "&": "|", "|": "&",
    "^": "|", "+=": "-=", "-=": "+=", "|=": "&=", "&=": "|=", "^=": "|=", "<<=": ">>=",
    ">>=": "<<=", "/=": "*=", "*=": "/=",
}  # fmt: skip
COMPARISON = {
    "<": ("<=", ">="), "<=": ("<", ">"), ">": (">=", "<="), ">=": (">", "<"), "==": ("!=",),
    "!=": ("==",), "&&": ("||",), "||": ("&&",),
}  # fmt: skip
EXTREMES = {
    "min": "max", "max": "min", "fminf": "fmaxf", "fmaxf": "fminf", "atomicMax": "atomicMin",
    "atomicMin": "atomicMax", "__reduce_max_sync": "__reduce_min_sync",
}  # fmt: skip
SWAPS = {"M": "N", "N": "M", "m": "n", "n": "m", "row": "column", "column": "row"}
AXES = {"x": "y", "y": "x"}
INDICES = ("threadIdx", "blockIdx", "blockDim", "gridDim")
UNTOUCHED = ("static_assert", "__launch_bounds__", "__align__")
BARRIERS = ("__syncthreads", "__syncwarp", "__threadfence")
NO_CALL = ("return", "if", "for", "while", "else", "using", "template", "struct", "enum", "case",
           "namespace", "typedef", "static_assert", "extern", "goto", "default", "do", "switch",
           "const", "constexpr", "static", "volatile", "typename", "delete", "new",
           "public", "private")  # fmt: skip
_ROUNDED = re.compile(r"__\w+?_(rn|rd|rz|ru)(_ftz)?$")
_INTEGER = re.compile(r"(0[xX][\da-fA-F]+|\d+)([uUlL]*)$")
_HEXADECIMAL = re.compile(r"(0[xX][\da-fA-F]*\.?[\da-fA-F]+[pP][+-]?\d+)f$")
_FLOAT = re.compile(r"([\d.]+(?:[eE][+-]?\d+)?)([fF]?)$")


def edits(source: str) -> Iterator[Edit]:
    """Every edit of a source text."""
    tokens = Tokens(source)
    left_out = _untouched(tokens)
    for i in range(len(tokens)):
        if i in left_out:
            continue
        kind = tokens.kind(i)
        if kind == "sign":
            yield from _sign(tokens, i)
        elif kind == "number":
            yield from _number(tokens, i)
        elif kind == "word":
            yield from _word(tokens, i)
        elif ".rn." in tokens.text(i):
            yield _replace(tokens, i, "rounding", tokens.text(i).replace(".rn.", ".rz.", 1))
        if tokens.begins_statement(i):
            yield from _statement(tokens, i)


def _untouched(tokens: Tokens) -> set[int]:
    found: set[int] = set()
    for i in range(len(tokens)):
        if tokens.text(i) in UNTOUCHED and tokens.text(i + 1) == "(":
            found.update(range(i, tokens.partner[i + 1] + 1))
        if tokens.text(i) == "template" and tokens.text(i + 1) == "<":
            depth, at = 0, i + 1
            while at < len(tokens):
                depth += {"<": 1, ">": -1}.get(tokens.text(at), 0)
                if depth == 0:
                    break
                at += 1
            found.update(range(i, at + 1))
    return found


def _replace(tokens: Tokens, i: int, operator: str, after: str) -> Edit:
    token = tokens.all[i]
    return Edit(token.start, token.end, operator, after)


def _span(tokens: Tokens, first: int, last: int, operator: str, after: str) -> Edit:
    return Edit(tokens.all[first].start, tokens.all[last].end, operator, after)


def _sign(tokens: Tokens, i: int) -> Iterator[Edit]:
    text = tokens.text(i)
    if tokens.spaced(i) and tokens.operand_before(i):
        if text in ARITHMETIC:
            yield _replace(tokens, i, "arithmetic", ARITHMETIC[text])
        for after in COMPARISON.get(text, ()):
            yield _replace(tokens, i, "comparison", after)
    elif text in ("-", "!", "~") and not tokens.operand_before(i):
        yield _replace(tokens, i, "negation", "")
    if text == "[":
        yield from _index(tokens, i)
    if text == "?":
        yield from _ternary(tokens, i)
    if text == "=" and tokens.text(i + 1) == "{" and tokens.text(i + 2) == "}":
        yield _span(tokens, i, i + 2, "initialisation", "")


def _number(tokens: Tokens, i: int) -> Iterator[Edit]:
    text = tokens.text(i)
    if found := _INTEGER.match(text):
        value, suffix = int(found[1], 0), found[2]
        for other in sorted({value + 1, value - 1, 0} - {value}):
            if other < 0 or (suffix.lower() == "u" and other > 0xFFFFFFFF):
                continue
            yield _replace(tokens, i, "constant", f"{other}{suffix}")
    elif found := _HEXADECIMAL.match(text):
        near = np.nextafter(np.float32(float.fromhex(found[1])), np.float32(np.inf))
        for words in (float(near).hex(), "0x0p0"):
            yield _replace(tokens, i, "constant", f"{words}f")
    elif found := _FLOAT.match(text):
        real = float(found[1])
        for number in sorted({real + 1.0, 0.0} - {real}):
            yield _replace(tokens, i, "constant", f"{number!r}{found[2]}")


def _word(tokens: Tokens, i: int) -> Iterator[Edit]:
    text, following = tokens.text(i), tokens.text(i + 1)
    if text in ("true", "false"):
        yield _replace(tokens, i, "constant", "false" if text == "true" else "true")
    if _ROUNDED.match(text) and following == "(":
        for mode in ("rz", "ru"):
            yield _replace(
                tokens, i, "rounding", re.sub(r"_(rn|rd|rz|ru)(?=$|_)", f"_{mode}", text)
            )
    if text == "__fmaf_rn" and following == "(":
        arguments = tokens.arguments(i + 1)
        if len(arguments) == 3:
            a, b, c = arguments
            whole = f"__fadd_rn(__fmul_rn({a}, {b}), {c})"
            yield _span(tokens, i, tokens.partner[i + 1], "rounding", whole)
    if text in EXTREMES and following == "(":
        yield _replace(tokens, i, "min/max", EXTREMES[text])
    if text.startswith("atomic") and following == "(":
        yield from _atomic(tokens, i)
    if text in AXES and tokens.text(i - 1) == "." and tokens.text(i - 2) in INDICES:
        yield _replace(tokens, i, "axis", AXES[text])
    elif text in SWAPS and tokens.text(i - 1) not in (".", "->") and not _declares(tokens, i):
        yield _replace(tokens, i, "axis", SWAPS[text])
    if text in ("if", "while") and following in ("(", "constexpr"):
        opened = i + 1 if following == "(" else i + 2
        inner = tokens.between(opened + 1, tokens.partner[opened] - 1)
        whole = f"(!({inner}))"
        yield _span(tokens, opened, tokens.partner[opened], "condition", whole)


def _declares(tokens: Tokens, i: int) -> bool:
    """Whether the word i is being declared: a type stands before it."""
    before = tokens.text(i - 1)
    if tokens.kind(i - 1) == "word":
        return before not in ("return", "else", "case")
    return before in ("*", "&", ">") and not tokens.spaced(i - 1)


def _atomic(tokens: Tokens, i: int) -> Iterator[Edit]:
    arguments = tokens.arguments(i + 1)
    if len(arguments) == 2:
        to, value = arguments
        stored = f"(*({to}) = ({value}))"
        yield _span(tokens, i, tokens.partner[i + 1], "atomic", stored)


def _index(tokens: Tokens, i: int) -> Iterator[Edit]:
    closed = tokens.partner.get(i)
    if closed is None or closed == i + 1 or not tokens.operand_before(i):
        return
    base = i - 1
    while tokens.text(base) == "]":
        base = tokens.partner[base] - 1
    if tokens.kind(base) != "word" or tokens.text(base) in ("int", "float", "unsigned"):
        return
    if tokens.text(base - 1) == "," and _in_declaration(tokens, base):
        return
    if _declares(tokens, base):
        return
    inner = tokens.between(i + 1, closed - 1)
    yield _span(tokens, i, closed, "index", f"[{inner} + 1]")


def _in_declaration(tokens: Tokens, i: int) -> bool:
    """Whether the word i is a further name of a declaration such as `int a[3], b[4];`."""
    while i > 0 and tokens.text(i) not in (";", "{", "}", "(", "="):
        i = tokens.partner[i] - 1 if tokens.text(i) in (")", "]") else i - 1
    return tokens.text(i) in (";", "{", "}") and _declares(tokens, i + 2)


def _ternary(tokens: Tokens, i: int) -> Iterator[Edit]:
    first = i - 1
    while first > 0:
        text = tokens.text(first)
        if text in (")", "]", "}") and first in tokens.partner:
            first = tokens.partner[first] - 1
            continue
        if text in ("(", "[", "{", "=", ",", "return", ";", "?", ":", "|=", "+="):
            break
        first -= 1
    if first + 1 < i:
        inner = tokens.between(first + 1, i - 1)
        yield _span(tokens, first + 1, i - 1, "condition", f"!({inner})")


def _statement(tokens: Tokens, i: int) -> Iterator[Edit]:
    end = tokens.end_of_statement(i)
    if end is None:
        return
    text = tokens.text(i)
    if text in ("return", "continue", "break") and end == i + 1:
        yield _span(tokens, i, end, "statement removed", ";")
    elif text == "asm" or (text not in NO_CALL and _acts(tokens, i, end)):
        waits = text == "asm" and "cp.async" in tokens.between(i, end)
        barrier = text in BARRIERS or waits
        yield _span(tokens, i, end, "barrier removed" if barrier else "statement removed", ";")


def _acts(tokens: Tokens, i: int, end: int) -> bool:
    """Whether a statement assigns or calls, and declares nothing."""
    at = i
    while at < end:
        text = tokens.text(at)
        if tokens.kind(at) == "word" and at > i and _declares(tokens, at):
            return False
        if text == "=" or (text in ARITHMETIC and text.endswith("=")):
            return True
        if text in ("++", "--"):
            return True
        if text == "(" and tokens.partner[at] == end - 1:
            return True
        at = tokens.partner[at] + 1 if text in ("(", "[") else at + 1
    return False
