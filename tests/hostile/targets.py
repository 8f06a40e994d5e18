"""What the hostile calls are made to: every op's oracle and wings, and every public function.

Contract: a Target is a name, a function and one valid call of it; ops come from the registry, the
rest from the packages' public names (`PUBLIC` must name each of quantassay's, a test holds).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import emulator
import quantassay
from bench import minilm, texts, timing, workloads
from quantassay import engine, linear
from reference.op import OPS, Op, recipe
from roofline import devices, model

SIZES = {"M": 3, "N": 16, "K": 32, "Q": 2, "G": 16, "B": 2, "P": 2}
PTX = """
.version 8.0
.target sm_80
.address_size 64
.visible .entry k(.param .u64 a, .param .u32 n)
{
.reg .b64 %rd<3>;
.reg .b32 %r<2>;
ld.param.u64 %rd1, [a];
cvta.to.global.u64 %rd2, %rd1;
ld.param.u32 %r1, [n];
st.global.u32 [%rd2], %r1;
ret;
}
"""


@dataclass(frozen=True)
class Target:
    """One function and a valid call.

    kinds: what else than TypeError and ValueError it may raise. endless: as faults.calls. named:
    what messages may name besides the arguments.
    """

    name: str
    function: Callable[..., Any]
    valid: Mapping[str, Any]
    kinds: tuple[type[Exception], ...] = ()
    endless: tuple[str, ...] = ("examples", "tokens")
    named: tuple[str, ...] = ()


def inputs_of(op: Op) -> dict[str, Any]:
    """Valid inputs and options of an op, by name."""
    made = op.build(recipe(op.kinds[0], seed=1, dtype=op.dtypes[0], **_sizes(op)))
    for arg in op.arrays():
        if made[arg.name] is None:
            made[arg.name] = np.ones([SIZES[str(side)] for side in arg.shape], np.float32)
    options = {name: values[0] for name, values in op.options.items()}
    return {**{arg.name: made[arg.name] for arg in op.inputs}, **options}


def _sizes(op: Op) -> dict[str, int]:
    return {symbol: SIZES[symbol] for symbol in op.dims}


def called(op: Op, function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` with the op's inputs by name, as positions where all are there."""
    names = [arg.name for arg in op.inputs]

    def call(**given: Any) -> Any:
        positions = []
        for name in names:
            if name not in given:
                break
            positions.append(given[name])
        rest = {key: value for key, value in given.items() if key not in names[: len(positions)]}
        return function(*positions, **rest)

    return call


def oracles() -> Iterator[Target]:
    for op in OPS.values():
        yield Target(op.name, called(op, op.oracle), inputs_of(op))


def _launch(**options: Any) -> Any:
    """Module.kernel(...).launch with everything by name."""
    name = options.pop("kernel", "k")
    return emulator.compile(PTX).kernel(name).launch(**options)


def _layer(kind: Any) -> Callable[..., Any]:
    def call(**options: Any) -> Any:
        return kind(**options)(np.ones((2, 32), np.float32))

    return call


def _run_layer(x: Any) -> Any:
    return quantassay.DynamicQuantLinear(_codes(), _scales())(x)


def _codes() -> np.ndarray:
    return np.ones((16, 32), np.int8)


def _scales() -> np.ndarray:
    return np.ones(16, np.float32)


def _weight() -> np.ndarray:
    return np.linspace(-1, 1, 16 * 32, dtype=np.float32).reshape(16, 32)


def _kernel() -> quantassay.Kernel:
    def copy(codes: Any, scales: Any, *, dialect: str = "ieee", out_dtype: str = "fp32") -> Any:
        return OPS["int8.dequantize"].oracle(codes, scales, dialect=dialect, out_dtype=out_dtype)

    return quantassay.Kernel("int8.dequantize", "hostile", "", ("ieee",), copy)


def _entered(**options: Any) -> None:
    with quantassay.emulated(**options):
        pass


def _register(**options: Any) -> Any:
    """Valid but for the name, which is taken: the registry stays as it is."""
    return quantassay.register(**options)


def _implements(**options: Any) -> Any:
    decorate = quantassay.implements(**options)
    return decorate(lambda *_: None) if options.get("wing") == "never" else decorate


def _layers() -> Iterator[Target]:
    weights = {"w_codes": _codes(), "w_scales": _scales(), "bias": _scales()}
    words = {"dialect": "ieee", "wing": "oracle", "out_dtype": "fp32"}
    dynamic = {**weights, **words, "activations": "per-token", "symmetric": True}
    static = {**weights, **words, "x_scale": np.ones(1, np.float32)}
    static["zero_point"] = np.ones(1, np.int32)
    floats = {"weight": _weight(), "bias": _scales(), "granularity": "per-channel", **words}
    yield Target("DynamicQuantLinear", _layer(quantassay.DynamicQuantLinear), dynamic)
    yield Target("StaticQuantLinear", _layer(quantassay.StaticQuantLinear), static)
    yield Target("WeightOnlyLinear", _layer(quantassay.WeightOnlyLinear), {**weights, **words})
    yield Target("DynamicQuantLinear()", _run_layer, {"x": np.ones((2, 32), np.float32)})
    for kind in (quantassay.DynamicQuantLinear, quantassay.WeightOnlyLinear):
        name = f"{kind.__name__}.from_float"
        yield Target(name, _layer(kind.from_float), floats, named=("x", "w"))
    fixed = {**floats, "x_scale": np.ones(1, np.float32)}
    yield Target("StaticQuantLinear.from_float", _layer(quantassay.StaticQuantLinear.from_float),
                 fixed, named=("x", "w"))  # fmt: skip
    grouped = {"weight": _weight(), "granularity": "per-group", "dialect": "ieee", "wing": "oracle"}
    yield Target("quantize_weight", linear.quantize_weight, {**grouped, "group_size": 16})
    yield Target("implementation", linear.implementation, {"op": "int8.gemm", "wing": "oracle"})


def _registry() -> Iterator[Target]:
    checked = {"examples": 0, "seed": 0, "sweep": False, "device": "emulator"}
    names = {"op": "int8.gemm", "wing": "never", "variant": "v", "dialects": ("ieee",)}
    yield Target("implements", _implements, names)
    yield Target("get_op", quantassay.get_op, {"name": "int8.gemm"}, named=("op",))
    yield Target("dialect", quantassay.dialect, {"name": "ieee"}, named=("dialect",))
    yield Target("register", _register, {"op": OPS["int8.gemm"]})
    yield Target("kernels", quantassay.kernels, {"op": "x", "wing": "x", "dialect": "x"})
    yield Target("check_kernel", quantassay.check_kernel,
                 {"kernel": _kernel(), "dialect": "ieee", **checked})  # fmt: skip
    yield Target("check_function", quantassay.check_function,
                 {"function": _kernel().function, "op": "int8.dequantize", "dialect": "ieee",
                  "framework": "numpy", "dtypes": (), "options": (), **checked},
                 named=("dtype",))  # fmt: skip
    yield Target("emulated", _entered, {"framework": "numba", "torch": False})
    chosen = {"ops": ["int8.dequantize"], "wings": ["hostile"], "dialects": ["ieee"]}
    singular = ("op", "wing", "dialect")
    yield Target("run_checks", quantassay.run_checks,
                 {**chosen, "kernels": [_kernel()], **checked}, named=singular)  # fmt: skip
    yield Target("select", engine.select, {**chosen, "kernels": [_kernel()]}, named=singular)


def _emulator() -> Iterator[Target]:
    memory = emulator.empty(4, np.int32)
    launched = {"grid": (1,), "block": (1,), "args": (np.zeros(1, np.int32), np.int32(3))}
    launched |= {"shared_bytes": 0, "seed": 0, "trace": False, "checks": True, "fuel": 100}
    launched |= {"buffers": (), "cooperative": False, "kernel": "k"}
    errors = (emulator.EmulatorError, emulator.UnsupportedPTX)
    compiled = {"text": PTX, "name": "n", "approximate": ("ex2.approx.f32",)}
    yield Target("emulator.compile", emulator.compile, compiled, errors)
    yield Target("emulator launch", _launch, launched, errors)
    yield Target("emulator.empty", emulator.empty, {"shape": (2, 3), "dtype": "float32"})
    yield Target("emulator.mark_written", emulator.mark_written, {"array": memory})
    yield Target("emulator.written", emulator.written, {"array": memory})


def _figures() -> Iterator[Target]:
    h200 = devices.device("h200")
    sizes = {"M": 16, "N": 128, "K": 128}
    predicted = model.linear_form("fused", sizes, h200)
    yield Target("roofline.device", devices.device, {"name": "h200"}, named=("device",))
    yield Target("Device.peak", h200.peak, {"pipe": "fp32", "accumulator": "fp32"})
    yield Target("Device.ridge", h200.ridge, {"pipe": "fp32"})
    yield Target("roofline.from_counts", model.from_counts,
                 {"moved": 100, "operations": {"fp32": 10}, "device": h200},
                 named=("pipe",))  # fmt: skip
    yield Target("roofline.bound", model.bound,
                 {"op": OPS["int8.gemm"], "dims": sizes, "device": h200})  # fmt: skip
    yield Target("roofline.in_sequence", model.in_sequence, {"bounds": [predicted]})
    yield Target("roofline.linear_form", model.linear_form,
                 {"form": "fused", "dims": sizes, "device": h200, "dtype": "fp16"})  # fmt: skip
    yield Target("roofline.half_linear", model.half_linear, {"dims": sizes, "device": h200})


def _benches() -> Iterator[Target]:
    layers = workloads.generated_layers(1)
    norm = (np.ones(384, np.float32), np.ones(384, np.float32))
    yield Target("bench.generated_layers", workloads.generated_layers, {"tokens": 1, "seed": 0})
    yield Target("bench.with_neighbours", workloads.with_neighbours,
                 {"layers": layers, "norm": norm, "epsilon": 1e-12})  # fmt: skip
    yield Target("bench.corpus", texts.corpus, {"count": 3})
    yield Target("bench.copies_for", timing.copies_for, {"nbytes": 9, "cold": True, "most": 4})
    yield Target("bench.summary", timing.summary, {"times": [1.0, 2.0], "calls": 3})
    yield Target("bench.linear_name", minilm.linear_name, {"layer": 2, "kind": "query"})
    yield Target("bench.locate", minilm.locate, {"model": Path("model")})
    yield Target("bench.load", minilm.load, {"model": Path("model")})


def public() -> Iterator[Target]:
    """Every public function that is no op."""
    yield from _layers()
    yield from _registry()
    yield from _emulator()
    yield from _figures()
    yield from _benches()
