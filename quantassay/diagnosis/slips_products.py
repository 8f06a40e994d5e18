"""Slips of integer GEMMs, their epilogues, zero points, groups and packed weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from quantassay.diagnosis import knobs
from quantassay.diagnosis.slips import NARROW, Slip, groups, output, rows


def gemm() -> Iterator[Slip]:
    for knob, name in (("a_type", "a"), ("b_type", "b")):
        yield {knob: "u8"}, f"reads the signed codes of {name} as unsigned"
        yield {knob: "-127..127"}, f"takes code -128 of {name} for -127"
    yield {"a_type": "u8", "b_type": "u8"}, "reads the signed codes of a and b as unsigned"
    yield from accumulation("K")
    yield {"b_layout": "KN"}, "reads b as (K, N), not as the K-major (N, K)"
    yield {"a_layout": "KM"}, "reads a as (K, M), not as (M, K)"
    yield {"acc_layout": "NM"}, "writes the result transposed"
    yield from rows("a_row", "the elements of a", "row")
    yield from rows("b_row", "the elements of b", "row (output column)")


def accumulation(depth: str) -> Iterator[Slip]:
    """depth: what is added up, "K", or "G" in groups."""
    for name, words in (
        ("int16", "in 16 bits: the accumulator wraps (int16 overflow)"),
        ("int16 saturated", "in 16 bits: the accumulator saturates (int16 overflow)"),
        ("int16 pairs saturated", "pairs of products in 16 bits (int16 overflow)"),
        ("int32 saturated", "in int32 that saturates where it should wrap"),
        ("int24", "in 24 bits"),
        ("int8", "in 8 bits"),
        ("fp32", "in fp32, which rounds sums beyond 2**24"),
        ("fp16", "in fp16"),
    ):
        yield {"accumulate": name}, f"accumulates {words}"
    yield from depths(depth)


def depths(depth: str) -> Iterator[Slip]:
    for step in (2, 4, 8, 16, 32, 64, 128, 256):
        words = f"drops the tail of {depth}: the last {depth} % {step} products"
        yield {"k_of": knobs.whole_of(step)}, words
    for end in ("last", "first"):
        yield {"k_of": knobs.all_but(1, end)}, f"leaves out the {end} product of {depth}"
    for step in (4, 8, 16, 32, 64, 128):
        for at in (step - 1, 0):
            where = f"leaves out the products at a tile edge: {depth.lower()} % {step} == {at}"
            yield {"k_of": knobs.all_but_every(step, at)}, where
    for count in (16, 32, 64, 128):
        yield {"k_of": knobs.head(count)}, f"adds the first {count} products of {depth} only"


def batch() -> Iterator[Slip]:
    yield from rows("a_matrix", "a", "matrix of the batch")
    yield from rows("b_matrix", "b", "matrix of the batch")
    yield {"batch": "summed"}, "adds up the results of the whole batch"
    yield {"batch_layout": "MBN"}, "writes the batch as (M, B, N)"


def epilogue() -> Iterator[Slip]:
    yield (
        {"a_scale_at": "swapped", "b_scale_at": "swapped"},
        "swaps the axes of the scales (sA by column, sB by row)",
    )
    yield {"a_scale_at": "swapped"}, "takes sA by column instead of by row (swapped axes)"
    yield {"b_scale_at": "swapped"}, "takes sB by row instead of by column (swapped axes)"
    yield {"bias_at": "swapped"}, "takes the bias by row instead of by column (swapped axes)"
    for name in NARROW:
        yield {"a_scale_format": name}, f"rounds the scale sA to {name}"
        yield {"b_scale_format": name}, f"rounds the scale sB to {name}"
        yield (
            {"a_scale_format": name, "b_scale_format": name},
            f"rounds the scales sA and sB to {name}",
        )
        yield {"bias_format": name}, f"rounds the bias to {name}"
        yield {"acc_format": name}, f"rounds the accumulator to {name}"
    yield {"acc_format": "toward zero"}, "converts the accumulator to fp32 toward zero"
    yield {"bias": "none"}, "leaves out the bias"
    yield {"bias": "after rounding"}, "adds the bias after the rounding to the output dtype"
    yield from rows("a_scale_at", "the scale sA", "row")
    yield from rows("b_scale_at", "the scale sB", "column")
    yield from rows("bias_at", "the bias", "column")


def column_sums() -> Iterator[Slip]:
    yield {"b_type": "u8"}, "reads the signed codes of b as unsigned"
    yield {"b_type": "-127..127"}, "takes code -128 of b for -127"
    yield {"sums": "of the other axis"}, "adds up the wrong axis of b (over N, not over K)"
    yield {"sums": "magnitudes"}, "adds up magnitudes"
    yield {"sums": "negated"}, "gives the sums the wrong sign"
    yield {"b_layout": "KN"}, "reads b as (K, N), not as the K-major (N, K)"
    yield from accumulation("K")
    yield from rows("b_row", "the elements of b", "row")


def azp() -> Iterator[Slip]:
    for how, words in (
        ("added", "adds the zero point's share with the wrong sign (acc + zp * sum)"),
        ("not at all", "does not subtract the zero point's share"),
        ("once", "subtracts the zero point without the column sum"),
        ("times K", "subtracts zero point times K, not times the column sum"),
        ("sums alone", "subtracts the column sum without the zero point"),
        ("saturated", "saturates acc - zp * sum where it is modulo 2**32"),
        ("in fp32", "subtracts the zero point's share in fp32, which rounds beyond 2**24"),
        ("in fp32 fma", "subtracts the zero point's share in fp32 (an FMA)"),
        ("zero point in 8 bits", "keeps the zero point in 8 bits"),
        ("zero point in unsigned 8 bits", "keeps the zero point in unsigned 8 bits"),
        ("zero point in 16 bits", "keeps the zero point in 16 bits"),
    ):
        yield {"azp": how}, words
    yield {"a_type": "other"}, "reads the codes of a as the other dtype (u8 as s8, or s8 as u8)"
    yield (
        {"zero_point_row": "swapped", "sums_at": "swapped"},
        "swaps the axes: zero points by column, column sums by row",
    )
    yield {"zero_point_row": "swapped"}, "takes the zero point by column (swapped axes)"
    yield {"sums_at": "swapped"}, "takes the column sum by row (swapped axes)"
    yield from rows("zero_point_row", "the zero point", "row")
    yield from rows("sums_at", "the column sum", "column")


def requantize() -> Iterator[Slip]:
    for name in NARROW:
        words = f"rounds the epilogue's value to {name} before it is quantized"
        yield {"value_format": name}, words
    yield {"out_scale": "none"}, "leaves out the output scale"
    yield (
        {"out_scale": "with the scales"},
        "divides a's scales and the bias by the output scale before the product",
    )


def gemm_group() -> Iterator[Slip]:
    for order, words in (
        ("descending", "adds the groups in another order: descending"),
        ("pairwise", "adds the groups in another order: pairwise"),
        ("even, then odd", "adds the groups in another order: the even ones, then the odd ones"),
        ("first scales", "adds the groups up in int32 and takes the first group's scales"),
        ("without the last", "leaves out the last group"),
        ("without the first", "leaves out the first group"),
        ("the last alone", "keeps the last group only (overwrites the sum)"),
    ):
        yield {"group_order": order}, words
    yield {"bias": "first"}, "starts the sum over groups from the bias, not from 0"
    yield {"bias": "none"}, "leaves out the bias"
    for which, name, rows_of in (("a", "sA", "row"), ("b", "sB", "column")):
        yield {f"{which}_scales_layout": "QN"}, f"reads the scales {name} as (Q, rows): transposed"
        yield from rows(f"{which}_group_at", f"the scale {name}", "group")
        yield from rows(f"{which}_scale_at", f"the scale {name}", rows_of)
        for form in NARROW:
            yield {f"{which}_scale_format": form}, f"rounds the scale {name} to {form}"
    for form in NARROW:
        yield {"sum_format": form}, f"keeps the sum over groups in {form}"
    yield from output()


def group_accumulation() -> Iterator[Slip]:
    for knob, name in (("a_type", "a"), ("b_type", "b")):
        yield {knob: "u8"}, f"reads the signed codes of {name} as unsigned"
        yield {knob: "-127..127"}, f"takes code -128 of {name} for -127"
    yield from accumulation("G")
    yield from rows("a_row", "the elements of a", "row")
    yield from rows("b_row", "the elements of b", "row (output column)")


def weight_only() -> Iterator[Slip]:
    yield {"scaled": "after the sum"}, "applies the scale after the sum, not to each weight"
    yield {"b_type": "u8"}, "reads the signed codes of the weight as unsigned"
    yield {"scales_layout": "QN"}, "reads the scales as (Q, N): transposed"
    yield {"bias": "none"}, "leaves out the bias"
    yield {"bias": "after rounding"}, "adds the bias after the rounding to the output dtype"
    for form in NARROW:
        yield {"scale_format": form}, f"rounds the scale to {form}"
        yield {"bias_format": form}, f"rounds the bias to {form}"
        yield {"x_format": form}, f"rounds x to {form} first"
    yield from groups(("scale_group",), "the scale")
    yield from rows("scale_row", "the scale", "output channel")
    yield from depths("K")
    yield from output()


def pack() -> Iterator[Slip]:
    for how, words in (
        ("the next row", "the next row's elements"),
        ("the last", "copies of the last element"),
        ("wrapped", "the row again from its start"),
    ):
        yield {"beyond": how}, f"packs {words} beyond K where zeros belong"
    for how, words in (
        ("columns", "column after column within a piece, not row after row"),
        ("words", "by words of 4 columns within a piece, rows within"),
        ("halves swapped", "with the halves of each 64 columns swapped"),
        ("rows far apart", "rows N/8 apart in one panel"),
    ):
        yield {"pack": how}, f"packs {words}"


def packed() -> Iterator[Slip]:
    for order, words in (
        ("plain", "row after row over the whole of K"),
        ("columns", "column after column within a piece"),
        ("chunks first", "chunk after chunk of K, not panel after panel"),
    ):
        yield {"packed": order}, f"reads the packed weights {words}"


def transpose() -> Iterator[Slip]:
    yield {"transpose": "copied"}, "copies the bytes without transposing them"
    for size in (4, 8, 16, 32, 64):
        words = f"moves tiles of {size} to their places, but does not transpose within them"
        yield {"transpose": f"tiles of {size}"}, words


SLIPS: dict[str, Callable[[], Iterator[Slip]]] = {
    "gemm": gemm,
    "batch": batch,
    "epilogue": epilogue,
    "output": output,
    "column sums": column_sums,
    "azp": azp,
    "requantize": requantize,
    "gemm_group": gemm_group,
    "group accumulation": group_accumulation,
    "weight only": weight_only,
    "pack": pack,
    "packed": packed,
    "transpose": transpose,
}
