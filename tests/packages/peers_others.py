"""gguf, bitsandbytes, NVIDIA ModelOpt and SmoothQuant's own file on the CPU."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import bitsandbytes.functional
import gguf
import numpy as np
import torch
from modelopt.torch.quantization.tensor_quant import _tensor_quant

from tests.packages.peer import Peer
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


def peers() -> list[Peer]:
    """All of them."""
    called = "tensor_quant._tensor_quant"
    return [
        Peer("gguf", "quants.quantize (Q8_0)", "int8.quantize_per_group", "gguf", ALL, _q8_0,
             group=BLOCK),
        Peer("bitsandbytes", "int8_vectorwise_quant (CPU)", "int8.quantize_per_token",
             "bitsandbytes", ("fp16",), _vectorwise),
        Peer("nvidia-modelopt", called, "int8.quantize_per_token", "modelopt", ALL,
             _modelopt(False)),
        Peer("nvidia-modelopt", called, "int8.quantize_per_tensor", "modelopt", ALL,
             _modelopt(True)),
    ]  # fmt: skip
