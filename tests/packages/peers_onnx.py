"""onnxruntime on the CPU: QuantizeLinear and its dynamic form, DequantizeLinear, MatMulInteger."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
import onnxruntime
from onnx import TensorProto, helper

from tests.packages.peer import Known, Peer
from tests.packages.peers_torch import in_range

TYPES = {
    "fp32": TensorProto.FLOAT, "fp16": TensorProto.FLOAT16, "s8": TensorProto.INT8,
    "u8": TensorProto.UINT8, "s32": TensorProto.INT32,
}  # fmt: skip
OPSET = 21


@cache
def _session(
    node: str, takes: tuple[tuple[str, str], ...], gives: tuple[tuple[str, str], ...], axis: int
) -> onnxruntime.InferenceSession:
    """A model of one node. takes, gives: (name, dtype)."""
    inputs = [helper.make_tensor_value_info(name, TYPES[kind], None) for name, kind in takes]
    outputs = [helper.make_tensor_value_info(name, TYPES[kind], None) for name, kind in gives]
    told = {"axis": axis} if axis >= 0 else {}
    made = helper.make_node(node, [n for n, _ in takes], [n for n, _ in gives], **told)
    graph = helper.make_graph([made], "one", inputs, outputs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def _dynamic(inputs: Mapping[str, Any]) -> tuple[np.ndarray, ...]:
    gives = (("codes", "u8"), ("scale", "fp32"), ("point", "u8"))
    session = _session("DynamicQuantizeLinear", (("x", "fp32"),), gives, -1)
    codes, scale, point = session.run(None, {"x": inputs["x"]})
    return codes, scale.reshape(1), point.astype(np.int32).reshape(1)


def _static(kind: str) -> Any:
    def run(inputs: Mapping[str, Any]) -> tuple[np.ndarray, ...]:
        x, scales = inputs["x"], inputs["scales"].astype(inputs["x"].dtype)
        points = inputs.get("zero_points", np.zeros(scales.shape, np.int32))
        points = points.astype({"s8": np.int8, "u8": np.uint8}[kind])
        one = scales.size == 1
        form = "fp16" if x.dtype == np.float16 else "fp32"
        takes = (("x", form), ("scale", form), ("point", kind))
        session = _session("QuantizeLinear", takes, (("codes", kind),), -1 if one else 0)
        told = {
            "x": x,
            "scale": scales[0] if one else scales,
            "point": points[0] if one else points,
        }
        return (session.run(None, {k: np.asarray(v) for k, v in told.items()})[0],)

    return run


def _product(inputs: Mapping[str, Any]) -> tuple[np.ndarray, ...]:
    takes = (("a", "s8"), ("b", "s8"))
    session = _session("MatMulInteger", takes, (("acc", "s32"),), -1)
    return (session.run(None, {"a": inputs["a"], "b": inputs["b"].T.copy()})[0],)


def _dequantize(inputs: Mapping[str, Any]) -> tuple[np.ndarray, ...]:
    codes, scales = inputs["codes"], inputs["scales"]
    one = scales.size == 1
    takes = (("codes", "s8"), ("scale", "fp32"))
    session = _session("DequantizeLinear", takes, (("out", "fp32"),), -1 if one else 0)
    scale = np.asarray(scales[0]) if one else scales
    return (session.run(None, {"codes": codes, "scale": scale})[0],)


NAN_IN_RANGE = Known(
    "the ends of a range with a NaN in it depend on its place among vector registers",
    lambda one: np.isnan(one.inputs["x"]).any(),
)


def peers() -> list[Peer]:
    """All of them."""
    name = "onnxruntime"
    dynamic = dict.fromkeys(("codes", "scales", "zero_points"), (NAN_IN_RANGE,))
    found = [
        Peer(name, "DynamicQuantizeLinear", "int8.asymmetric_per_tensor", "onnx", ("fp32",),
             _dynamic, {"code_dtype": "u8"}, known=dynamic),
        Peer(name, "QuantizeLinear (zero point 0)", "int8.quantize_static", "onnx", ("fp32",),
             _static("s8")),
        Peer(name, "DequantizeLinear", "int8.dequantize", "ieee", ("fp32",), _dequantize,
             {"out_dtype": "fp32"}),
        Peer(name, "MatMulInteger", "int8.gemm", "ieee", ("fp32",), _product),
    ]  # fmt: skip
    for kind in ("u8", "s8"):
        found.append(
            Peer(name, f"QuantizeLinear ({kind})", "int8.asymmetric_static", "onnx", ("fp32",),
                 _static(kind), {"code_dtype": kind}, prepare=in_range(kind))
        )  # fmt: skip
    return found
