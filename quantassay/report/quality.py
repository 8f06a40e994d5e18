"""What the scheme costs: quantization error of real layers, and of the model end to end.

Contract: the arithmetic is the oracle's (the kernels are proven equal to it elsewhere). Weights and
activations are taken as fp16, what an fp16 server holds; errors are against the fp32 tensors, in
float64. SQNR = 10 log10(|signal|^2 / |error|^2) in dB over the whole tensor; relative Frobenius =
|error| / |signal|; both are None where the error or the signal is 0.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.minilm import Linear, MiniLM
from bench.workloads import Layer
from reference.int8_linear import linear as int8_linear
from reference.int8_quantize import (
    dequantize,
    quantize_per_channel,
    quantize_per_tensor,
    quantize_per_token,
)

Array = NDArray[Any]
FP16 = "fp16 without quantization"


@dataclass(frozen=True)
class Error:
    """Distance of an approximation from what it stands for."""

    sqnr_db: float | None
    max_abs: float
    relative_frobenius: float | None


@dataclass(frozen=True)
class LayerQuality:
    """One layer under one dialect. `activations_per_tensor` is the same with one scale for all
    tokens: what per-token scales are worth."""

    layer: str
    kind: str
    M: int
    N: int
    K: int
    dialect: str
    weights: Error
    activations: Error
    activations_per_tensor: Error
    output: Error


@dataclass(frozen=True)
class EmbeddingQuality:
    """Cosine of the model's sentence embeddings with the fp32 model's, every linear replaced."""

    scheme: str
    sentences: int
    tokens: int
    cosine_min: float
    cosine_mean: float
    worst_sentence: str
    cosines: tuple[float, ...]


def error(reference: Array, approximation: Array) -> Error:
    """Error of `approximation` against `reference`, arrays of one shape."""
    wide = reference.astype(np.float64)
    difference = approximation.astype(np.float64) - wide
    signal, noise = float(np.vdot(wide, wide)), float(np.vdot(difference, difference))
    defined = signal > 0 and noise > 0
    return Error(
        sqnr_db=float(10 * np.log10(signal / noise)) if defined else None,
        max_abs=float(np.abs(difference).max()),
        relative_frobenius=float(np.sqrt(noise / signal)) if defined else None,
    )


def layer_quality(layer: Layer, dialect: str) -> LayerQuality:
    """Error of weights, activations and output of one layer."""
    x, w = half(layer.activations), half(layer.weight)
    w_codes, w_scales = quantize_per_channel(w, dialect=dialect)
    x_codes, x_scales = quantize_per_token(x, dialect=dialect)
    t_codes, t_scales = quantize_per_tensor(x, dialect=dialect)
    out = int8_linear(x, w_codes, w_scales, layer.bias, dialect=dialect, out_dtype="fp16")
    return LayerQuality(
        layer.name,
        layer.kind,
        layer.dims["M"],
        layer.dims["N"],
        layer.dims["K"],
        dialect,
        weights=error(layer.weight, dequantize(w_codes, w_scales)),
        activations=error(layer.activations, dequantize(x_codes, x_scales)),
        activations_per_tensor=error(layer.activations, dequantize(t_codes, t_scales)),
        output=error(layer.exact, out),
    )


def half(values: Array) -> Array:
    """fp32 to fp16, to nearest even."""
    return np.ascontiguousarray(values.astype(np.float16))


def quantized_linear(dialect: str) -> Linear:
    """A linear for `MiniLM.encode`: W8A8 by the oracle, fp16 in and out, weights quantized once."""
    weights: dict[str, tuple[Array, Array]] = {}

    def apply(name: str, x: Array, weight: Array, bias: Array) -> Array:
        if name not in weights:
            weights[name] = quantize_per_channel(half(weight), dialect=dialect)
        codes, scales = weights[name]
        out = int8_linear(half(x), codes, scales, bias, dialect=dialect, out_dtype="fp16")
        return out.astype(np.float32)

    return apply


def half_linear(name: str, x: Array, weight: Array, bias: Array) -> Array:
    """The fp16 linear that W8A8 replaces: fp16 in and out, fp32 accumulation."""
    out = half(x).astype(np.float32) @ half(weight).astype(np.float32).T + bias
    return half(out).astype(np.float32)


def embedding_quality(
    model: MiniLM, sentences: Sequence[str], dialects: Sequence[str]
) -> Iterator[EmbeddingQuality]:
    """One row for the fp16 model, then one per dialect."""
    exact = model.encode(sentences)
    tokens = len(model.tokenize(sentences).ids)
    for scheme in (FP16, *dialects):
        made = model.encode(sentences, half_linear if scheme == FP16 else quantized_linear(scheme))
        cosines = np.sum(exact.astype(np.float64) * made.astype(np.float64), axis=1)
        norms = np.linalg.norm(exact.astype(np.float64), axis=1) * np.linalg.norm(
            made.astype(np.float64), axis=1
        )
        cosines = np.minimum(cosines / norms, 1.0)
        yield EmbeddingQuality(
            scheme,
            len(sentences),
            tokens,
            float(cosines.min()),
            float(cosines.mean()),
            sentences[int(cosines.argmin())],
            tuple(float(c) for c in cosines),
        )
