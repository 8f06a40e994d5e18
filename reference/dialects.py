"""A dialect is data: how one system computes what everybody calls "INT8 symmetric quantization".

Contract: a kernel is bit-exact only relative to one named dialect. Each field below takes one of a
fixed tuple of words; `Dialect.code(field)` is the word's index, which both wings pass to their
compilers, so that oracle and kernels branch on the same table.

What holds in every dialect: scale = amax / 127, an IEEE division whose subnormal results are kept;
an infinite quotient becomes the clamp's end; NaN outputs have the GPU's canonical bits (fp32
0x7fffffff, fp16 and bf16 0x7fff).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

Overrides = tuple[tuple[str, tuple[tuple[str, str], ...]], ...]

FIELDS: Mapping[str, tuple[str, ...]] = {
    # The dtype that scale and quotient are rounded to: fp32, or x's own after every operation.
    "arithmetic": ("fp32", "input"),
    # How a code is made from an element, before rounding.
    "multiplier": ("x/s", "x*(1/s)", "x*(127/amax)"),
    # The same where the scale is given (static quantization): there is no amax then.
    "static_multiplier": ("x/s", "x*(1/s)"),
    # To an integer: rne = nearest, ties to even; truncate = toward zero, as a C cast does.
    "rounding": ("rne", "truncate"),
    "clamp": ("-127..127", "-128..127"),
    # The code of a NaN quotient: 0, or the clamp's lower end, which fmaxf(NaN, -128) gives.
    "nan_code": ("zero", "low"),
    # Where the multiplier's divisor is 0 (s, or amax for 127/amax): code0 = every code is 0;
    # unguarded = plain IEEE, where 0/0 is NaN (code 0) and x/0 infinite (the clamp's end).
    "zero": ("code0", "unguarded"),
    # amax of a row that holds a NaN: NaN (scale NaN, all codes 0), or as if it were not there.
    "nan": ("propagate", "skip"),
    # Smallest amax of a group: a smaller one is raised to it (a NaN stays).
    "floor": ("none", "1e-10"),
    # Asymmetric: whether the range [min, max] of a group is widened to hold 0.
    "azp_range": ("with 0", "as is"),
    # Asymmetric: the zero point, from fp32 min/s and qmin - min/s, one rounding each; then to the
    # nearest integer. Clamped to the codes' range, or any int32.
    "zero_point": ("clamp(rne(qmin-min/s))", "rne(qmin-min/s)"),
    # Asymmetric: an element's rounded quotient (which saturates at int32's ends) plus the zero
    # point, before the clamp: exact, or in int32 with two's complement wrap.
    "azp_sum": ("exact", "wrap"),
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
}


@dataclass(frozen=True)
class Dialect:
    """One system's arithmetic. `inputs` names the dtypes that the system accepts.

    `overrides`: family ("group", "asymmetric") -> fields in which the system's kernels of that
    family differ from its others; `under(family)` is the dialect with them in place.
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


_ALL = ("fp32", "fp16", "bf16")

DIALECTS: dict[str, Dialect] = {
    d.name: d
    for d in (
        Dialect(
            name="ieee",
            title="IEEE: the textbook formula, every operation correctly rounded",
            source="quantassay; s = amax/127, q = clamp(RNE(x/s))",
            inputs=_ALL,
            arithmetic="fp32",
            multiplier="x/s",
            static_multiplier="x/s",
            rounding="rne",
            clamp="-127..127",
            zero="code0",
            nan="propagate",
            epilogue="acc*sB*sA+bias",
            k_overflow="refuse",
        ),
        Dialect(
            name="vllm",
            title="vLLM: dynamic_scaled_int8_quant and the CUTLASS scaled_mm epilogue",
            source="vllm csrc/quantization/w8a8/int8/scaled_quant.cu; "
            "csrc/cutlass_extensions/epilogue/scaled_mm_epilogues_c2x.hpp",
            inputs=_ALL,
            arithmetic="fp32",
            multiplier="x*(127/amax)",
            static_multiplier="x/s",
            rounding="rne",
            clamp="-128..127",
            zero="code0",
            nan="skip",
            epilogue="sA*(sB*acc) fma bias",
            k_overflow="wrap",
            azp_range="as is",
            zero_point="rne(qmin-min/s)",
            azp_sum="wrap",
            intermediate="input",
            group_epilogue="fma(acc*sA, sB, sum)",
            overrides=(
                (
                    "asymmetric",
                    (
                        ("multiplier", "x*(1/s)"),
                        ("static_multiplier", "x*(1/s)"),
                        ("zero", "unguarded"),
                    ),
                ),
                (
                    "group",
                    (
                        ("multiplier", "x/s"),
                        ("rounding", "truncate"),
                        ("nan_code", "low"),
                        ("floor", "1e-10"),
                    ),
                ),
            ),
        ),
        Dialect(
            name="article_cuda",
            title="The article's CUDA kernel: multiply by 1/s",
            source="seed article on dynamic quantization, kernel quantize_per_token_int8",
            inputs=_ALL,
            arithmetic="fp32",
            multiplier="x*(1/s)",
            static_multiplier="x*(1/s)",
            rounding="rne",
            clamp="-128..127",
            zero="code0",
            nan="skip",
            epilogue="acc*sA*sB+bias",
            k_overflow="wrap",
        ),
        Dialect(
            name="article_torch",
            title="The article's torch formula: every operation in fp16",
            source="seed article on dynamic quantization, w8a8_per_token_per_channel",
            inputs=("fp16",),
            arithmetic="input",
            multiplier="x/s",
            static_multiplier="x/s",
            rounding="rne",
            clamp="-128..127",
            zero="unguarded",
            nan="propagate",
            epilogue="acc*sA*sB+bias",
            k_overflow="refuse",
        ),
    )
}


def dialect(name: str) -> Dialect:
    """The dialect called `name`. Raises ValueError that lists the known ones."""
    try:
        return DIALECTS[name]
    except (KeyError, TypeError):
        raise ValueError(f"dialect: got {name!r}; allowed: {', '.join(DIALECTS)}") from None


def differences(a: str, b: str) -> dict[str, tuple[str, str]]:
    """The fields in which two dialects differ: field -> (a's word, b's word)."""
    first, second = dialect(a), dialect(b)
    return {
        field.name: (getattr(first, field.name), getattr(second, field.name))
        for field in fields(Dialect)
        if field.name in FIELDS and getattr(first, field.name) != getattr(second, field.name)
    }
