"""What a .cu file holds for the host: launchers, main, includes that device code does not need.

Contract: NVRTC compiles device code only, nvcc both. `without(text)` replaces every function at
namespace level that has no `__global__`, `__device__`, `constexpr` or macro that may stand for
them by spaces, so that line numbers stay, and names what it left out. It is tried only on a file
that does not compile as it is. `missing(log)` is the header in <> that the compiler could not open.
"""

from __future__ import annotations

import re

_HIDDEN = re.compile(
    r'//[^\n]*|/\*.*?\*/|R"(\w*)\(.*?\)\1"|"(?:[^"\\\n]|\\.)*"|\'(?:[^\'\\\n]|\\.)*\'', re.S
)
_DIRECTIVE = re.compile(r"^[ \t]*#(?:[^\n\\]|\\.|\\\n)*", re.M)
_SCOPE = re.compile(r'\bnamespace\b|\bextern\s+"\s*C\s*"\s*$|\bextern\s*$')
_TYPE = re.compile(r"^\s*(?:template\s*<.*>\s*)?(?:typedef\s+)?(?:struct|class|union|enum)\b", re.S)
_DEVICE = re.compile(
    r"__global__|__device__|\bconstexpr\b|\bconcept\b"
    r"|\b[A-Z0-9_]*(?:DEVICE|GLOBAL|KERNEL|INLINE|FUNC|HD)[A-Z0-9_]*\b"  # macros that may be these
)
_NAMED = re.compile(r"([\w:~]+)\s*\(")
_MISSING = re.compile(r'cannot open source file "([^"]+)"\s*\n\s*#\s*include\s*<')


def missing(log: str) -> str:
    """The name in <> of a header that is not there, or ""."""
    found = _MISSING.search(log)
    return found[1] if found else ""


def without(text: str) -> tuple[str, list[str]]:
    """The text with its host functions blanked, and their names with their lines."""
    plain = _blanked(text)
    kept, left_out = list(text), []
    for start, open_at, end in _functions(plain):
        head = plain[start:open_at]
        if _DEVICE.search(head):
            continue
        named = _NAMED.findall(head)
        line = text.count("\n", 0, start + len(head) - len(head.lstrip())) + 1
        left_out.append(f"{named[0] if named else '?'} (line {line})")
        for place in range(start, end):
            if kept[place] != "\n":
                kept[place] = " "
    return "".join(kept), left_out


def kernels(text: str) -> list[str]:
    """Names of the `__global__` functions in a source, in order."""
    found = []
    for match in re.finditer(r"__global__\b", _blanked(text)):
        head = re.match(r"[^;{]*", _blanked(text)[match.end() :])
        plain = re.sub(r"__launch_bounds__\s*\([^()]*\)", "", head[0] if head else "")
        named = _NAMED.search(plain)
        if named:
            found.append(named[1])
    return list(dict.fromkeys(found))


def _blanked(text: str) -> str:
    """Comments, strings, characters and directives as spaces, lines kept."""

    def spaces(match: re.Match[str]) -> str:
        if match[0] == '"C"':
            return match[0]
        return re.sub(r"[^\n]", " ", match[0])

    return _DIRECTIVE.sub(spaces, _HIDDEN.sub(spaces, text))


def _functions(plain: str) -> list[tuple[int, int, int]]:
    """(start, opening brace, end) of every function at namespace level."""
    found: list[tuple[int, int, int]] = []
    start = place = 0
    while place < len(plain):
        char = plain[place]
        if char in ";}":
            start = place + 1
        elif char == "{":
            head = plain[start:place]
            if _SCOPE.search(head) and "(" not in head:
                start = place + 1
            else:
                end = _closing(plain, place)
                if end == 0:
                    return found
                is_function = "(" in head and "=" not in head.split("(")[0]
                if is_function and not _TYPE.match(head):
                    found.append((start, place, end))
                    start = end
                place = end - 1
        place += 1
    return found


def _closing(plain: str, place: int) -> int:
    """The position after the brace that closes the one at `place`; 0 if none does."""
    depth = 0
    for at in range(place, len(plain)):
        depth += (plain[at] == "{") - (plain[at] == "}")
        if depth == 0:
            return at + 1
    return 0
