"""Slips of quantization, symmetric and asymmetric, by row, tensor or group, and of its inverse."""

from __future__ import annotations

from collections.abc import Iterator

from quantassay.diagnosis import knobs
from quantassay.diagnosis.slips import NARROW, Slip, groups, output, places, rows, subsets


def quantize() -> Iterator[Slip]:
    for name in NARROW:
        yield {"used_format": name}, f"divides by the scale rounded to {name}"
        yield {"input_format": name}, f"rounds x to {name} first"
    yield {"factor_format": "own"}, "rounds the factor of x (1/s, 127/amax) to x's own dtype"
    yield {"flush": "inputs"}, "flushes subnormals of x to zero"
    yield {"flush": "all"}, "flushes subnormals to zero (ftz)"


def row_scales() -> Iterator[Slip]:
    yield from rows("scale_row", "the scale", "row")


def dynamic() -> Iterator[Slip]:
    for name in NARROW:
        yield {"scale_format": name}, f"rounds the scale to {name} before it is used and stored"
    yield {"stored_format": "bf16"}, "stores the scale rounded to bf16"
    for levels in (128, 126, 255):
        yield {"levels": levels}, f"takes amax/{levels:g} as the scale instead of amax/127"
    yield {"amax_signed": True}, "takes the largest element, not the largest magnitude, as amax"
    for value in (float("nan"), float("inf")):
        yield {"zero_scale": value}, f"gives a zero row the scale {value:g} instead of 0"
    for least in (1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-10, 1e-12):
        yield {"least_scale": least}, f"floors the scale at {least:g}"
        if least not in (1e-5, 1e-10):  # words of the dialects
            yield {"least_amax": least}, f"floors amax at {least:g}"


def by_row() -> Iterator[Slip]:
    yield {"amax_over": "tensor"}, "takes amax over the whole tensor instead of each row"
    yield from subsets("row")


def by_tensor() -> Iterator[Slip]:
    yield {"amax_over": "row"}, "takes amax over one row instead of the whole tensor"
    yield from subsets("tensor")


def _late(what: str) -> Iterator[Slip]:
    """Ranges of groups that begin one element late or early, or lie elsewhere."""
    for name in ("the next", "the next (cyclic)", "the previous", "the previous (cyclic)"):
        end = "late" if "next" in name else "early"
        yield (
            {"range_of": knobs.ROWS[name]},
            f"takes {what} over groups that begin one element too {end} (index off by one; at the "
            f"row's end: {'cyclic' if 'cyclic' in name else 'cut off'})",
        )
    yield {"range_layout": "interleaved"}, f"takes {what} over every Q-th element (k % Q)"


def _stored(what: str) -> Iterator[Slip]:
    for name, index in knobs.ROWS.items():
        yield {"stored_group": index}, f"stores {what} at the place of another group: {name}"
    yield {"stored_layout": "QM"}, f"stores {what} transposed, as (Q, M)"


def by_group() -> Iterator[Slip]:
    yield {"amax_over": "row"}, "takes amax over the whole row instead of each group"
    yield {"amax_over": "tensor"}, "takes amax over the whole tensor instead of each group"
    yield from _late("amax")
    yield from _stored("each scale")
    yield from subsets("group")


def group_scales() -> Iterator[Slip]:
    yield from groups(("scale_group",), "the scale")


def dequantize() -> Iterator[Slip]:
    yield {"a_type": "u8"}, "reads the signed codes as unsigned"
    yield {"a_type": "-127..127"}, "takes code -128 for -127"
    yield {"divide": True}, "divides by the scale where it should multiply"
    yield {"scale_axis": "column"}, "takes the scale by column where it goes by row (swapped axes)"
    yield from rows("scale_row", "the scale", "row")
    for name in NARROW:
        yield {"scale_format": name}, f"rounds the scale to {name}"
    yield from output()


# --- asymmetric


def asymmetric() -> Iterator[Slip]:
    """A scale and a zero point from min and max."""
    for levels in (256, 254, 127, 128):
        yield {"levels": levels}, f"takes (max - min)/{levels} as the scale instead of /255"
    yield {"qmin_of": "other"}, "takes the zero point for the other code dtype's range (u8 and s8)"
    yield {"zero_point_inverse": True}, "takes min * (1/s) in the zero point instead of min/s"
    for rounding in ("truncate", "floor", "ceil", "half away"):
        yield {"zero_point_rounding": rounding}, f"rounds the zero point by {rounding}, not RNE"
    for name in NARROW:
        yield {"scale_format": name}, f"rounds the scale to {name} before it is used and stored"
        yield {"stored_format": name}, f"stores the scale rounded to {name}"
    yield {"stored": "inverse"}, "stores the inverse of the scale"
    for value in (1.0, float("nan")):
        yield {"zero_scale": value}, f"takes the scale {value:g} where it is 0"
    for least in (1e-5, 1e-6, 1e-8, 1e-10, 1e-12):
        yield {"least_scale": least}, f"floors the scale at {least:g}"


def asymmetric_codes() -> Iterator[Slip]:
    yield {"zero_point_added": "subtracted"}, "subtracts the zero point where it should add it"
    yield {"zero_point_added": "not at all"}, "leaves out the zero point"
    yield {"code_clamp": "none"}, "does not clamp: a code beyond 8 bits keeps its low byte"
    yield {"code_clamp": "symmetric"}, "clamps to the codes' range without its lowest code"
    yield {"code_clamp": "127 levels"}, "clamps to half of the codes' range"
    for name in NARROW:
        yield {"used_format": name}, f"divides by the scale rounded to {name}"
        yield {"input_format": name}, f"rounds x to {name} first"


def asymmetric_static() -> Iterator[Slip]:
    yield {"of_channel": {}}, "quantizes with a scale per row, per channel as it is per tensor"


def asymmetric_row_scales() -> Iterator[Slip]:
    yield from _both_of("row")


def _both_of(axis: str) -> Iterator[Slip]:
    """The zero point, the scale, or both of another row."""
    yield from rows("zero_point_row", "the zero point", axis)
    yield from rows("scale_row", "the scale", axis)
    yield from places(("scale_row", "zero_point_row"), "scale and zero point", axis)


def asymmetric_groups() -> Iterator[Slip]:
    yield from groups(("zero_point_group",), "the zero point")
    yield from groups(("scale_group",), "the scale")
    yield from groups(("scale_group", "zero_point_group"), "scale and zero point")


def asymmetric_by_row() -> Iterator[Slip]:
    yield {"amax_over": "tensor"}, "takes min and max over the whole tensor instead of each row"
    yield from subsets("row", "min and max")


def asymmetric_by_tensor() -> Iterator[Slip]:
    yield {"amax_over": "row"}, "takes min and max over one row instead of the whole tensor"
    yield from subsets("tensor", "min and max")


def asymmetric_by_group() -> Iterator[Slip]:
    yield {"amax_over": "row"}, "takes min and max over the whole row instead of each group"
    yield from _late("min and max")
    yield from _stored("scale and zero point")
    yield from subsets("group", "min and max")


def asymmetric_dequantize() -> Iterator[Slip]:
    yield {"a_type": "other"}, "reads the codes as the other dtype (u8 as s8, or s8 as u8)"
    for how, words in (
        ("without", "leaves out the zero point"),
        ("added", "adds the zero point where it should subtract it"),
        ("reversed", "subtracts the code from the zero point (wrong sign)"),
        ("int64", "takes code - zero point without int32's wrap"),
        ("fp32", "subtracts code and zero point in fp32, which rounds beyond 2**24"),
        ("int16", "takes code - zero point in 16 bits"),
        ("int8", "takes code - zero point in 8 bits, which wraps"),
        ("code*s-zp*s", "multiplies code and zero point by the scale apart (code*s - zp*s)"),
        ("code*s-zp*s fma", "contracts code*s - zp*s into an FMA"),
    ):
        yield {"difference": how}, words
    yield from _both_of("row")
    for name in NARROW:
        yield {"scale_format": name}, f"rounds the scale to {name}"
    yield from output()


SLIPS = {
    "quantize": quantize,
    "dynamic": dynamic,
    "row scales": row_scales,
    "row": by_row,
    "tensor": by_tensor,
    "group": by_group,
    "group scales": group_scales,
    "dequantize": dequantize,
    "asymmetric": asymmetric,
    "asymmetric codes": asymmetric_codes,
    "asymmetric static": asymmetric_static,
    "asymmetric row scales": asymmetric_row_scales,
    "asymmetric row": asymmetric_by_row,
    "asymmetric tensor": asymmetric_by_tensor,
    "asymmetric group": asymmetric_by_group,
    "asymmetric group scales": asymmetric_groups,
    "asymmetric dequantize": asymmetric_dequantize,
}
