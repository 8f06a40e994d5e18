"""gguf, bitsandbytes, NVIDIA ModelOpt and SmoothQuant's own file on the CPU."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import bitsandbytes.functional
import gguf
import numpy as np
import torch
from modelopt.torch.quantization.tensor_quant import _tensor_quant

from reference.approximate import allowed
from tests.packages.peer import Difference, Known, Peer
from tests.packages.tensors import array, tensor

ALL = ("fp32", "fp16", "bf16")
BLOCK = 32  # elements of a Q8_0 block: fp16 scale, then the codes


def _q8_0(inputs: Mapping[str, Any]) -> tuple[np.ndarray, ...]:
    x = np.ascontiguousarray(inputs["x"], np.float32)
    packed = gguf.quants.quantize(x, gguf.GGMLQuantizationType.Q8_0)
    blocks = packed.reshape(x.shape[0], -1, 2 + BLOCK)
    scales = np.ascontiguousarray(blocks[..., :2]).view(np.float16)[..., 0]
    codes = np.ascontiguousarray(blocks[..., 2:]).view(np.int8).reshape(x.shape)
    return codes, scales.astype(np.float32)


def _vectorwise(inputs: Mapping[str, Any]) -> tuple[np.ndarray, ...]:
    codes, stats, _ = bitsandbytes.functional.int8_vectorwise_quant(tensor(inputs["x"]))
    return array(codes), array(stats)


def _modelopt(per_tensor: bool) -> Any:
    """ModelOpt's fake quantization gives code / (127 / amax): the codes are found back from it."""

    def run(inputs: Mapping[str, Any]) -> tuple[np.ndarray | None, ...]:
        x = tensor(inputs["w"] if "w" in inputs else inputs["x"]).float()
        amax = x.abs().amax().reshape(1, 1) if per_tensor else x.abs().amax(-1, keepdim=True)
        values = _tensor_quant(x, amax)
        codes = torch.round(values.double() * (127.0 / amax.double())).nan_to_num(0.0, 0.0, 0.0)
        return array(codes.to(torch.int8)), None

    return run


def _allowed(one: Difference) -> Any:
    lowest, highest = _bounds(one)
    return (lowest <= one.theirs) & (one.theirs <= highest)


def _bounds(one: Difference) -> tuple[np.ndarray, np.ndarray]:
    found = allowed("int8.quantize_per_token", one.inputs, {"dialect": "bitsandbytes"})[0]
    assert found is not None
    return found


def _nan_row(one: Difference) -> Any:
    rows = np.isnan(one.inputs["x"]).any(axis=1)
    return rows if one.ours.ndim == 1 else rows[:, None]


def _infinite_quotient(one: Difference) -> Any:
    """Elements of blocks whose scale d has no finite reciprocal."""
    x = one.inputs["x"].astype(np.float32)
    with np.errstate(all="ignore"):
        d = np.abs(x).reshape(len(x), -1, BLOCK).max(axis=2, keepdims=True) / np.float32(127)
        infinite = np.isinf(np.float32(1) / d) & (d != 0)
    return (one.theirs == 0) & np.broadcast_to(infinite, (*d.shape[:2], BLOCK)).reshape(x.shape)


APPROXIMATE = Known(
    "the CPU computes 127 * (1/amax), the CUDA kernel __fdividef(127, amax): inside the set of "
    "codes that __fdividef allows (reference/approximate.py)",
    _allowed,
)
NAN_ROW = Known("torch.max gives NaN for a row that holds one, the CUDA kernel skips it", _nan_row)
OPEN = Known(
    "1/d overflows: an infinity's conversion to an integer is open in C, 0 in NumPy here, the "
    "clamp's end in the dialect",
    _infinite_quotient,
)
AT_EPSILON = Known(
    "amax is 2**-24: the CPU's code gives 0 there (<=), the CUDA kernel does not (<)",
    lambda one: np.abs(one.inputs["x"].astype(np.float32)).max(axis=1, keepdims=True) == 2.0**-24,
)


def peers() -> list[Peer]:
    """All of them."""
    called = "tensor_quant._tensor_quant"
    return [
        Peer("gguf", "quants.quantize (Q8_0)", "int8.quantize_per_group", "gguf", ALL, _q8_0,
             group=BLOCK, known={"codes": (OPEN,)}),
        Peer("bitsandbytes", "int8_vectorwise_quant (CPU)", "int8.quantize_per_token",
             "bitsandbytes", ("fp16",), _vectorwise,
             known={"codes": (NAN_ROW, APPROXIMATE), "scales": (NAN_ROW,)}),
        Peer("nvidia-modelopt", called, "int8.quantize_per_token", "modelopt", ALL,
             _modelopt(False), known={"codes": (AT_EPSILON,)}),
        Peer("nvidia-modelopt", called, "int8.quantize_per_tensor", "modelopt", ALL,
             _modelopt(True)),
    ]  # fmt: skip
