"""torchao on the CPU: choose_qparams_affine and quantize_affine in the granularities of int8.

The dialect torchao is Int8Tensor.from_hp, which asks for fp32 scales of at least 2**-23; that is
what is asked for here, u8 codes included, which from_hp does not offer. torchao_no_clipping takes
the functions' defaults, as IntxUnpackedToInt8Tensor does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torchao.quantization.quant_primitives import (
    MappingType,
    choose_qparams_affine,
    quantize_affine,
)

from reference.op import Recipe
from tests.packages.peer import Peer
from tests.packages.tensors import array, tensor

ALL = ("fp32", "fp16", "bf16")
CODES = {"s8": torch.int8, "u8": torch.uint8}
FROM_HP = {"scale_dtype": torch.float32, "eps": torch.finfo(torch.float32).eps}
Block = Callable[[Any, Mapping[str, Any]], tuple[int, ...]]


def _row(x: torch.Tensor, inputs: Mapping[str, Any]) -> tuple[int, ...]:
    return 1, x.shape[1]


def _whole(x: torch.Tensor, inputs: Mapping[str, Any]) -> tuple[int, ...]:
    return tuple(x.shape)


def _group(x: torch.Tensor, inputs: Mapping[str, Any]) -> tuple[int, ...]:
    return 1, int(inputs["group_size"])


def _run(mapping: MappingType, block: Block, kind: str = "s8") -> Any:
    def run(inputs: Mapping[str, Any]) -> tuple[np.ndarray, ...]:
        x = tensor(inputs["w"] if "w" in inputs else inputs["x"])
        size = block(x, inputs)
        told = {} if mapping == MappingType.SYMMETRIC_NO_CLIPPING_ERR else FROM_HP
        points = {"zero_point_dtype": CODES[kind]} if told else {}
        scale, zero_point = choose_qparams_affine(x, mapping, size, CODES[kind], **told, **points)
        codes = quantize_affine(x, size, scale, zero_point, CODES[kind])
        form = (x.shape[0], -1) if block is _group else (-1,)
        found = array(codes), array(scale.float()).reshape(form)
        if mapping != MappingType.ASYMMETRIC:
            return found
        return *found, array(zero_point.to(torch.int32)).reshape(form)

    return run


def _static(inputs: Mapping[str, Any]) -> tuple[np.ndarray, ...]:
    x, scales = tensor(inputs["x"]), tensor(inputs["scales"])
    size = _whole(x, inputs) if scales.numel() == 1 else _row(x, inputs)
    points = torch.zeros(scales.shape, dtype=torch.int32)
    return (array(quantize_affine(x, size, scales, points, torch.int8)),)


def _shaped(made: Recipe) -> bool:
    """quantize_affine takes groups of one element for the whole tensor, and stops."""
    return dict(made.dims).get("G") != 1


def peers() -> list[Peer]:
    """All of them."""
    called = "choose_qparams_affine, quantize_affine"
    blocks: dict[str, Block] = {
        "per_token": _row, "per_channel": _row, "per_tensor": _whole, "per_group": _group,
    }  # fmt: skip
    found = []
    for name, block in blocks.items():
        op = f"int8.quantize_{name}"
        for mapping, spoken in (
            (MappingType.SYMMETRIC, "torchao"),
            (MappingType.SYMMETRIC_NO_CLIPPING_ERR, "torchao_no_clipping"),
        ):
            made = _run(mapping, block)
            text = f"{called} ({mapping.name})"
            found.append(Peer("torchao", text, op, spoken, ALL, made, takes=_shaped))
        for kind in CODES:
            made, told = _run(MappingType.ASYMMETRIC, block, kind), {"code_dtype": kind}
            text, op = f"{called} (ASYMMETRIC, {kind})", f"int8.asymmetric_{name}"
            found.append(Peer("torchao", text, op, "torchao", ALL, made, told, takes=_shaped))
    text = "quantize_affine"
    return [*found, Peer("torchao", text, "int8.quantize_static", "torchao", ALL, _static)]
