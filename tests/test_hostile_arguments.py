"""Malformed arguments: nothing but documented errors comes out, with a message that helps.

Contract: calls are made from the ops' declarations and from one valid call of every public function
(tests/hostile), each with one fault. A refused one raises TypeError or ValueError (or what the
function documents besides) whose message names an argument, what was got and what is allowed; both
wings refuse what the oracle refuses, with the same exception. The command line answers with exit
status 2 and one line.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import pytest

import quantassay
from quantassay.loading import load_wings
from reference.op import OPS, Op, forget, kernels
from tests.hostile.faults import calls
from tests.hostile.targets import Target, called, inputs_of, oracles, public
from tests.kernels_numba.test_same_errors import same

load_wings()
ORACLES = {target.name: target for target in oracles()}
PUBLIC = {target.name: target for target in public()}
ALLOWED = re.compile(r"\b(allowed|known|has)\b")
PYTHONS_OWN = re.compile(r"argument '?\w+'?|positional argument|keyword(-only)? argument")


@pytest.fixture(autouse=True)
def _registry() -> Iterator[None]:
    """What a call registered does not stay."""
    yield
    forget("never")


def refused(target: Target, given: Mapping[str, Any]) -> Exception | None:
    """What a call raises, if it is of the documented kind."""
    try:
        target.function(**given)
    except (TypeError, ValueError, *target.kinds) as error:
        return error
    return None


def helps(target: Target, error: Exception) -> bool:
    """Whether a message names an argument, what was got and what is allowed."""
    text = str(error)
    if isinstance(error, target.kinds) or PYTHONS_OWN.search(text):
        return True
    names = (*target.valid, *target.named, "nonsense")
    named = any(re.search(rf"\b{re.escape(name)}\b", text) for name in names)
    return named and bool(ALLOWED.search(text)) and "\n" not in text


def outcomes(target: Target) -> tuple[int, int, list[str]]:
    """(calls, of which refused, those refused without a helpful message)."""
    count, no, bad = 0, 0, []
    for words, given in calls(target.valid, target.endless):
        count += 1
        error = refused(target, given)
        no += error is not None
        if error is not None and not helps(target, error):
            bad.append(f"{words}: {type(error).__name__}: {error}")
    return count, no, bad


@pytest.mark.parametrize("name", ORACLES)
def test_oracles_refuse_in_words(name: str) -> None:
    count, no, bad = outcomes(ORACLES[name])
    assert not bad
    assert count > 40
    assert no > count // 2


@pytest.mark.parametrize("name", PUBLIC)
def test_public_functions_refuse_in_words(name: str) -> None:
    count, no, bad = outcomes(PUBLIC[name])
    assert not bad
    assert count >= 4
    assert no > 0 or name in ("kernels", "emulator.mark_written")


def test_every_public_function_is_tried() -> None:
    tried = {re.split(r"[.(]", name)[0] for name in PUBLIC}
    data = {"Arg", "CheckResult", "Dialect", "Kernel", "Op", "Recipe", "recipe"}  # no arguments to
    assert {name for name in quantassay.__all__ if name[0] != "_"} - data <= tried  # be checked


def _raised(op: Op, function: Callable[..., Any], given: Mapping[str, Any]) -> Any:
    try:
        called(op, function)(**given)
    except (TypeError, ValueError) as error:
        return type(error), str(error)
    return None


def _about(name: str, raised: Any) -> bool:
    """Refused as no array by a wing, which asks more of arrays than the oracle."""
    return raised is not None and raised[1].startswith(f"{name}: got ")


@pytest.mark.parametrize("name", OPS)
def test_wings_refuse_what_the_oracle_refuses(name: str) -> None:
    op, differing = OPS[name], []
    wings = kernels(op=name, wing="cupy")[:1] + kernels(op=name, wing="numba")[:1]
    assert len(wings) == 2
    for words, given in calls(inputs_of(op)):
        oracle = _raised(op, op.oracle, given)
        if oracle is None or PYTHONS_OWN.search(oracle[1]):
            continue
        got = {one.label: _raised(op, one.function, given) for one in wings}
        name = words.partition("=")[0]
        duck = not isinstance(given.get(name), np.ndarray)
        if not all(same(one, oracle) or (duck and _about(name, one)) for one in got.values()):
            differing.append((words, oracle, got))
    assert not differing
