"""PTX instructions that Numba has no name for, as intrinsics that emit inline assembly.

Contract: each intrinsic is one instruction of the PTX ISA, named in its comment. Shared memory is
addressed by 32-bit addresses (`shared_address` of a shared array, plus bytes), global memory by
`address_of`. Whoever calls is responsible for alignment and bounds, as in PTX.

What keeps the compiler from moving them: instructions that touch memory are volatile and clobber
memory, so that none crosses a barrier or another access; `mma.sync` and `ldmatrix`, which a whole
warp executes together, are volatile and convergent, so that none sinks into a branch. Accumulators
are local arrays that only constant indices touch: they end in registers
(tests/kernels_numba/test_ptx.py).

Source: PTX ISA 9.0, sections 9.7.9 (ld, st, cp.async), 9.7.15 (mma, ldmatrix), 9.7.1 (dp4a);
inline assembly as CUDA's "Inline PTX Assembly" has it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llvmlite import ir
from numba import types

from kernels_numba.device import DeviceFunction, intrinsic

WORD = ir.IntType(32)
LONG = ir.IntType(64)
SHARED = 3  # NVVM's number of the address space
Value = Any  # of LLVM's


# -- emitting --------------------------------------------------------------------------------------


def assembly(
    builder: Any,
    text: str,
    results: int,
    operands: Sequence[Value],
    *,
    clobbers: bool = False,
    together: bool = False,
) -> list[Value]:
    """Emits one volatile instruction: `results` 32-bit registers $0.., then `operands`.

    clobbers: it touches memory. together: all lanes of the warp execute it at one place.
    """
    kinds = {WORD: "r", LONG: "l", ir.FloatType(): "f"}
    constraints = ["=r"] * results + [kinds[value.type] for value in operands]
    given = [value.type for value in operands]
    wanted = [WORD] * results
    kind = {0: ir.VoidType(), 1: WORD}.get(results, ir.LiteralStructType(wanted))
    code = ir.InlineAsm(
        ir.FunctionType(kind, given),
        text,
        ",".join([*constraints, *(["~{memory}"] if clobbers else [])]),
        side_effect=True,
    )
    made = builder.call(code, operands, attrs=("convergent",) if together else ())
    if results < 2:
        return [made] * results
    return [builder.extract_value(made, place) for place in range(results)]


def constant(value: int) -> ir.Constant:
    return ir.Constant(WORD, value)


def data_of(context: Any, builder: Any, kind: Any, array: Value) -> Value:
    """The data pointer of a Numba array."""
    return context.make_array(kind)(context, builder, array).data


def slot(builder: Any, data: Value, place: int) -> Value:
    """Pointer to element `place` of a local array."""
    return builder.gep(data, [constant(place)])


def _effect(text: str, *kinds: Any) -> DeviceFunction:
    """Intrinsic of the arguments `kinds` that emits `text` and gives nothing."""
    return _of_length(kinds, types.void, text, 0)


def _fetch(text: str, results: int, *kinds: Any) -> DeviceFunction:
    """Intrinsic of the arguments `kinds` that gives `results` uint32."""
    given = types.uint32 if results == 1 else types.UniTuple(types.uint32, results)
    return _of_length(kinds, given, text, results)


def _of_length(kinds: tuple[Any, ...], given: Any, text: str, results: int) -> DeviceFunction:
    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        operands = []
        for kind, value in zip(signature.args, args, strict=True):
            spread = range(len(kind)) if isinstance(kind, types.BaseTuple) else ()
            operands += [builder.extract_value(value, i) for i in spread] or [value]
        parts = assembly(builder, text, results, operands, clobbers=True)
        if results < 2:
            return parts[0] if parts else context.get_dummy_value()
        return context.make_tuple(builder, given, parts)

    if len(kinds) == 0:
        return intrinsic(lambda typingctx: (given(), generate))
    if len(kinds) == 1:
        return intrinsic(lambda typingctx, a: (given(*kinds), generate))
    if len(kinds) == 2:
        return intrinsic(lambda typingctx, a, b: (given(*kinds), generate))
    return intrinsic(lambda typingctx, a, b, c: (given(*kinds), generate))


# -- addresses -------------------------------------------------------------------------------------


@intrinsic
def shared_address(typingctx: Any, array: Any) -> Any:
    """Intrinsic (shared array) -> uint32: its address in shared memory (cvta.to.shared)."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        data = data_of(context, builder, signature.args[0], args[0])
        near = builder.addrspacecast(data, data.type.pointee.as_pointer(SHARED))
        return builder.ptrtoint(near, WORD)

    return types.uint32(array), generate


@intrinsic
def address_of(typingctx: Any, array: Any, element: Any) -> Any:
    """Intrinsic (global array, element) -> uint64: the element's address, in bounds or not."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        data = data_of(context, builder, signature.args[0], args[0])
        return builder.ptrtoint(builder.gep(data, [args[1]]), LONG)

    return types.uint64(array, types.uint64), generate


@intrinsic
def rolled(typingctx: Any, count: Any) -> Any:
    """Intrinsic (uint32) -> the same number, which the compiler then cannot tell: a loop that ends
    there stays a loop.
    """

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return assembly(builder, "mov.b32 $0, $1;", 1, args)[0]

    return types.uint32(types.uint32), generate


# -- memory ----------------------------------------------------------------------------------------

_U32, _U64 = types.uint32, types.uint64

# (shared address, uint32 or tuple of them): 4 and 16 bytes, aligned to that.
store_shared = _effect("st.shared.b32 [$0], $1;", _U32, _U32)
store_shared4 = _effect("st.shared.v4.b32 [$0], {$1, $2, $3, $4};", _U32, types.UniTuple(_U32, 4))
# (shared address) -> 16 bytes, aligned to that.
load_shared4 = _fetch("ld.shared.v4.b32 {$0, $1, $2, $3}, [$4];", 4, _U32)
# (shared address, global address, bytes that are read; the rest of 16 or 4 becomes 0). The wider
# one has L2 fetch the other half of its 128-byte line too: a tile row's next stage.
copy_async16 = _effect("cp.async.cg.shared.global.L2::128B [$0], [$1], 16, $2;", _U32, _U64, _U32)
copy_async4 = _effect("cp.async.ca.shared.global [$0], [$1], 4, $2;", _U32, _U64, _U32)
commit_copies = _effect("cp.async.commit_group;")


def wait_copies(youngest: int) -> DeviceFunction:
    """Intrinsic (): waits for all of this thread's groups of copies but the youngest ones."""
    return _effect(f"cp.async.wait_group {youngest};")


def _constant(builder: Any, pointer: Value, width: int) -> Value:
    """A load of memory that the kernel does not write: ld.global.nc."""
    loaded = builder.load(pointer, align=width)
    loaded.set_metadata("invariant.load", builder.module.add_metadata([]))
    return loaded


@intrinsic
def load_constant(typingctx: Any, array: Any, element: Any) -> Any:
    """Intrinsic (array that the kernel does not write, element of it, flat) -> the element."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind, dtype = signature.args[0], signature.return_type
        data = data_of(context, builder, kind, args[0])
        pointer = builder.gep(data, [args[1]])
        return _constant(builder, pointer, dtype.bitwidth // 8)

    return array.dtype(array, types.uint64), generate


def _constant_words(count: int) -> DeviceFunction:
    """Intrinsic (array that the kernel does not write, element) -> `count` uint32 in one access,
    aligned to its width.
    """
    given = types.UniTuple(types.uint32, count)

    @intrinsic
    def load(typingctx: Any, array: Any, element: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            data = data_of(context, builder, signature.args[0], args[0])
            vector = ir.VectorType(WORD, count).as_pointer()
            pointer = builder.bitcast(builder.gep(data, [args[1]]), vector)
            whole = _constant(builder, pointer, 4 * count)
            parts = [builder.extract_element(whole, constant(place)) for place in range(count)]
            return context.make_tuple(builder, given, parts)

        return given(array, types.uint64), generate

    return load


load_constant1 = _constant_words(1)
load_constant4 = _constant_words(4)
# (global address) -> 16 bytes as other blocks' atomics left them: from L2, past this one's L1.
load_fresh4 = _fetch("ld.global.cg.v4.b32 {$0, $1, $2, $3}, [$4];", 4, _U64)
load_fresh = _fetch("ld.global.cg.b32 $0, [$1];", 1, _U64)
