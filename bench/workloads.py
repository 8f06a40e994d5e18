"""Shapes of real layers, each with its source, and generated layers for when no model is there.

Contract: a `Shape` is one linear: N output features, K input features; M, the tokens, is chosen by
who uses it. `generated_layers` makes stand-ins of MiniLM's sizes, seeded, with the outlier
channels that real activations have; whoever reports on them must call them generated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from reference.arguments import check_int, check_kind, check_list, check_number

Array = NDArray[np.float32]
TOKENS = (1, 16, 256, 4096)  # decode, a small batch, a large batch, prefill


@dataclass(frozen=True)
class Shape:
    """One linear: out (M, N) = x (M, K) @ w (N, K).T."""

    model: str
    layer: str
    N: int
    K: int
    source: str


@dataclass(frozen=True, eq=False)
class Layer:
    """One linear with its data. weight fp32 (N, K), bias fp32 (N,), activations fp32 (M, K).
    `origin` says whether they are real. `neighbours`: what the ops just before it see, by the
    names of `Op.takes` (`with_neighbours`); `epsilon` is that of the model's norms."""

    name: str
    kind: str
    weight: Array
    bias: Array
    activations: Array
    origin: str
    neighbours: Mapping[str, Array] = field(default_factory=dict)
    epsilon: float = 1e-12

    def first(self, tokens: int) -> Layer:
        """The same layer with its first tokens only."""
        near = {k: a[:tokens].copy() if a.ndim == 2 else a for k, a in self.neighbours.items()}
        return replace(self, activations=self.activations[:tokens].copy(), neighbours=near)

    @property
    def dims(self) -> dict[str, int]:
        (M, K), (N, _) = self.activations.shape, self.weight.shape
        return {"M": M, "N": N, "K": K}

    @cached_property
    def exact(self) -> NDArray[np.float64]:
        """The output that no rounding touched, fp64 (M, N): computed in fp64 from fp32 data."""
        product = self.activations.astype(np.float64) @ self.weight.astype(np.float64).T
        return np.asarray(product + self.bias)


_MINILM = "sentence-transformers/all-MiniLM-L6-v2, config.json"
MINILM = (
    Shape("MiniLM-L6", "query", 384, 384, _MINILM),
    Shape("MiniLM-L6", "attention output", 384, 384, _MINILM),
    Shape("MiniLM-L6", "intermediate", 1536, 384, _MINILM),
    Shape("MiniLM-L6", "output", 384, 1536, _MINILM),
)
# qkv: (heads + 2 kv heads) x head size; gate+up: 2 x intermediate, as servers fuse them.
LLMS = (
    Shape("Llama-2-7B", "qkv", 12288, 4096, "meta-llama/Llama-2-7b-hf, config.json"),
    Shape("Llama-2-7B", "gate+up", 22016, 4096, "meta-llama/Llama-2-7b-hf, config.json"),
    Shape("Llama-3.1-8B", "qkv", 6144, 4096, "meta-llama/Llama-3.1-8B, config.json"),
    Shape("Llama-3.1-8B", "down", 4096, 14336, "meta-llama/Llama-3.1-8B, config.json"),
    Shape("Llama-3.1-70B", "gate+up", 57344, 8192, "meta-llama/Llama-3.1-70B, config.json"),
    Shape("Llama-3.1-70B", "down", 8192, 28672, "meta-llama/Llama-3.1-70B, config.json"),
    Shape("Qwen2.5-7B", "gate+up", 37888, 3584, "Qwen/Qwen2.5-7B, config.json"),
    Shape("Mistral-7B-v0.3", "gate+up", 28672, 4096, "mistralai/Mistral-7B-v0.3, config.json"),
)
SHAPES = MINILM + LLMS


def generated_layers(tokens: int, seed: int = 0) -> list[Layer]:
    """One generated layer of each of MiniLM's shapes with `tokens` activations.

    Weights are Gaussian of the size that BERT's initialisation and training leave (0.04);
    activations are Gaussian with about 1% of channels 20 times as large, and positive-heavy
    before "output" as after a GELU. Raises ValueError for tokens < 1.
    """
    check_int("tokens", tokens, 1)
    check_int("seed", seed, 0)
    layers = [_generated(shape, tokens, seed, number) for number, shape in enumerate(MINILM)]
    rng = np.random.default_rng([seed, len(MINILM)])
    norm = rng.normal([[1.0], [0.0]], 0.1, (2, layers[2].weight.shape[1])).astype(np.float32)
    return with_neighbours(layers, (norm[0], norm[1]), 1e-12)


def with_neighbours(
    layers: Sequence[Layer], norm: tuple[Array, Array], epsilon: float
) -> list[Layer]:
    """MiniLM's four linears of one encoder layer, each with what the ops just before it see.

    norm: weight and bias, fp32 (384,), of the LayerNorm before "intermediate". That linear gets
    "branch" and "residual", whose sum "prenorm" the norm takes, and "norm_weight", "norm_bias";
    "output" gets "preactivation", what the GELU takes. fp32 (M, .), computed from the layers' data.
    """
    check_list("layers", layers, Layer, "a Layer")
    check_kind("norm", norm, tuple, "a tuple of weight and bias")
    check_number("epsilon", epsilon, 0.0)
    for name, got, size in (("layers", len(layers), len(MINILM)), ("norm", len(norm), 2)):
        if got != size:
            raise ValueError(f"{name}: got {got} elements; allowed: {size}")
    query, attention, intermediate, output = layers
    branch = attention.exact.astype(np.float32)
    near = {
        "branch": branch,
        "residual": query.activations,
        "prenorm": branch + query.activations,
        "norm_weight": norm[0],
        "norm_bias": norm[1],
    }
    hidden = intermediate.exact.astype(np.float32)
    return [
        replace(query, epsilon=epsilon),
        replace(attention, epsilon=epsilon),
        replace(intermediate, neighbours=near, epsilon=epsilon),
        replace(output, neighbours={"preactivation": hidden}, epsilon=epsilon),
    ]


def _generated(shape: Shape, tokens: int, seed: int, number: int) -> Layer:
    rng = np.random.default_rng([seed, number])
    x = rng.standard_normal((tokens, shape.K))
    if shape.layer == "output":
        x = np.maximum(x, 0.02 * x)
    x[:, rng.choice(shape.K, max(1, shape.K // 100), replace=False)] *= 20.0
    return Layer(
        name=f"generated.{shape.layer.replace(' ', '_')}",
        kind=shape.layer,
        weight=(0.04 * rng.standard_normal((shape.N, shape.K))).astype(np.float32),
        bias=(0.1 * rng.standard_normal(shape.N)).astype(np.float32),
        activations=x.astype(np.float32),
        origin="generated",
    )
