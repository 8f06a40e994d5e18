"""SmoothQuant's own fake quantization, from a copy of its file that the developer brings.

Contract: SmoothQuant is no package. Where the environment names a folder, QUANTASSAY_SOURCES, with
smoothquant/fake_quant.py of github.com/mit-han-lab/smoothquant (commit c61476d, the file's SHA-256
below), its functions run as they stand. They give values, not codes: what their `round_` and the
`div_` of their scales left is recorded while they run.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.overrides import TorchFunctionMode

from tests.packages.peer import Peer
from tests.packages.tensors import array, tensor

SHA256 = "d0979f66c1bc38f4146db8365a162c5b356401f864636076395a978a9d569787"
ALL = ("fp32", "fp16", "bf16")
NAMES = {
    "per_token": "quantize_activation_per_token_absmax",
    "per_channel": "quantize_weight_per_channel_absmax",
    "per_tensor": "quantize_activation_per_tensor_absmax",
}


class _Recorder(TorchFunctionMode):
    """Keeps what `round_` and the division by q_max gave."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if func is torch.Tensor.round_:
            self.codes = result.clone()
        if func is torch.Tensor.div_ and isinstance(args[1], int):
            self.scales = result.clone()
        return result


def _run(function: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    def run(inputs: Mapping[str, Any]) -> tuple[np.ndarray, ...]:
        x = tensor(inputs["w"] if "w" in inputs else inputs["x"]).clone()
        with _Recorder() as seen:
            function(x)
        codes = seen.codes.float().nan_to_num(0.0).clamp(-128, 127).to(torch.int8)
        return array(codes), array(seen.scales.float().reshape(-1))

    return run


def source() -> Path | None:
    """The file, if it is there. Raises ValueError where it is another one."""
    folder = os.environ.get("QUANTASSAY_SOURCES")
    path = Path(folder, "smoothquant", "fake_quant.py") if folder else None
    if path is None or not path.is_file():
        return None
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != SHA256:
        raise ValueError(f"QUANTASSAY_SOURCES: {path} has SHA-256 {found}; expected {SHA256}")
    return path


def peers() -> list[Peer]:
    """All of them; none without the file."""
    path = source()
    if path is None:
        return []
    spec = importlib.util.spec_from_file_location("smoothquant_fake_quant", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return [
        Peer("smoothquant", name, f"int8.quantize_{op}", "smoothquant", ALL,
             _run(getattr(module, name)), version="c61476d")
        for op, name in NAMES.items()
    ]  # fmt: skip
