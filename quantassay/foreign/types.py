"""Types of a kernel's arguments, and its C++ parameters as their compiler sees them.

Contract: a type is known by its short name (i32, f16, ...); other spellings that engineers use
(int, half, fp16, s32, int64_t) mean the same. `Parameter` is what is known of one kernel parameter:
its size always, its kind and element type where the compiler told them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np

SCALARS: Mapping[str, np.dtype[Any]] = {
    "i8": np.dtype(np.int8),
    "u8": np.dtype(np.uint8),
    "i16": np.dtype(np.int16),
    "u16": np.dtype(np.uint16),
    "i32": np.dtype(np.int32),
    "u32": np.dtype(np.uint32),
    "i64": np.dtype(np.int64),
    "u64": np.dtype(np.uint64),
    "f16": np.dtype(np.float16),
    "bf16": np.dtype(ml_dtypes.bfloat16),
    "f32": np.dtype(np.float32),
    "f64": np.dtype(np.float64),
    "bool": np.dtype(np.bool_),
}
FLOATS = ("f16", "bf16", "f32", "f64")
_SPELLINGS = {
    "s8": "i8", "s16": "i16", "s32": "i32", "s64": "i64", "fp16": "f16", "fp32": "f32",
    "fp64": "f64", "half": "f16", "float": "f32", "double": "f64", "char": "i8", "short": "i16",
    "int": "i32", "long": "i64", "unsigned": "u32", "size_t": "u64",
    **{f"int{n}_t": f"i{n}" for n in (8, 16, 32, 64)},
    **{f"uint{n}_t": f"u{n}" for n in (8, 16, 32, 64)},
}  # fmt: skip

# What the probe (cuda_source.py) calls a C++ type: (short name, C++ name) by number.
CPP: Mapping[int, tuple[str, str]] = {
    1: ("f32", "float"),
    2: ("f16", "__half"),
    3: ("bf16", "__nv_bfloat16"),
    4: ("f64", "double"),
    5: ("i8", "signed char"),
    6: ("i8", "char"),
    7: ("u8", "unsigned char"),
    8: ("i16", "short"),
    9: ("u16", "unsigned short"),
    10: ("i32", "int"),
    11: ("u32", "unsigned int"),
    12: ("i64", "long"),
    13: ("u64", "unsigned long"),
    14: ("i64", "long long"),
    15: ("u64", "unsigned long long"),
    16: ("bool", "bool"),
    17: ("", "void"),
}
DTYPE_OF = {"f32": "fp32", "f16": "fp16", "bf16": "bf16", "i8": "s8", "u8": "u8", "i32": "s32"}
CPP_OF = {
    "fp32": "float", "fp16": "__half", "bf16": "__nv_bfloat16",
    "s8": "signed char", "u8": "unsigned char", "s32": "int",
}  # fmt: skip


def known(name: str) -> str | None:
    """The short name of a type, however it is spelled; None for no type."""
    short = _SPELLINGS.get(name, name)
    return short if short in SCALARS else None


@dataclass(frozen=True)
class Parameter:
    """One parameter of a kernel.

    size: bytes. pointer: None where it is not known (PTX does not say). element: the short name of
    the scalar's or of the pointed-to type, "" where it is another type or not known. words: the
    type as messages show it ("const float*", ".u64").
    """

    size: int
    words: str
    pointer: bool | None = None
    element: str = ""
