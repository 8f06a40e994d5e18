"""The words of a dialect's fields, by stage of an op: value -> what a kernel does that has it.

Contract: every value of reference.dialects.FIELDS has words in at least one stage; values beyond
the dialects' own are frequent mistakes. The words complete the sentence "the kernel ...".
"""

from __future__ import annotations

ROUNDING = {
    "rne": "rounds to the nearest even",
    "half away": "rounds halves away from zero",
    "truncate": "truncates toward zero",
    "half_toward_zero": "rounds halves toward zero",
    "half_up": "rounds halves up (floor(v + 0.5))",
    "floor": "rounds down (floor)",
    "ceil": "rounds up (ceil)",
    "trunc(x+-0.5)": "rounds by trunc(v +- 0.5), which is wrong just below a half",
}
RECIPROCAL = "multiplies by the reciprocal of the scale (x*(1/s)) instead of dividing"
STATIC = {
    "x/s": "divides by the scale (x/s)",
    "x*(1/s)": RECIPROCAL,
    "x*s": "multiplies by the scale where it should divide",
}
ARITHMETIC = {  # of asymmetric ops
    "fp32": "computes in fp32",
    "input": "rounds scale, zero point, quotient and sum to x's own dtype",
    "input scale": "rounds scale and zero point to x's own dtype, but not the codes' quotient",
}

FIELDS: dict[str, dict[str, dict[str, str]]] = {
    "quantize": {
        "rounding": ROUNDING,
        "nan_code": {
            "zero": "gives a NaN quotient code 0",
            "low": "gives a NaN quotient the lowest code",
            "high": "gives a NaN quotient the highest code",
        },
        "clamp": {
            "-127..127": "clamps to -127..127",
            "-128..127": "clamps to -128..127",
            "none": "does not clamp: an integer beyond int8 keeps its low byte",
        },
        "arithmetic": {
            "fp32": "computes scale and quotient in fp32",
            "input": "rounds scale and quotient to x's own dtype",
            "input scale": "rounds the scale to x's own dtype, but not what follows",
        },
    },
    "dynamic": {
        "scale": {
            "amax/127": "takes amax/127 as the scale",
            "amax/127.5": "takes amax/127.5 as the scale",
            "max(-min/128,max/127)": "takes the larger of -min/128 and max/127 as the scale",
            "amax*(1/127)": "multiplies amax by 1/127 for the scale",
        },
        "least_scale": {
            "none": "takes the scale as it is, however small",
            "2^-23": "floors the scale at 2**-23",
            "smallest normal": "floors the scale at the smallest normal number",
            "eps where 0": "takes the epsilon of its dtype for a zero scale",
            "1 where empty": "gives a zero row the scale 1",
        },
        "stored": {
            "scale": "stores the scale as codes were made with it",
            "amax": "stores amax in place of the scale",
            "fp16 scale": "stores the scale rounded to fp16",
            "inverse": "stores the inverse of the scale",
        },
        "multiplier": {
            "x/s": "divides by the scale (x/s)",
            "x*(1/s)": RECIPROCAL,
            "x*(127/amax)": "multiplies by 127/amax (x*(127/amax))",
            "x*s": "multiplies by the scale where it should divide",
        },
        "zero": {
            "code0": "gives code 0 where the divisor is 0",
            "unguarded": "does not guard the zero divisor (x/0 saturates)",
            "code0 below 2^-24": "gives code 0 where amax lies below 2**-24",
        },
        "nan": {
            "propagate": "lets a NaN into amax",
            "skip": "ignores NaN in amax",
        },
        "floor": {
            "none": "takes amax as it is, however small",
            "1e-10": "floors amax at 1e-10",
            "1e-5": "floors amax at 1e-5",
        },
    },
    "static": {"static_multiplier": STATIC},
    "asymmetric": {
        "azp_range": {
            "with 0": "widens the range to hold 0",
            "as is": "does not widen the range to hold 0 (min and max as they are)",
            "symmetric": "makes the range symmetric about 0 (amax on both sides)",
            "min with 0": "lets the range hold 0 from above only (max is not raised to 0)",
            "max with 0": "lets the range hold 0 from below only (min is not lowered to 0)",
        },
        "zero_point": {
            "clamp(rne(qmin-min/s))": "rounds qmin - min/s to the zero point and clamps it to the "
            "codes' range",
            "rne(qmin-min/s)": "rounds qmin - min/s to the zero point and leaves it unclamped",
            "clamp(qmin-rne(min/s))": "rounds min/s before it is subtracted from qmin, and clamps",
            "clamp(rne(qmin-min/s)), fp32 per tensor": "rounds qmin - min/s to the zero point and "
            "clamps it, per tensor with a difference in fp32",
            "qmin-rne(min/s)": "rounds min/s before it is subtracted from qmin",
            "clamp(rne(qmax-max/s))": "takes the zero point from the maximum (qmax - max/s), "
            "clamped",
            "rne(qmax-max/s)": "takes the zero point from the maximum (qmax - max/s)",
        },
        "multiplier": {
            **STATIC,
            "x*(255/range)": "multiplies by 255/(max - min) (x*(255/range))",
        },
        "zero": {
            "code0": "gives zero point 0 and quotient 0 where the scale is 0",
            "unguarded": "does not guard the zero scale (min/0, x/0)",
        },
        "nan": {
            "propagate": "lets a NaN into min and max",
            "skip": "ignores NaN in min and max",
        },
        "least_scale": {
            "none": "takes the scale as it is, however small",
            "2^-23": "floors the scale at 2**-23",
            "smallest normal": "floors the scale at the smallest normal number of x's dtype",
            "eps where 0": "takes the epsilon of x's dtype for a zero scale, behind the zero point",
            "1 where empty": "takes the scale 1 for an empty range (all zeros)",
        },
        "azp_nan_zero_point": {
            "0": "gives a NaN range the zero point 0",
            "qmin": "gives a NaN range the lowest zero point",
            "qmax": "gives a NaN range the highest zero point",
            "clamp(qmin+2**31)": "takes NaN for -2**31 in the zero point, and wraps",
        },
        "arithmetic": ARITHMETIC,
    },
    "asymmetric static": {"static_multiplier": STATIC, "arithmetic": ARITHMETIC},
    "asymmetric codes": {
        "rounding": ROUNDING,
        "azp_sum": {
            "before rounding": "adds the zero point before rounding (RNE(x/s + zero point))",
            "fma before rounding": "adds the zero point before rounding, in an FMA "
            "(RNE(fma(x, 1/s, zero point)))",
            "exact": "adds the zero point after rounding, exactly",
            "wrap": "adds the zero point after rounding, in int32, which wraps",
            "saturate": "adds the zero point after rounding, in int32, saturating",
        },
        "azp_nan_code": {
            "zero point": "gives a NaN the code of 0, the zero point",
            "zero": "gives a NaN code 0",
            "low": "gives a NaN the lowest code",
            "high": "gives a NaN the highest code",
        },
    },
    "asymmetric dequantize": {
        "azp_difference": {
            "int32": "subtracts the zero point in int32",
            "output": "rounds code - zero point to the output's dtype",
        },
    },
    "epilogue": {
        "epilogue": {
            "acc*sB*sA+bias": "multiplies by sB, then by sA, then adds the bias",
            "acc*sA*sB+bias": "multiplies by sA, then by sB, then adds the bias",
            "acc*(sA*sB)+bias": "multiplies the two scales first (acc*(sA*sB)), then adds the bias",
            "sA*(sB*acc) fma bias": "contracts the last product and the bias into an FMA "
            "(fma(acc*sB, sA, bias): one rounding)",
            "sB*(sA*acc) fma bias": "contracts the last product and the bias into an FMA "
            "(fma(acc*sA, sB, bias): one rounding)",
            "(sA*sB)*acc fma bias": "multiplies the two scales first and contracts with the bias "
            "into an FMA (fma(acc, sA*sB, bias))",
            "(acc+bias)*sB*sA": "adds the bias before the scales are applied ((acc+bias)*sB*sA)",
            "(acc+bias)*sA*sB": "adds the bias before the scales are applied ((acc+bias)*sA*sB)",
            "(acc+bias)*(sA*sB)": "adds the bias before the scales are applied",
            "(acc*sB+bias)*sA": "adds the bias before the scale sA is applied",
            "(acc*sA+bias)*sB": "adds the bias before the scale sB is applied",
            "acc*sB+bias": "leaves out the scale sA",
            "acc*sA+bias": "leaves out the scale sB",
            "fp64": "computes in double precision and rounds once",
        },
    },
    "gemm_group": {
        "group_epilogue": {
            "sum+acc*sB*sA": "multiplies each group's sum by sB, then by sA, then adds it",
            "fma(acc*sA, sB, sum)": "contracts a group's last product and the addition into an FMA "
            "(fma(acc*sA, sB, sum): one rounding)",
            "sum+acc*sA*sB": "multiplies each group's sum by sA, then by sB, then adds it",
            "fma(acc*sB, sA, sum)": "contracts a group's last product and the addition into an FMA "
            "(fma(acc*sB, sA, sum): one rounding)",
            "sum+acc*(sA*sB)": "multiplies a group's two scales first (acc*(sA*sB)), then adds",
            "fma(acc, sA*sB, sum)": "multiplies a group's two scales first and contracts with the "
            "addition into an FMA (fma(acc, sA*sB, sum))",
            "sum+acc*sA": "leaves out the group scale sB",
            "sum+acc*sB": "leaves out the group scale sA",
            "fp64": "adds the groups up in double precision and rounds once",
        },
    },
    "steps": {
        "intermediate": {
            "fp32": "keeps the results between the steps in fp32",
            "input": "rounds the results between the steps to x's own dtype",
            "y": "rounds only the first step's result to x's own dtype",
            "z": "rounds the last product to x's own dtype, but not what goes into it",
            "z and bias": "rounds product and sum to x's own dtype, but not what goes into them",
            "bias": "rounds only the last sum to x's own dtype",
        },
    },
    "sums": {
        "reduction": {
            "lanes of 8": "adds up a row by lanes that take 8 neighbours in turn, then butterflies",
            "sequential": "adds up a row one element after another",
            "pairwise": "adds up a row in another order: pairwise, neighbours first",
            "numpy": "adds up a row in another order: numpy's",
            "fp64": "adds up a row in double precision",
            "product and sum rounded apart": "rounds each product before it is added (no fma)",
            "lanes of 4": "adds up a row in another order: lanes take 4 neighbours in turn, not 8",
            "lanes of 2": "adds up a row in another order: lanes take 2 neighbours in turn, not 8",
            "lanes of 1": "adds up a row in another order: lanes take single elements in turn",
            "warps in turn": "adds the warps' sums one after another, not by a butterfly",
        },
    },
    "norm": {
        "rsqrt": {
            "1/sqrt": "takes 1/sqrt, each correctly rounded",
            "one rounding": "takes an rsqrt of one rounding",
            "sqrt(1/v)": "takes sqrt(1/v)",
            "x/sqrt": "divides by the root (x/sqrt) where the contract multiplies by 1/sqrt",
            "newton": "takes an rsqrt of a Newton step",
            "fp16": "rounds 1/sqrt to fp16",
            "sqrt": "multiplies by the root, not by its inverse",
            "1/v": "divides by the mean square, without the root",
        },
    },
    "exp": {
        "exp": {
            "fma": "takes exp in the contract's fma steps",
            "numpy": "takes numpy's exp in fp32 (a library's, not the contract's steps)",
            "fp64": "takes exp in double precision and rounds it",
            "exp2": "takes exp(x) as exp2(x * log2(e))",
        },
    },
    "erf": {
        "erf": {
            "fma": "takes erf in the contract's fma steps",
            "fp64": "takes erf in double precision and rounds it (a library's)",
        },
    },
}
