"""wgmma.mma_async against NumPy, for every type, layout and immediate; and its planted mistakes.

Contract under test: PTX ISA 9.7.16 as emulator/wgmma.py and lower_wgmma.py state it. The images of
A and B in shared memory are built here by the ISA's figures: 16-byte pieces of a swizzled row are
exchanged by its number. All values are small whole numbers, so that every sum is exact.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

import emulator
from emulator import EmulatorError, Fault

THREADS, ROOM = 128, 32768
SIZES = {"f16": 2, "bf16": 2, "tf32": 4, "s8": 1, "u8": 1}


def bits(values: np.ndarray, data: str) -> np.ndarray:
    """Little-endian bytes of each element, one more axis."""
    if data == "f16":
        words = values.astype(np.float16)[..., None]
    elif data == "bf16":
        words = (values.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)[..., None]
    elif data == "tf32":
        words = values.astype(np.float32)[..., None]
    else:
        words = (values.astype(np.int64) & 255).astype(np.uint8)[..., None]
    return words.view(np.uint8)


def turned(piece: int, row: int, width: int) -> int:
    """Where a 16-byte piece of a row of the swizzled pattern lies."""
    return piece ^ {128: row & 7, 64: row >> 1 & 3, 32: row >> 2 & 1}[width]


@dataclass(frozen=True)
class Layout:
    """width: bytes of a swizzled row, 0 = none. along: rows or columns are contiguous, not K."""

    width: int
    along: bool = False
    skip: int = 0  # 16-byte pieces of K before the first, in a swizzled row

    def image(self, matrix: np.ndarray, data: str, base: int) -> tuple[np.ndarray, int]:
        """(image of shared memory, descriptor) of matrix (rows or columns, K) at `base`."""
        raw = bits(matrix, data)
        count, depth, size = raw.shape
        lines = (raw.transpose(1, 0, 2) if self.along else raw).reshape(-1, 16, 1)
        per = (count if self.along else depth) * size // 16  # pieces of a line
        pieces = lines.reshape(-1, per, 16)
        memory = np.zeros(ROOM, np.uint8)
        groups = -(-len(pieces) // 8)
        for row, line in enumerate(pieces):
            for piece, content in enumerate(line):
                if self.width:
                    block, inner = divmod(piece + self.skip, self.width // 16)
                    at = block * groups * 8 * self.width + row * self.width
                    at += 16 * turned(inner, row % 8, self.width)
                else:
                    at = piece * groups * 128 + row * 16
                memory[base + at : base + at + 16] = content
        across, down = groups * 8 * (self.width or 16), 8 * (self.width or 16)
        if not self.width and self.along:
            leading, stride = down, across
        else:
            leading, stride = across, down
        mode = {0: 0, 128: 1, 64: 2, 32: 3}[self.width]
        start = base + 16 * self.skip
        return memory, start >> 4 | leading >> 4 << 16 | stride >> 4 << 32 | mode << 62


def kernel(
    opcode: str, columns: int, tail: str, body: str = "", times: int = 1, registers: bool = False
) -> str:
    """Loads the image, multiplies `times`, stores D as it is after `body`. registers: for A."""
    a = "{t4, t5, t6, t7}" if registers else "wa"
    names = ", ".join(f"d{i}" for i in range(columns // 2))
    multiply = f"wgmma.mma_async.sync.aligned.{opcode} {{{names}}}, {a}, wb, p0{tail};\n"
    body = body or "wgmma.commit_group.sync.aligned;\nwgmma.wait_group.sync.aligned 0;"
    loads = "\n".join(f"ld.global.b32 d{i}, [wd + {4 * i}];" for i in range(columns // 2))
    stores = "\n".join(f"st.global.b32 [wd + {4 * i}], d{i};" for i in range(columns // 2))
    return f"""
.version 8.8
.target sm_90a
.address_size 64
.visible .entry k(.param .u64 d, .param .u64 image, .param .u64 a, .param .u64 b,
  .param .u32 added) {{
.reg .pred p<3>; .reg .b32 t<8>; .reg .b64 wa, wb, wd, wi, wt; .reg .b32 d<{columns // 2}>;
.shared .align 1024 .b8 memory[{ROOM}];
ld.param.u64 wd, [d]; ld.param.u64 wi, [image]; ld.param.u64 wa, [a]; ld.param.u64 wb, [b];
ld.param.u32 t4, [added]; setp.ne.u32 p0, t4, 0;
mov.u32 t0, %tid.x; shl.b32 t1, t0, 4; mov.u32 t2, memory; add.u32 t2, t2, t1;
cvt.u64.u32 wt, t1; add.u64 wi, wi, wt; mov.u32 t3, 0;
$copy: ld.global.v4.b32 {{t4, t5, t6, t7}}, [wi]; st.shared.v4.b32 [t2], {{t4, t5, t6, t7}};
add.u64 wi, wi, 2048; add.u32 t2, t2, 2048; add.u32 t3, t3, 2048;
setp.lt.u32 p1, t3, {ROOM}; @p1 bra $copy;
mul.wide.u32 wt, t0, {2 * columns}; add.u64 wd, wd, wt;
{loads}
fence.proxy.async.shared::cta;
bar.sync 0;
{"" if not registers else "mul.wide.u32 wt, t0, 16; add.u64 wa, wa, wt;"}
{"" if not registers else "ld.global.v4.b32 {t4, t5, t6, t7}, [wa];"}
wgmma.fence.sync.aligned;
{multiply * times}{body}
{stores}
ret;
}}
"""


def fragments(d: np.ndarray) -> np.ndarray:
    """D (64, N) as each thread holds it: (128, N / 2)."""
    thread, i = np.meshgrid(np.arange(THREADS), np.arange(d.shape[1] // 2), indexing="ij")
    row = 16 * (thread // 32) + thread % 32 // 4 + 8 * (i // 2 % 2)
    return np.ascontiguousarray(d[row, 8 * (i // 4) + 2 * (thread % 4) + i % 2])


def of_threads(a: np.ndarray, data: str) -> np.ndarray:
    """A (64, K) as each thread holds it in four registers: (128, 16) bytes."""
    per = 4 // SIZES[data]
    thread, i, part = np.meshgrid(np.arange(THREADS), np.arange(4), np.arange(per), indexing="ij")
    row = 16 * (thread // 32) + thread % 32 // 4 + 8 * (i % 2)
    column = thread % 4 * per + part + 4 * per * (i // 2)
    return np.ascontiguousarray(bits(a, data)[row, column]).reshape(THREADS, 16)


def run(
    data: str, columns: int, a_layout: Layout, b_layout: Layout, *, signs: tuple[int, int] = (1, 1),
    added: int = 1, b_data: str = "", more: str = "", body: str = "", times: int = 1,
    registers: bool = False,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """(got, expected), both (128, N / 2) as int64."""
    integers, depth = SIZES[data] == 1, 32 // SIZES[data]
    random = np.random.default_rng(columns)
    low = 0 if "u8" in (data, b_data) else -8
    a, b = random.integers(low, 9, (64, depth)), random.integers(low, 9, (columns, depth))
    c = random.integers(-99, 99, (64, columns))
    image, a_at = a_layout.image(a, data, 0)
    other, b_at = b_layout.image(b, data, ROOM // 2)
    held = fragments(c.astype(np.int32 if integers else np.float32))
    tail = "" if integers else f", {signs[0]}, {signs[1]}"
    if SIZES[data] == 2:
        tail += "" if registers else f", {int(a_layout.along)}"
        tail += f", {int(b_layout.along)}"
    target = "s32" if integers else "f32"
    opcode = f"m64n{columns}k{depth}.{target}.{data}.{b_data or data}{more}"
    ptx = kernel(opcode, columns, tail, body, times, registers)
    allowed = [f"wgmma.mma_async.sync.aligned.{opcode}"]
    module = emulator.compile(ptx, approximate=allowed)
    held_a = of_threads(a, data) if registers else np.uint64(a_at)
    launched = [held, image | other, held_a, np.uint64(b_at), np.uint32(added)]
    module.kernel("k").launch(1, THREADS, launched)
    expected = times * signs[0] * signs[1] * (a @ b.T) + (c if added else 0)
    return held.astype(np.int64), fragments(expected)


def check(*args, **options) -> None:
    np.testing.assert_array_equal(*run(*args, **options))


K_MAJOR = [Layout(0), Layout(32), Layout(64), Layout(128), Layout(128, skip=4), Layout(64, skip=2)]
ALONG = [Layout(0, along=True), *(Layout(width, along=True) for width in (32, 64, 128))]


@pytest.mark.parametrize("layout", K_MAJOR)
@pytest.mark.parametrize("data", ["f16", "bf16", "tf32", "s8"])
def test_layouts_along_k(data: str, layout: Layout) -> None:
    check(data, 24 if layout.width == 32 else 64, layout, K_MAJOR[-1])
    check(data, 16, Layout(128), layout)


@pytest.mark.parametrize("layout", ALONG)
@pytest.mark.parametrize("data", ["f16", "bf16"])
def test_layouts_along_rows_and_columns(data: str, layout: Layout) -> None:
    check(data, 64, layout, Layout(128))
    check(data, 128, Layout(128), layout)
    check(data, 64, layout, layout)


@pytest.mark.parametrize("signs", [(1, -1), (-1, 1), (-1, -1)])
@pytest.mark.parametrize("data", ["f16", "bf16", "tf32"])
def test_negated_operands(data: str, signs: tuple[int, int]) -> None:
    check(data, 8, Layout(128), Layout(64), signs=signs)


@pytest.mark.parametrize("data", ["f16", "bf16", "tf32", "s8", "u8"])
def test_a_in_registers(data: str) -> None:
    check(data, 32, Layout(0), Layout(128), registers=True)
    if SIZES[data] > 1:
        check(data, 64, Layout(0), Layout(64), registers=True, signs=(-1, 1))
    if SIZES[data] == 2:
        check(data, 64, Layout(0), Layout(128, along=True), registers=True)


def test_types_and_sizes() -> None:
    plain = Layout(0)
    for pair in (("s8", "u8"), ("u8", "s8"), ("u8", "u8")):
        check(pair[0], 32, plain, plain, b_data=pair[1])
    check("s8", 256, plain, plain, added=0)
    check("f16", 256, plain, plain, added=0)
    check("s8", 8, plain, plain, more=".satfinite")


def test_products_onto_products() -> None:
    """Accumulators in flight may be multiplied onto without a wait."""
    check("f16", 16, Layout(128), Layout(128), times=3)


EARLY = "wgmma.commit_group.sync.aligned;"


@pytest.mark.parametrize(
    "body", [EARLY, EARLY + "wgmma.wait_group.sync.aligned 1;", "mov.u32 t0, 0;"]
)
def test_accumulators_are_poison_until_their_wait(body: str) -> None:
    held, _ = run("s8", 16, Layout(128), Layout(128), body=body)
    assert set(held.astype(np.uint32).ravel().tolist()) == {0xA5A5A5A5}


def test_a_wait_leaves_later_groups_in_flight() -> None:
    body = EARLY + EARLY + "wgmma.wait_group.sync.aligned 1;"
    check("s8", 16, Layout(128), Layout(128), body=body)


def test_clamped_sums() -> None:
    image, at = Layout(0).image(np.full((64, 32), 127), "s8", 0)
    held = np.full((THREADS, 4), 2**31 - 5, np.int32)
    for more, wanted in ((".satfinite", 2**31 - 1), ("", 2**31 - 5 + 127 * 127 * 32 - 2**32)):
        got = held.copy()
        ptx = kernel(f"m64n8k32.s32.s8.s8{more}", 8, "")
        arguments = [got, image, np.uint64(at), np.uint64(at), np.uint32(1)]
        emulator.compile(ptx).kernel("k").launch(1, THREADS, arguments)
        assert (got == wanted).all()


def finding(ptx: str, at: int, threads: int = THREADS) -> Fault:
    held, image = np.zeros((threads, 4), np.int32), np.zeros(ROOM, np.uint8)
    arguments = [held, image, np.uint64(at), np.uint64(at), np.uint32(1)]
    with pytest.raises(EmulatorError) as caught:
        emulator.compile(ptx).kernel("k").launch(1, threads, arguments)
    return caught.value.kind


def test_findings() -> None:
    ptx = kernel("m64n8k32.s32.s8.s8", 8, "")
    _, right = Layout(0).image(np.zeros((64, 32)), "s8", 0)
    assert finding(ptx, right + (ROOM - 128 >> 4)) == Fault.OUT_OF_BOUNDS
    early = finding(ptx.replace("bar.sync 0;", ""), right)  # whichever of A is met first
    assert early in (Fault.RACE, Fault.UNINITIALISED)
    bare = ptx.replace("st.shared.v4.b32 [t2], {t4, t5, t6, t7};", "")
    assert finding(bare, right) == Fault.UNINITIALISED


def test_refusals() -> None:
    for old, new, words in (
        ("m64n8k32", "m64n12k32", "N a multiple of 8"),
        ("{d0, d1, d2, d3}, wa", "{d0, d1, d2, d3}, {d0, d1}", "expected 4 registers of A"),
        ("{d0, d1, d2, d3}, wa", "{d0, d1}, wa", "expected 4 accumulator registers"),
    ):
        ptx = kernel("m64n8k32.s32.s8.s8", 8, "").replace(old, new)
        with pytest.raises(emulator.UnsupportedPTX, match=words):
            emulator.compile(ptx).kernel("k").compiled()
    ptx = kernel("m64n8k16.f32.f16.f16", 8, ", 1, 1, 0, 0")
    with pytest.raises(emulator.UnsupportedPTX, match="has no specified bits"):
        emulator.compile(ptx).kernel("k").compiled()
