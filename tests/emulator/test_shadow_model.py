"""Random programs on shared memory: the emulator's shadow against sets of accesses per byte.

Contract under test: which access of which thread is the first finding, and its kind, whatever mix
of sizes, plain and strong writes, atomics, asynchronous copies and barriers came before. The model
keeps every byte's last write and all of its readers, and knows neither words, granules nor epochs
that wrap. Strong reads are left out (they let other threads run first). No two lanes of a
warp write the same value: test_same_value.py has those.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import numpy as np
import pytest

import emulator
from emulator import Fault

BYTES, STEPS, THREADS = 16, 16, 64
ACTIVE = (0, 1, 31, 32, 63)  # all other threads only take part in the barriers
# name -> (PTX, bytes, reads, writes, strong)
OPERATIONS = {
    "nop": ("", 0, False, False, False),
    "read 1": ("ld.shared.u8 v0, [at];", 1, True, False, False),
    "read 2": ("ld.shared.u16 v0, [at];", 2, True, False, False),
    "read 4": ("ld.shared.u32 v0, [at];", 4, True, False, False),
    "read 8": ("ld.shared.v2.u32 {v0, v1}, [at];", 8, True, False, False),
    "read 16": ("ld.shared.v4.u32 {v0, v1, v2, v3}, [at];", 16, True, False, False),
    "write 1": ("st.shared.u8 [at], v0;", 1, False, True, False),
    "write 2": ("st.shared.u16 [at], v0;", 2, False, True, False),
    "write 4": ("st.shared.u32 [at], v0;", 4, False, True, False),
    "write 8": ("st.shared.v2.u32 [at], {v0, v1};", 8, False, True, False),
    "write 16": ("st.shared.v4.u32 [at], {v0, v1, v2, v3};", 16, False, True, False),
    "strong 1": ("st.volatile.shared.u8 [at], v0;", 1, False, True, True),
    "strong 4": ("st.volatile.shared.u32 [at], v0;", 4, False, True, True),
    "atomic": ("red.shared.add.u32 [at], 1;", 4, True, True, True),
    "copy 4": ("cp.async.ca.shared.global [at], [w1], 4;", 4, False, True, False),
    "copy 16": ("cp.async.cg.shared.global [at], [w1], 16;", 16, False, True, False),
    "wait": ("cp.async.wait_all;", 0, False, False, False),
}
NAMES = tuple(OPERATIONS)
WEIGHTS = [4 if name.startswith("read") else 1 for name in NAMES]
SYNCS = ("", "bar.warp.sync -1;", "bar.sync 0;")


def _ptx() -> str:
    labels = ", ".join(f"$op{i}" for i in range(len(NAMES)))
    cases = "\n".join(
        f"$op{i}: {text} bra.uni $synchronise;" for i, (text, *_) in enumerate(OPERATIONS.values())
    )
    return f"""
.version 8.8
.target sm_80
.address_size 64
.visible .entry k(.param .u64 program, .param .u64 source) {{
.reg .pred p<3>; .reg .b32 v<4>; .reg .b32 at; .reg .b32 t<6>; .reg .b64 w<5>;
.shared .align 16 .b8 memory[{BYTES}];
ld.param.u64 w0, [program]; ld.param.u64 w1, [source];
mov.u32 t0, %tid.x; mul.wide.u32 w2, t0, {4 * STEPS}; add.u64 w0, w0, w2;
mov.u32 t1, 0;
$next: ld.global.u32 t2, [w0]; add.u64 w0, w0, 4;
mad.lo.u32 v0, t0, {STEPS}, t1; and.b32 v0, v0, 255; mul.lo.u32 v0, v0, 0x01010101;
mov.u32 v1, v0; mov.u32 v2, v0; mov.u32 v3, v0;
and.b32 t3, t2, 255; shr.u32 t4, t2, 8; and.b32 t4, t4, 255; shr.u32 t5, t2, 16;
mov.u32 at, memory; add.u32 at, at, t4;
$table: .branchtargets {labels};
brx.idx t3, $table;
{cases}
$synchronise:
setp.eq.u32 p0, t5, 1; @p0 bar.warp.sync -1;
setp.eq.u32 p1, t5, 2; @p1 bar.sync 0;
add.u32 t1, t1, 1; setp.lt.u32 p2, t1, {STEPS}; @p2 bra $next;
ret;
}}
"""


@dataclass(frozen=True)
class Access:
    thread: int
    epoch: int
    warp_epoch: int
    strong: bool

    def unordered(self, other: Access) -> bool:
        if self.epoch != other.epoch or self.thread == other.thread:
            return False
        return self.thread // 32 != other.thread // 32 or self.warp_epoch == other.warp_epoch


@dataclass
class Byte:
    writer: Access | None = None
    pending: bool = False
    readers: set[Access] = field(default_factory=set)

    def findings(self, mine: Access, reads: bool, writes: bool) -> set[Fault]:
        if self.pending:
            return {Fault.PENDING_COPY}
        if reads and self.writer is None:
            return {Fault.UNINITIALISED}
        last = self.writer
        if last and mine.unordered(last) and not (last.strong and mine.strong):
            return {Fault.RACE}
        race = writes and any(mine.unordered(r) for r in self.readers)
        return {Fault.RACE} if race else set()


class Model:
    """Executes one thread's operation at a time, in the order of the scheduler."""

    def __init__(self) -> None:
        self.memory = [Byte() for _ in range(BYTES)]
        self.copies: dict[int, list[range]] = {}
        self.epoch, self.warp_epochs = 0, [0, 0]

    def act(self, thread: int, name: str, at: int, *, only_look: bool) -> set[Fault]:
        _, size, reads, writes, strong = OPERATIONS[name]
        mine = Access(thread, self.epoch, self.warp_epochs[thread // 32], strong)
        touched = range(at, at + size)
        found = {f for i in touched for f in self.memory[i].findings(mine, reads, writes)}
        if found or only_look:
            return found
        for i in touched:
            byte = self.memory[i]
            if name.startswith("copy"):
                byte.pending = True
            elif writes:
                byte.writer = mine
            else:
                byte.readers.add(mine)
        if name.startswith("copy"):
            self.copies.setdefault(thread, []).append(touched)
        if name == "wait":
            for i in (i for copy in self.copies.pop(thread, []) for i in copy):
                self.memory[i].pending, self.memory[i].writer = False, mine
        return set()


def _invent(seed: int) -> tuple[np.ndarray, tuple[int, str, set[Fault]] | None]:
    """(program, first finding or None): operations that mostly are right, by asking the model."""
    chance, model = random.Random(seed), Model()
    program = np.zeros((THREADS, STEPS), np.uint32)
    syncs = [chance.choice((0, 1, 1, 2)) for _ in range(STEPS)]
    program[:] = np.array(syncs, np.uint32) << 16
    risk = chance.choice((0.0, 0.01, 0.05))

    def choose(thread: int, step: int) -> tuple[int, str, set[Fault]] | None:
        for _ in range(4):
            name = chance.choices(NAMES, WEIGHTS)[0]
            size = OPERATIONS[name][1]
            at = chance.randrange(0, BYTES, size) if size else 0
            if model.act(thread, name, at, only_look=True) and chance.random() >= risk:
                continue
            program[thread, step] |= NAMES.index(name) | at << 8
            found = model.act(thread, name, at, only_look=False)
            return (thread, name, found) if found else None
        return None

    start = 0
    while start < STEPS:  # up to a block barrier; each warp up to a warp barrier; each lane
        end = next((i + 1 for i in range(start, STEPS) if syncs[i] == 2), STEPS)
        for warp in range(2):
            group = start
            while group < end:
                stop = next((i + 1 for i in range(group, end) if syncs[i]), end)
                for thread in (t for t in ACTIVE if t // 32 == warp):
                    for step in range(group, stop):
                        finding = choose(thread, step)
                        if finding:
                            return program, finding
                model.warp_epochs[warp] += syncs[stop - 1] == 1
                group = stop
        model.epoch, model.warp_epochs = model.epoch + 1, [0, 0]
        start = end
    return program, None


@pytest.mark.parametrize("part", range(8))
def test_random_programs_find_what_the_model_finds(part: int) -> None:
    kernel = emulator.compile(_ptx()).kernel("k")
    source = np.zeros(4, np.uint32)
    kinds: set[Fault] = set()
    clean = 0
    for seed in range(250 * part, 250 * (part + 1)):
        program, finding = _invent(seed)
        if finding is None:
            kernel.launch(1, THREADS, [program, source])
            clean += 1
            continue
        thread, name, expected = finding
        with pytest.raises(emulator.EmulatorError) as caught:
            kernel.launch(1, THREADS, [program, source])
        error = caught.value
        place = f"seed {seed}: thread {thread}, {name}, {expected}; got {error}"
        assert error.thread == (thread, 0, 0), place
        assert error.ptx_text.rstrip(";") == OPERATIONS[name][0].rstrip(";"), place
        assert error.kind in expected, place
        kinds.add(error.kind)
    assert kinds == {Fault.PENDING_COPY, Fault.UNINITIALISED, Fault.RACE}
    assert clean > 40


HALF_A_GRANULE = """
extern "C" __global__ void k(int* y) {
  __shared__ alignas(4) unsigned char s[4];
  if (threadIdx.x < 2) s[threadIdx.x] = threadIdx.x;
  for (int i = 0; i < TIMES; i++) WAIT;
  if (threadIdx.x == READER) y[0] = s[PLACE];
}"""


@pytest.mark.parametrize(
    ("wait", "times", "reader", "place", "kind"),
    [
        ("__syncthreads()", 3000, 40, 1, None),
        ("__syncthreads()", 3000, 40, 2, Fault.UNINITIALISED),
        ("__syncwarp()", 600, 0, 1, None),
        ("__syncwarp()", 600, 1, 3, Fault.UNINITIALISED),
        ("__syncwarp()", 600, 40, 1, Fault.RACE),
    ],
)
def test_bytes_of_a_mixed_granule_outlive_the_epochs(cuda, wait, times, reader, place, kind):
    source = HALF_A_GRANULE
    for name, value in (("TIMES", times), ("WAIT", wait), ("READER", reader), ("PLACE", place)):
        source = source.replace(name, str(value))
    memory = np.full(1, 7, np.int32)
    if kind is None:
        cuda(source).launch(1, 64, (memory,))
        assert memory[0] == place
        return
    with pytest.raises(emulator.EmulatorError) as caught:
        cuda(source).launch(1, 64, (memory,))
    assert (caught.value.kind, caught.value.thread) == (kind, (reader, 0, 0))
