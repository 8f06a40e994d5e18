"""The INT8 ops once more, with every choice a knob: what a wrong kernel may have computed.

Contract: `run(op, inputs, settings)` computes an op in plain NumPy under `settings`, a mapping
from knob to value. `settings(op, dialect, options)` gives the dialect's own words in the op's
family, under which the outputs equal the oracle's byte for byte (a test holds them equal: this is a
second implementation, written from the contracts). Turning one knob gives a kernel that is wrong in
one way; diagnose.py turns them to find the one that reproduces a kernel's bits. No model exists for
an op whose name is not in MODELS.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from quantassay.diagnosis import (
    model_asymmetric,
    model_group_products,
    model_products,
    model_rows,
    model_values,
)
from quantassay.diagnosis.knobs import Settings
from quantassay.diagnosis.model_rows import Outputs
from reference.asymmetric import CHANNEL, asymmetric
from reference.dialects import FIELDS, Dialect, dialect

MODELS = {
    **model_rows.MODELS,
    **model_asymmetric.MODELS,
    **model_products.MODELS,
    **model_group_products.MODELS,
    **model_values.MODELS,
}
GROUPED = ("int8.quantize_per_group", "int8.quantize_static_per_group", "int8.dequantize_per_group")


def spoken(op: str, dialect_name: str) -> Dialect:
    """The dialect as this op speaks it: under the op's family, if it has one."""
    if op in model_asymmetric.MODELS:
        return asymmetric(dialect_name, op.removeprefix("int8.asymmetric_"))
    return dialect(dialect_name).under("group" if op in GROUPED else "")


def settings(op: str, dialect_name: str, options: Mapping[str, str]) -> dict[str, Any]:
    """Every knob at the dialect's own value; knobs that no dialect has are left out.

    options: the call's; what is missing (out_dtype, code_dtype, form) stands at its usual value.
    """
    words = spoken(op, dialect_name)
    usual = {"out_dtype": "fp32", "code_dtype": "u8", "form": "erf"}
    own = {field: getattr(words, field) for field in FIELDS}
    channel = words.under(CHANNEL) if op == "int8.asymmetric_static" else words
    pairs = {field: (own[field], getattr(channel, field)) for field in FIELDS}
    of_channel = {field: pair for field, pair in pairs.items() if pair[0] != pair[1]}
    return {**own, "of_channel": of_channel, **usual, **options}


def run(op: str, inputs: Mapping[str, Any], knobs: Settings) -> Outputs:
    """The op's outputs under these knobs. Raises KeyError for an op without a model."""
    with np.errstate(all="ignore"):
        return MODELS[op](inputs, knobs)
