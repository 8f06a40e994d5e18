"""Planted bugs: what a test needs to say about one, and how it is caught.

In every source the comment BUG marks the line that the error must name.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import pytest

from emulator import EmulatorError, Fault


@dataclass
class Bug:
    source: str
    kind: Fault
    message: str
    thread: int = 0
    block: int = 0
    threads: int = 32
    blocks: int = 1
    args: tuple[Any, ...] = field(default_factory=tuple)


def expect(cuda, bug: Bug, **options) -> EmulatorError:
    kernel = cuda(bug.source)
    with pytest.raises(EmulatorError, match=bug.message) as caught:
        kernel.launch(bug.blocks, bug.threads, bug.args, **options)
    error = caught.value
    assert error.kind == bug.kind
    assert error.kernel == "k"
    lines = [n for n, line in enumerate(bug.source.splitlines(), 1) if "BUG" in line]
    assert lines, "the source marks no line"
    named = re.findall(r"test\.cu:(\d+)", error.source)  # with the place it was inlined at
    assert {int(n) for n in named} & {*lines}
    assert error.thread == (bug.thread, 0, 0)
    assert error.block == (bug.block, 0, 0)
    assert f"PTX line {error.ptx_line}: {error.ptx_text}" in str(error)
    return error


# Device functions of the cp.async tests.
COPY = """
        __device__ void copy(void* to, const void* from) {
          unsigned where = __cvta_generic_to_shared(to);
          asm volatile("cp.async.ca.shared.global [%0], [%1], 16;" :: "r"(where), "l"(from));
        }
        __device__ void commit() { asm volatile("cp.async.commit_group;"); }
        template <int N> __device__ void wait() {
          asm volatile("cp.async.wait_group %0;" :: "n"(N) : "memory");
        }
"""
