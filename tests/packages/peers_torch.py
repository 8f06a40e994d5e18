"""torch on the CPU: observers, quantize_per_tensor and quantize_per_channel, dequantize, and the
article's own formula.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch.ao.quantization.observer import MinMaxObserver, PerChannelMinMaxObserver

from reference.numerics import RANGES
from tests.packages.peer import Difference, Known, Peer
from tests.packages.tensors import array, tensor

FORMATS = {"s8": torch.qint8, "u8": torch.quint8}


def _per_tensor(scheme: torch.qscheme, kind: str) -> Any:
    def run(inputs: Mapping[str, Any]) -> tuple[np.ndarray, ...]:
        x = tensor(inputs["x"])
        observer = MinMaxObserver(dtype=FORMATS[kind], qscheme=scheme)
        observer(x)
        scale, zero_point = observer.calculate_qparams()
        codes = torch.quantize_per_tensor(x, float(scale), int(zero_point), FORMATS[kind])
        found = array(codes.int_repr()), array(scale).astype(np.float32).reshape(1)
        if scheme == torch.per_tensor_symmetric:
            return found
        return *found, array(zero_point).astype(np.int32).reshape(1)

    return run


def _per_channel(scheme: torch.qscheme, kind: str) -> Any:
    def run(inputs: Mapping[str, Any]) -> tuple[np.ndarray, ...]:
        w = tensor(inputs["w"])
        observer = PerChannelMinMaxObserver(ch_axis=0, dtype=FORMATS[kind], qscheme=scheme)
        observer(w)
        scales, zero_points = observer.calculate_qparams()
        codes = torch.quantize_per_channel(w, scales, zero_points, 0, FORMATS[kind])
        found = array(codes.int_repr()), array(scales).astype(np.float32)
        if scheme == torch.per_channel_symmetric:
            return found
        return *found, array(zero_points).astype(np.int32)

    return run


def _static(kind: str) -> Any:
    def run(inputs: Mapping[str, Any]) -> tuple[np.ndarray, ...]:
        x, scales = tensor(inputs["x"]), inputs["scales"]
        points = inputs.get("zero_points", np.zeros(scales.shape, np.int32))
        if scales.size == 1:
            made = torch.quantize_per_tensor(x, float(scales[0]), int(points[0]), FORMATS[kind])
        else:
            told = tensor(scales.astype(np.float64)), tensor(points.astype(np.int64))
            made = torch.quantize_per_channel(x, *told, 0, FORMATS[kind])
        return (array(made.int_repr()),)

    return run


def _article(inputs: Mapping[str, Any]) -> tuple[np.ndarray, ...]:
    """The formula of the article, as it stands there."""
    x = tensor(inputs["x"])
    scales = x.abs().amax(dim=-1, keepdim=True) / 127
    codes = torch.clamp(torch.round(x / scales), -128, 127).to(torch.int8)
    return array(codes), array(scales[:, 0]).astype(np.float32)


def _nan_quotient(one: Difference) -> Any:
    """x * (1/s) is NaN, under the tensor's own scale or the given one."""
    x = one.inputs["x"]
    with np.errstate(all="ignore"):
        own = np.abs(x).max() / np.float32(127.5)
        scale = one.inputs.get("scales", own)
        return (one.theirs == 127) & (one.ours == 0) & np.isnan(x * (np.float32(1) / scale))


def in_range(kind: str) -> Any:
    """Zero points that the package accepts: those of the codes' range."""

    def prepare(inputs: dict[str, Any]) -> dict[str, Any]:
        low, high = RANGES[kind]
        points = np.clip(inputs["zero_points"], low, high).astype(np.int32)
        return {**inputs, "zero_points": points}

    return prepare


NAN_IS_HIGH = Known(
    "quantize_per_tensor on the CPU gives a NaN quotient 127 (on a GPU -128), the dialect 0",
    _nan_quotient,
)
_SYMMETRIC = torch.per_tensor_symmetric, torch.per_channel_symmetric
_AFFINE = torch.per_tensor_affine, torch.per_channel_affine


def peers() -> list[Peer]:
    """All of them."""
    observer, channels = "MinMaxObserver, quantize_per_tensor", "PerChannelMinMaxObserver"
    found = [
        Peer("torch", f"{observer} (symmetric)", "int8.quantize_per_tensor", "pytorch", ("fp32",),
             _per_tensor(_SYMMETRIC[0], "s8"), known={"codes": (NAN_IS_HIGH,)}),
        Peer("torch", f"{channels} (symmetric)", "int8.quantize_per_channel", "pytorch", ("fp32",),
             _per_channel(_SYMMETRIC[1], "s8")),
        Peer("torch", "quantize_per_tensor, quantize_per_channel", "int8.quantize_static",
             "pytorch", ("fp32",), _static("s8"), known={"codes": (NAN_IS_HIGH,)}),
        Peer("torch", "the article's formula in fp16", "int8.quantize_per_token", "article_torch",
             ("fp16",), _article),
    ]  # fmt: skip
    for kind in ("u8", "s8"):
        options = {"code_dtype": kind}
        found += [
            Peer("torch", f"{observer} (affine {kind})", "int8.asymmetric_per_tensor", "pytorch",
                 ("fp32",), _per_tensor(_AFFINE[0], kind), options),
            Peer("torch", f"{channels} (affine {kind})", "int8.asymmetric_per_channel", "pytorch",
                 ("fp32",), _per_channel(_AFFINE[1], kind), options),
            Peer("torch", f"quantize_per_tensor, quantize_per_channel ({kind})",
                 "int8.asymmetric_static", "pytorch", ("fp32",), _static(kind), options,
                 prepare=in_range(kind)),
        ]  # fmt: skip
    return found
