"""The fields of a dialect, the words that each may take, and the class: see dialects.py."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

Overrides = tuple[tuple[str, tuple[tuple[str, str], ...]], ...]

FIELDS: Mapping[str, tuple[str, ...]] = {
    # The dtype that scale and quotient are rounded to: fp32; x's own after every operation, 1/s
    # included; or the scale to x's own and what follows to fp32.
    "arithmetic": ("fp32", "input", "input scale"),
    # The scale of a symmetric group. The third takes the larger of both ends' scales, each
    # rounded. The fourth multiplies by the float32 nearest to 1/127.
    "scale": ("amax/127", "amax/127.5", "max(-min/128,max/127)", "amax*(1/127)"),
    # A scale that is too small, after its rounding: raised to 2**-23 or to the smallest normal
    # number of the arithmetic's dtype, or, only where it is 0, replaced by the dtype's epsilon
    # (2**-23, fp16 2**-10, bf16 2**-7). A NaN stays. The last, asymmetric only: 1 where min = max.
    "least_scale": ("none", "2^-23", "smallest normal", "eps where 0", "1 where empty"),
    # What is given out as "scales": the scale; amax itself; or the scale rounded to fp16 after the
    # codes were made with the unrounded one.
    "stored": ("scale", "amax", "fp16 scale"),
    # How the system's own compiled code divides. The oracle and both wings divide as IEEE does;
    # reference/approximate.py derives what else is right.
    "division": ("ieee", "div.full", "div.approx"),
    # How a code is made from an element, before rounding.
    "multiplier": ("x/s", "x*(1/s)", "x*(127/amax)"),
    # The same where the scale is given (static quantization): there is no amax then.
    "static_multiplier": ("x/s", "x*(1/s)"),
    # To an integer: rne = nearest, ties to even; truncate = toward zero, as a C cast does; half
    # away = nearest, ties away from zero, as roundf does.
    "rounding": ("rne", "truncate", "half away"),
    "clamp": ("-127..127", "-128..127"),
    # The code of a NaN quotient: 0, or the clamp's lower end, which fmaxf(NaN, -128) gives.
    "nan_code": ("zero", "low"),
    # Where the multiplier's divisor is 0 (s, or amax for 127/amax): code0 = every code is 0;
    # unguarded = plain IEEE, where 0/0 is NaN (code 0) and x/0 infinite (the clamp's end). The
    # third: every code is 0 where amax lies below 2**-24.
    "zero": ("code0", "unguarded", "code0 below 2^-24"),
    # amax of a row that holds a NaN: NaN (scale NaN, all codes 0), or as if it were not there.
    "nan": ("propagate", "skip"),
    # Smallest amax of a group, in the dtype of the arithmetic: a smaller one is raised to it (a NaN
    # stays).
    "floor": ("none", "1e-10", "1e-5"),
    # Asymmetric: whether the range [min, max] of a group is widened to hold 0.
    "azp_range": ("with 0", "as is"),
    # Asymmetric: the zero point, from fp32 min/s and qmin - min/s, one rounding each; then to the
    # nearest integer. Clamped to the codes' range, or any int32.
    "zero_point": (
        "clamp(rne(qmin-min/s))",
        "rne(qmin-min/s)",
        "clamp(qmin-rne(min/s))",
        "clamp(rne(qmin-min/s)), fp32 per tensor",
    ),
    # Asymmetric: an element's rounded quotient (which saturates at int32's ends) plus the zero
    # point, before the clamp: exact, or in int32 with two's complement wrap; or the zero point
    # added before the rounding, the sum rounded to the dtype of `arithmetic`, or in one FMA with
    # x*(1/s).
    "azp_sum": ("exact", "wrap", "before rounding", "fma before rounding"),
    # Results of a norm or an activation before they are quantized: kept in fp32, or rounded to x's
    # own dtype after each step.
    "intermediate": ("fp32", "input"),
    # Sums over a row (reference/functions.py): the order of additions.
    "reduction": ("lanes of 8",),
    # Functions that hardware only approximates, in correctly rounded steps (functions.py).
    "rsqrt": ("1/sqrt",),
    "exp": ("fma",),
    "erf": ("fma",),
    # Left to right, one fp32 rounding each; "fma" is one rounding for product and bias.
    "epilogue": ("acc*sB*sA+bias", "sA*(sB*acc) fma bias", "acc*sA*sB+bias"),
    # Sum over groups along K, in ascending order, from 0: each group's int32 sum is converted and
    # scaled left to right; "fma" is one rounding for the last product and the addition.
    "group_epilogue": ("sum+acc*sB*sA", "fma(acc*sA, sB, sum)"),
    # K beyond which an int32 sum can overflow: an error, or two's complement wrap.
    "k_overflow": ("refuse", "wrap"),
    # Asymmetric: the zero point where min/s is NaN.
    "azp_nan_zero_point": ("0", "qmax", "clamp(qmin+2**31)"),
    # Asymmetric: the code of a NaN quotient: that of the integer 0, 0, or an end of the codes.
    "azp_nan_code": ("zero point", "zero", "low", "high"),
    # Asymmetric: code - zero point when dequantized: in int32, or in the output's dtype.
    "azp_difference": ("int32", "output"),
}


@dataclass(frozen=True)
class Dialect:
    """One system's arithmetic. `inputs` names the dtypes that the system accepts.

    `overrides`: family ("group", "asymmetric", "asymmetric_channel") -> fields in which the
    system's kernels of that family differ from its others; `under(family)` is the dialect with
    them in place.
    """

    name: str
    title: str
    source: str
    inputs: tuple[str, ...]
    arithmetic: str
    multiplier: str
    static_multiplier: str
    rounding: str
    clamp: str
    zero: str
    nan: str
    epilogue: str
    k_overflow: str
    scale: str = "amax/127"
    least_scale: str = "none"
    stored: str = "scale"
    division: str = "ieee"
    nan_code: str = "zero"
    floor: str = "none"
    azp_range: str = "with 0"
    zero_point: str = "clamp(rne(qmin-min/s))"
    azp_sum: str = "exact"
    intermediate: str = "fp32"
    reduction: str = "lanes of 8"
    rsqrt: str = "1/sqrt"
    exp: str = "fma"
    erf: str = "fma"
    group_epilogue: str = "sum+acc*sB*sA"
    azp_nan_zero_point: str = "0"
    azp_nan_code: str = "zero point"
    azp_difference: str = "int32"
    overrides: Overrides = ()

    def under(self, family: str) -> Dialect:
        """This dialect in one family of ops."""
        changed: dict[str, Any] = dict(dict(self.overrides).get(family, ()))
        return replace(self, **changed) if changed else self

    def __post_init__(self) -> None:
        for field, allowed in FIELDS.items():
            value = getattr(self, field)
            if value not in allowed:
                raise ValueError(f"dialect {self.name}: {field} is {value!r}; allowed: {allowed}")

    def code(self, field: str) -> int:
        """Index of this dialect's word for `field`, as the kernels are told it."""
        return FIELDS[field].index(getattr(self, field))

    def codes(self) -> dict[str, int]:
        """Every field's index: the compile-time constants of a kernel."""
        return {field: self.code(field) for field in FIELDS}

    @property
    def clamp_range(self) -> tuple[int, int]:
        """(lowest code, highest code)."""
        low, high = self.clamp.split("..")
        return int(low), int(high)
