"""wgmma.mma_async of one warp: its 16 rows of m64nNk16 (f16, bf16), k8 (tf32) or k32 (s8, u8).

Contract: A (64, K) and B (K, N) lie in shared memory where their descriptors say, or A in four
registers of each thread; D (64, N) are f32 or s32 words in each thread's frame. Layouts (PTX ISA,
"Shared Memory Matrix Layout" and "Register Fragments for wgmma.mma_async.m64nNk16"; lane = 4*g + q,
warp w of its four):
  D: d[4j + 0], d[4j + 1] = D[16w + g, 8j + 2q : 8j + 2q + 2], d[4j + 2], d[4j + 3] = D[16w + g + 8]
  A in registers: each warp's 16 rows as in mma.sync m16n8k16, m16n8k8 (tf32) or m16n8k32 (8 bits)
  a descriptor's bits: 0-13 start, 16-29 leading, 32-45 stride, each / 16; 62-63 swizzle (none, 128,
  64, 32 bytes). Swizzling exchanges 16-byte pieces by the address itself.
Sums of floats: as in tensor_float.py. Integers: exact; .satfinite clamps D. Every element is
checked as a read by the warp's first thread: bounds, written, landed, no race. The reads themselves
leave no trace.
"""

from __future__ import annotations

from emulator.layout import SHADOW_PENDING, Fault
from emulator.native import jit, load8, load16, load32, load32s, load64, store32
from emulator.shadow import find_conflict, writer_word
from emulator.state import ARGS, SCRATCH, SHARED_AT, SHARED_SIZE, THREAD_SIZE, WRITERS, Run, fault
from emulator.tensor_float import (
    B_OFFSET,
    C_OFFSET,
    ROW,
    WORD_OFFSET,
    accumulate_row,
    narrow,
    widen,
    widen_half,
)

F16, BF16, TF32, INT8 = range(4)
# The mode's bits, beside the type.
A_ALONG_M, B_ALONG_N, A_NEGATED, B_NEGATED = 4, 8, 16, 32
A_UNSIGNED, B_UNSIGNED, CLAMPED, A_IN_REGISTERS = 64, 128, 256, 512
# Words of THREAD.args: mode, N, descriptors of A and B, whether D is added to, where D is, and A.
MODE, COLUMNS, A_AT, B_AT, ADDED, SLOT, A_WORDS = (ARGS + 4 * i for i in (0, 1, 2, 4, 6, 7, 9))
NAN = 0x7FFFFFFF


@jit
def place(descriptor: int, along: int, i: int, j: int, size: int) -> int:
    """Shared offset of element j of K in row or column i. along: rows or columns are contiguous."""
    start = (descriptor & 0x3FFF) << 4
    leading = (descriptor >> 16 & 0x3FFF) << 4
    stride = (descriptor >> 32 & 0x3FFF) << 4
    swizzle = descriptor >> 62 & 3
    width = 256 >> swizzle  # bytes of a swizzled row
    if along:
        at = i * size
        if swizzle == 0:
            start += (at >> 4) * stride + (j >> 3) * leading + (j & 7) * 16 + (at & 15)
        else:
            start += at // width * leading + (j >> 3) * stride + (j & 7) * width + at % width
    else:
        at = j * size
        if swizzle == 0:
            start += (i >> 3) * stride + (at >> 4) * leading + (i & 7) * 16 + (at & 15)
        else:
            start += (i >> 3) * stride + (i & 7) * width + at
    if swizzle == 1:
        start ^= start >> 3 & 0x70
    elif swizzle == 2:
        start ^= start >> 3 & 0x30
    elif swizzle == 3:
        start ^= start >> 3 & 0x10
    return start


@jit
def _allowed(run: Run, thread: int, at: int, size: int) -> bool:
    """Whether the warp may read there; records a finding."""
    address = run[SHARED_AT] + at
    if at + size > run[SHARED_SIZE]:
        fault(run, Fault.OUT_OF_BOUNDS, thread, address, size, 0, 0)
        return False
    if run[WRITERS]:
        word = writer_word(run, at)
        if word == 0 or word == SHADOW_PENDING:
            kind = Fault.PENDING_COPY if word else Fault.UNINITIALISED
            fault(run, kind, thread, address, size, 0, 0)
            return False
        other = find_conflict(run, thread, at, size, 0)
        if other:
            fault(run, Fault.RACE, thread, address, size, 0, other)
            return False
    return True


@jit
def _element(run: Run, source: int, kind: int, negated: int, target: int) -> None:
    """The float at an address as f64 at `target`."""
    word = run[SCRATCH] + WORD_OFFSET
    if kind == TF32:
        store32(word, (load32(source) & ~0x1FFF) ^ (0x80000000 if negated else 0))
        widen(word, target)
        return
    bits = load16(source) ^ (0x8000 if negated else 0)
    if kind == BF16:
        store32(word, bits << 16)
        widen(word, target)
    else:
        store32(word, bits)
        widen_half(word, target)


@jit
def perform(run: Run, warp: int, base: int) -> bool:
    """One wgmma of the 32 threads at `base`; False after a finding."""
    mode = load32(base + MODE)
    if mode & 3 == INT8:
        return _integers(run, warp, base, mode)
    return _floats(run, warp, base, mode)


@jit
def _operand(run: Run, base: int, mode: int, which: int, i: int, row: int) -> bool:
    """Row i of A (which = 0) to row `row` of the scratch A, or column i of B to column `row`."""
    kind = mode & 3
    size, count = (4, 8) if kind == TF32 else (2, 16)
    descriptor = load64(base + (B_AT if which else A_AT))
    along = mode & (B_ALONG_N if which else A_ALONG_M)
    negated = mode & (B_NEGATED if which else A_NEGATED)
    for j in range(count):
        at = place(descriptor, along, i, j, size)
        if not _allowed(run, base, at, size):
            return False
        source = run[SHARED_AT] + at
        if which:
            _element(run, source, kind, negated, run[SCRATCH] + B_OFFSET + j * ROW + 8 * row)
        else:
            _element(run, source, kind, negated, run[SCRATCH] + 8 * (16 * row + j))
    return True


@jit
def _rows(run: Run, warp: int, base: int, mode: int) -> bool:
    """The warp's rows of A to the scratch A; False after a finding."""
    if not mode & A_IN_REGISTERS:
        row = 0
        while row < 16 and _operand(run, base, mode, 0, 16 * (warp & 3) + row, row):
            row += 1
        return row == 16
    kind = mode & 3
    per = 1 if kind == TF32 else 2  # elements of a register
    for lane in range(32):
        for i in range(4):
            row = (lane >> 2) + 8 * (i & 1)
            source = base + lane * THREAD_SIZE + A_WORDS + 4 * i
            for part in range(per):
                column = (lane & 3) * per + part + 4 * per * (i >> 1)
                target = run[SCRATCH] + 8 * (16 * row + column)
                _element(run, source + 2 * part, kind, mode & A_NEGATED, target)
    return True


@jit
def _floats(run: Run, warp: int, base: int, mode: int) -> bool:
    scratch = run[SCRATCH]
    for i in range(C_OFFSET >> 2):
        store32(scratch + 4 * i, 0)
    if not _rows(run, warp, base, mode):
        return False
    added = load32(base + ADDED)
    for block in range(load32(base + COLUMNS) >> 3):
        for column in range(8):
            if not _operand(run, base, mode, 1, 8 * block + column, column):
                return False
        for lane in range(32):
            words = load64(base + lane * THREAD_SIZE + SLOT) + 16 * block
            for i in range(4):
                cell = (lane >> 2) + 8 * (i >> 1)
                cell = scratch + C_OFFSET + cell * ROW + 8 * (2 * (lane & 3) + (i & 1))
                if not added:
                    store32(words + 4 * i, 0)
                widen(words + 4 * i, cell)
        for row in range(16):
            c_row = scratch + C_OFFSET + row * ROW
            accumulate_row(scratch + 128 * row, scratch + B_OFFSET, c_row)
        for lane in range(32):
            words = load64(base + lane * THREAD_SIZE + SLOT) + 16 * block
            for i in range(4):
                cell = (lane >> 2) + 8 * (i >> 1)
                cell = scratch + C_OFFSET + cell * ROW + 8 * (2 * (lane & 3) + (i & 1))
                narrow(cell, words + 4 * i)
                if load32(words + 4 * i) & 0x7FFFFFFF > 0x7F800000:
                    store32(words + 4 * i, NAN)
    return True


@jit
def _byte(address: int, unsigned: int) -> int:
    value = load8(address)
    return value - 256 if value > 127 and not unsigned else value


@jit
def _byte_rows(run: Run, warp: int, base: int, mode: int) -> bool:
    """The warp's rows of A as words (16, 32) of the scratch; False after a finding."""
    unsigned = mode & A_UNSIGNED
    if mode & A_IN_REGISTERS:
        for lane in range(32):
            for i in range(16):
                row = (lane >> 2) + 8 * (i >> 2 & 1)
                column = 4 * (lane & 3) + (i & 3) + 16 * (i >> 3)
                value = _byte(base + lane * THREAD_SIZE + A_WORDS + i, unsigned)
                store32(run[SCRATCH] + 4 * (32 * row + column), value)
        return True
    for row in range(16):
        for j in range(32):
            at = place(load64(base + A_AT), 0, 16 * (warp & 3) + row, j, 1)
            if not _allowed(run, base, at, 1):
                return False
            store32(run[SCRATCH] + 4 * (32 * row + j), _byte(run[SHARED_AT] + at, unsigned))
    return True


@jit
def _integers(run: Run, warp: int, base: int, mode: int) -> bool:
    """K = 32; A and B are contiguous along K."""
    b = load64(base + B_AT)
    scratch = run[SCRATCH]
    if not _byte_rows(run, warp, base, mode):
        return False
    line = scratch + 4 * 32 * 16
    for column in range(load32(base + COLUMNS)):
        for j in range(32):
            at = place(b, 0, column, j, 1)
            if not _allowed(run, base, at, 1):
                return False
            store32(line + 4 * j, _byte(run[SHARED_AT] + at, mode & B_UNSIGNED))
        for row in range(16):
            total = 0
            for j in range(32):
                total += load32s(scratch + 4 * (32 * row + j)) * load32s(line + 4 * j)
            lane = 4 * (row & 7) + (column & 7) // 2
            word = 4 * (column >> 3) + 2 * (row >> 3) + (column & 1)
            cell = load64(base + lane * THREAD_SIZE + SLOT) + 4 * word
            if load32(base + ADDED):
                total += load32s(cell)
            if mode & CLAMPED:
                total = min(max(total, -(1 << 31)), (1 << 31) - 1)
            store32(cell, total)
    return True
