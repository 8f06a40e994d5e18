"""pytest plugin: a project's own tests check its kernels, in three lines.

    def test_mine(assay):
        assay(my_kernel, "int8.quantize_per_token", dialect="vllm")

Contract: a wrong kernel fails the test with an AssertionError that holds the smallest input found
and the reason; a right one returns the result. `@pytest.mark.assay(op=..., dialect=..., ...)` gives
defaults for the call, `--assay-examples N` the number of random inputs. Unknown names are errors
that list the known ones. Loading the plugin imports nothing but pytest.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from quantassay.results import CheckResult

EXAMPLES = 100
CHECK = ("examples", "seed", "sweep", "device")  # what check_kernel is told
# Words of the command line that may be repeated there, and their names in a Request.
SEVERAL = {
    "entry": "entries",
    "grid": "grids",
    "block": "blocks",
    "args": "args",
    "shared": "shared",
    "define": "defines",
    "include": "includes",
}
MARKER = (
    "assay(op, dialect, framework, dtypes, options, multiples, aligned, examples, seed, sweep, "
    "device): defaults of the assay fixture's calls in this test."
)


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("quantassay", "quantization kernels against their contract")
    group.addoption(
        "--assay-examples",
        type=_count,
        default=EXAMPLES,
        metavar="N",
        help=f"Random inputs of each assay, after the hostile ones (default: {EXAMPLES}).",
    )


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"got {text!r}; allowed: an integer >= 0")
    return int(text)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", MARKER)


@pytest.fixture
def assay(request: pytest.FixtureRequest) -> Assay:
    """Checks a kernel: `assay(function, op, dialect=...)`, `assay(cu="mine.cu", op=..., ...)`."""
    defaults: dict[str, Any] = {"examples": request.config.getoption("assay_examples")}
    for mark in reversed(list(request.node.iter_markers("assay"))):  # the closest one last
        for name, value in zip(("op", "dialect"), mark.args, strict=False):
            defaults[name] = value
        defaults.update(mark.kwargs)
    return Assay(defaults, request.path.parent)


class Assay:
    """The fixture's value. `defaults`: arguments that a call need not repeat; `folder`: where
    relative file names start."""

    def __init__(self, defaults: dict[str, Any], folder: Path) -> None:
        self.defaults, self.folder = defaults, folder

    def __repr__(self) -> str:
        return "<quantassay's assay>"  # pytest shows it in every failure

    def __call__(
        self,
        kernel: Callable[..., Any] | None = None,
        op: str | None = None,
        dialect: str | Sequence[str] | None = None,
        **more: Any,
    ) -> CheckResult | list[CheckResult]:
        """The result of checking a kernel (a list of them for several dialects).

        kernel: a NumPy, torch, Numba or Triton function that takes the op's inputs and returns its
        outputs; or in its place cu= or ptx= with a file name and the words of `quantassay check`:
        entry, grid, block, args, shared, define, include, arch, fmad, cooperative.
        more: framework, dtypes, options (a dict of names and values), multiples (a dict of sizes
        and what they are multiples of), aligned, examples, seed, sweep, device.
        Raises AssertionError if it is wrong, UsageError or TypeError for arguments that cannot be
        used.
        """
        __tracebackhide__ = True
        named = {"op": op, "dialect": dialect}
        given = {**self.defaults, **{k: v for k, v in named.items() if v is not None}, **more}
        missing = [name for name in named if name not in given]
        if missing:
            raise TypeError(f"assay: {' and '.join(missing)} is missing; {MARKER}")
        spoken = given.pop("dialect")
        dialects = (spoken,) if isinstance(spoken, str) else tuple(spoken)
        results = self._results(kernel, given.pop("op"), dialects, given)
        wrong = [result for result in results if not result.passed]
        if wrong:
            raise AssertionError("\n\n".join(map(_words, wrong)))
        return results[0] if isinstance(spoken, str) else results

    def _results(
        self, kernel: Any, op: str, dialects: tuple[str, ...], given: dict[str, Any]
    ) -> list[CheckResult]:
        __tracebackhide__ = True
        from quantassay.engine import check_kernel

        check = {name: given.pop(name) for name in CHECK if name in given}
        aligned = bool(given.pop("aligned", False))
        multiples = _multiples(op, given.pop("multiples", {}))
        results = []
        for dialect in dialects:
            made = self._kernel(kernel, op, (dialect,), dict(given))
            made = replace(made, multiples=multiples, aligned=aligned)
            results.append(check_kernel(made, dialect, **check))
        return results

    def _kernel(
        self, kernel: Any, op: str, dialects: tuple[str, ...], given: dict[str, Any]
    ) -> Any:
        __tracebackhide__ = True
        sources = [name for name in ("cu", "ptx") if name in given]
        if len(sources) + (kernel is not None) != 1:
            raise TypeError("assay: got no kernel, or several; allowed: a function, cu= or ptx=")
        options = {name: _tuple(value) for name, value in dict(given.pop("options", {})).items()}
        dtypes = _tuple(given.pop("dtypes", ()))
        if kernel is not None:
            from quantassay.frameworks import kernel_of

            pairs = tuple(options.items())
            return kernel_of(kernel, op, dialects, dtypes=dtypes, options=pairs, **given)
        from quantassay.foreign import Request, load

        file = self.folder / given.pop(sources[0])
        words: dict[str, Any] = {
            SEVERAL.get(name, name): _tuple(value) if name in SEVERAL else value
            for name, value in given.items()
        }
        values = tuple(f"{name}={value}" for name, chosen in options.items() for value in chosen)
        ptx = sources == ["ptx"]
        return load(Request(file, ptx, op, dialects, dtypes=dtypes, options=values, **words))


def _tuple(value: Any) -> tuple[Any, ...]:
    return (value,) if isinstance(value, (str, Path)) else tuple(value)


def _multiples(op: str, given: Mapping[str, int]) -> tuple[tuple[str, int], ...]:
    __tracebackhide__ = True
    from reference import get_op

    dims = get_op(op).dims
    for name, number in given.items():
        if name not in dims or not isinstance(number, int) or number < 1:
            raise ValueError(
                f"multiples: got {name!r}: {number!r}; allowed: integers >= 1 for {', '.join(dims)}"
            )
    return tuple(given.items())


def _words(result: CheckResult) -> str:
    """A failure as the command line shows it."""
    head = f"{result.op} {result.label}, dialect {result.dialect}: WRONG on {result.device}"
    shown = [f"smallest input: {example}" for example in result.counterexamples]
    return "\n".join([head, *shown, *(f"note: {text}" for text in result.notes)])
