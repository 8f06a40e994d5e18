"""compressed-tensors on the CPU: calculate_qparams and quantize."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from compressed_tensors.quantization import QuantizationArgs
from compressed_tensors.quantization.lifecycle.forward import quantize
from compressed_tensors.quantization.utils import calculate_qparams

from tests.packages.peer import Peer
from tests.packages.tensors import array, tensor

ALL = ("fp32", "fp16", "bf16")


def _args(strategy: str, symmetric: bool, group: int | None) -> QuantizationArgs:
    told: dict[str, Any] = {"group_size": group} if group else {}
    if strategy == "token":
        told["dynamic"] = True
    return QuantizationArgs(num_bits=8, symmetric=symmetric, strategy=strategy, **told)


def _run(strategy: str, symmetric: bool) -> Any:
    def run(inputs: Mapping[str, Any]) -> tuple[np.ndarray, ...]:
        x = tensor(inputs["w"] if "w" in inputs else inputs["x"])
        group = int(inputs["group_size"]) if strategy == "group" else None
        args = _args(strategy, symmetric, group)
        seen = x.reshape(1, -1) if strategy == "tensor" else x
        seen = seen.unflatten(-1, (-1, group)) if group else seen
        low, high = seen.amin(-1, keepdim=not group), seen.amax(-1, keepdim=not group)
        scale, point = calculate_qparams(low, high, args)
        if strategy == "tensor":
            scale, point = scale.reshape(1), point.reshape(1)
        if strategy == "token":  # tokens are the second of three dimensions
            codes = quantize(x[None], scale[None], point[None], args, dtype=torch.int8)[0]
        else:
            codes = quantize(x, scale, point, args, dtype=torch.int8)
        form = (x.shape[0], -1) if group else (-1,)
        found = array(codes), array(scale.float()).reshape(form)
        return found if symmetric else (*found, array(point.to(torch.int32)).reshape(form))

    return run


def _static(inputs: Mapping[str, Any]) -> tuple[np.ndarray, ...]:
    x, scales = tensor(inputs["x"]), tensor(inputs["scales"]).to(tensor(inputs["x"]).dtype)
    several = scales.numel() > 1
    args = _args("channel" if several else "tensor", True, None)
    scales = scales[:, None] if several else scales
    return (array(quantize(x, scales, torch.zeros_like(scales), args, dtype=torch.int8)),)


def peers() -> list[Peer]:
    """All of them."""
    found = []
    for name, strategy in (
        ("per_token", "token"),
        ("per_channel", "channel"),
        ("per_tensor", "tensor"),
        ("per_group", "group"),
    ):
        text = f"calculate_qparams, quantize ({strategy}"
        symmetric, asymmetric = _run(strategy, True), _run(strategy, False)
        one = f"{text}, symmetric)", f"int8.quantize_{name}", "compressed_tensors", ALL, symmetric
        two = f"{text}, asymmetric)", f"int8.asymmetric_{name}", "compressed_tensors", ALL
        found.append(Peer("compressed-tensors", *one))
        found.append(Peer("compressed-tensors", *two, asymmetric, {"code_dtype": "s8"}))
    static = "int8.quantize_static", "compressed_tensors", ALL, _static
    return [*found, Peer("compressed-tensors", "quantize", *static)]
