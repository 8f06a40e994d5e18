"""The one kernel that the options of a command line describe, if they describe one.

Contract: `described(options)` gives a Kernel for --cu, --ptx or --function, None where there is
none of them. Raises UsageError where options do not go together or one is missing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from quantassay.errors import UsageError
from reference.op import OPS, Kernel

OF_CUDA = ("define", "include", "fast_math")
OF_BOTH = ("entry", "grid", "block", "args", "shared", "cooperative", *OF_CUDA)
OF_ANY = ("dtype", "out_dtype", "option", "multiple", "aligned")
ARCH = re.compile(r"sm_\d{2,3}[af]?")


def described(options: Mapping[str, Any]) -> Kernel | None:
    """options: of the command, by the names of its parameters."""
    sources = [name for name in ("cu", "ptx", "function") if options[name] is not None]
    if len(sources) > 1:
        raise UsageError(f"{_flags(sources)}: one kernel at a time; allowed: one of them")
    source = sources[0] if sources else ""
    _check_alone(source, options)
    if not source:
        return None
    op, dialects = _op(options["op"]), tuple(options["dialect"] or ())
    values = [f"out_dtype={value}" for value in options["out_dtype"] or ()]
    values += options["option"] or ()
    dtypes = tuple(options["dtype"] or ())
    spoken = OPS[op].options.get("dialect", ())
    if not dialects:
        raise UsageError(
            f"--dialect: say which dialect the kernel speaks; {op} has: {', '.join(spoken)} "
            "(quantassay identify tells which, from the same options)"
        )
    multiples = _multiples(op, options["multiple"] or ())
    make = _function if source == "function" else _foreign
    made = make(options, op, dialects, dtypes, values)
    return replace(made, multiples=multiples, aligned=options["aligned"])


def _multiples(op: str, given: Sequence[str]) -> tuple[tuple[str, int], ...]:
    found = {}
    for text in given:
        name, _, number = text.partition("=")
        if name not in OPS[op].dims or not number.isdecimal() or int(number) < 1:
            sizes = ", ".join(OPS[op].dims)
            raise UsageError(f"--multiple: got {text!r}; allowed: SIZE=N, N from 1, of {sizes}")
        found[name] = int(number)
    return tuple(found.items())


def _foreign(
    options: Mapping[str, Any],
    op: str,
    dialects: tuple[str, ...],
    dtypes: tuple[str, ...],
    values: list[str],
) -> Kernel:
    from quantassay.foreign.kernel import load
    from quantassay.foreign.request import Request

    if options["device"] == "gpu":
        raise UsageError("--device: --cu and --ptx run in the emulator; allowed: auto, emulator")
    if not ARCH.fullmatch(options["arch"]):
        raise UsageError(f"--arch: got {options['arch']!r}; allowed: sm_80, sm_89, sm_90 and such")
    several = {
        name: tuple(options[one] or ())
        for name, one in (
            ("entries", "entry"),
            ("grids", "grid"),
            ("blocks", "block"),
            ("args", "args"),
            ("shared", "shared"),
            ("defines", "define"),
            ("includes", "include"),
        )
    }
    return load(
        Request(
            file=options["ptx"] or options["cu"],
            ptx=options["ptx"] is not None,
            op=op,
            dialects=dialects,
            arch=options["arch"],
            fmad=options["fmad"],
            fast_math=options["fast_math"],
            cooperative=options["cooperative"],
            dtypes=dtypes,
            options=tuple(values),
            **several,
        )
    )


def _function(
    options: Mapping[str, Any],
    op: str,
    dialects: tuple[str, ...],
    dtypes: tuple[str, ...],
    values: list[str],
) -> Kernel:
    from quantassay.frameworks import load_function

    file: Path | None = options["kernels"]
    if file is None:
        raise UsageError("--function: say the file that it is in: --kernels FILE.py")
    chosen: dict[str, tuple[str, ...]] = {}
    for text in values:
        name, equal, value = text.partition("=")
        if not equal:
            raise UsageError(f"--option: got {text!r}; allowed: NAME=VALUE")
        chosen[name] = (*chosen.get(name, ()), value)
    return load_function(
        file,
        options["function"],
        op,
        dialects,
        framework=options["framework"],
        dtypes=dtypes,
        options=tuple(chosen.items()),
    )


def _check_alone(source: str, options: Mapping[str, Any]) -> None:
    """Options that need another one beside them, or that do not go with the source."""
    needs = {"--cu or --ptx": OF_BOTH, "--cu, --ptx or --function": OF_ANY}
    if source not in ("cu", "ptx"):
        for flag, names in needs.items():
            given = [name for name in names if options[name]]
            if given and not (source == "function" and names == OF_ANY):
                raise UsageError(f"{_flags(given)}: only with {flag}")
    else:
        given = [name for name in ("kernels", "wing", "framework") if options[name]]
        if given:
            raise UsageError(f"{_flags(given)}: not with --{source}, which is the only kernel")
    if source == "ptx" and any(options[name] for name in OF_CUDA):
        given = [name for name in OF_CUDA if options[name]]
        raise UsageError(f"{_flags(given)}: only with --cu; PTX is compiled already")
    if options["framework"] and source != "function":
        raise UsageError("--framework: only with --function")


def _op(given: list[str] | None) -> str:
    if not given or len(given) > 1:
        what = f"got {', '.join(given)}; say one" if given else "say which op the kernel is"
        raise UsageError(f"--op: {what}; known: {', '.join(sorted(OPS))}")
    if given[0] not in OPS:
        raise UsageError(f"--op: got {given[0]!r}; known: {', '.join(sorted(OPS))}")
    return given[0]


def _flags(names: list[str]) -> str:
    return ", ".join(f"--{name.replace('_', '-')}" for name in names)
