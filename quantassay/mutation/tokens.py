"""CUDA C++ text as tokens, enough of it to find what can be changed.

Contract: comments and preprocessor lines are left out; strings are one token. `Tokens` knows which
bracket closes which, and where statements begin. It relies on the repository's clang-format style:
a binary operator has blanks on both sides, a pointer, a reference or a template bracket has not.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_TOKEN = re.compile(
    r"""(?P<skip>\s+|//[^\n]*|/\*.*?\*/)
    |(?P<string>"(?:\\.|[^"\\])*")
    |(?P<number>0[xX][\da-fA-F]*\.?[\da-fA-F]+(?:[pP][+-]?\d+[fF]?|[uUlL]*)|(?:\d+\.\d*|\.\d+|\d+)(?:[eE][+-]?\d+)?[fFuUlL]*)
    |(?P<word>[A-Za-z_]\w*)
    |(?P<sign><<=|>>=|<<|>>|<=|>=|==|!=|&&|\|\||\+\+|--|->|::|[-+*/%&|^]=|\.\.\.|.)""",
    re.X | re.S,
)
_DIRECTIVE = re.compile(r"^[ \t]*#(?:[^\n]*\\\n)*[^\n]*", re.M)
PAIRS = {"(": ")", "[": "]", "{": "}"}
HEADS = ("if", "for", "while", "switch")


@dataclass(frozen=True)
class Token:
    """One token: its text, its kind ("word", "number", "string", "sign") and place."""

    text: str
    kind: str
    start: int
    end: int


class Tokens:
    """The tokens of a source, with `partner[i]`: the index of the bracket that belongs to i."""

    def __init__(self, source: str) -> None:
        self.source = source
        blank = _DIRECTIVE.sub(lambda found: " " * len(found[0]), source)
        self.all = [
            Token(found[0], str(found.lastgroup), found.start(), found.end())
            for found in _TOKEN.finditer(blank)
            if found.lastgroup != "skip"
        ]
        self.partner: dict[int, int] = {}
        stack: list[int] = []
        for i, token in enumerate(self.all):
            if token.text in PAIRS:
                stack.append(i)
            elif token.text in PAIRS.values() and stack:
                opened = stack.pop()
                self.partner[opened], self.partner[i] = i, opened

    def __len__(self) -> int:
        return len(self.all)

    def text(self, i: int) -> str:
        """Text of token i; "" beyond the ends."""
        return self.all[i].text if 0 <= i < len(self.all) else ""

    def kind(self, i: int) -> str:
        return self.all[i].kind if 0 <= i < len(self.all) else ""

    def between(self, first: int, last: int) -> str:
        """The source from token `first` to token `last`, both included."""
        return self.source[self.all[first].start : self.all[last].end]

    def spaced(self, i: int) -> bool:
        """Whether token i has blanks on both sides, as a binary operator has."""
        token = self.all[i]
        before = self.source[token.start - 1 : token.start]
        after = self.source[token.end : token.end + 1]
        return before.isspace() and after.isspace()

    def operand_before(self, i: int) -> bool:
        """Whether token i - 1 ends an operand, so that token i is a binary operator."""
        return self.kind(i - 1) in ("word", "number") or self.text(i - 1) in (")", "]")

    def closes_head(self, i: int) -> bool:
        """Whether token i is the bracket that ends `if (...)`, `for (...)` or the like."""
        opened = self.partner.get(i)
        if self.text(i) != ")" or opened is None:
            return False
        before = self.text(opened - 1)
        return before in HEADS or (before == "constexpr" and self.text(opened - 2) == "if")

    def begins_statement(self, i: int) -> bool:
        """Whether a statement may begin at token i."""
        before = self.text(i - 1)
        return before in ("", ";", "{", "}", "else") or self.closes_head(i - 1)

    def end_of_statement(self, i: int) -> int | None:
        """Index of the ";" that ends a simple statement that begins at i; None if none does."""
        while i < len(self.all):
            text = self.text(i)
            if text == ";":
                return i
            if text in PAIRS:
                i = self.partner.get(i, len(self.all))
            elif text in PAIRS.values():
                return None
            i += 1
        return None

    def arguments(self, opened: int) -> list[str]:
        """The texts between a bracket's commas."""
        closed, found, first = self.partner[opened], [], opened + 1
        i = opened + 1
        while i < closed:
            if self.text(i) == "," and i > first:
                found.append(self.between(first, i - 1))
                first = i + 1
            i = self.partner[i] + 1 if self.text(i) in PAIRS and i in self.partner else i + 1
        if closed > first:
            found.append(self.between(first, closed - 1))
        return found
