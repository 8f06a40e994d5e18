"""The knobs: at the dialect's own values they give the oracle's bytes; turned, they do not."""

from __future__ import annotations

import numpy as np
import pytest

from quantassay.cases import cases
from quantassay.compare import compare
from quantassay.diagnosis import variants
from quantassay.diagnosis.hypotheses import SLIPS, STAGES, fields_of, hypotheses
from quantassay.diagnosis.words import FIELDS
from reference import OPS, get_op
from reference.dialects import FIELDS as DIALECT_FIELDS

MODELLED = sorted(variants.MODELS)
SPOKEN = [(name, dialect) for name in MODELLED for dialect in get_op(name).options["dialect"]]


@pytest.mark.parametrize(("name", "dialect"), SPOKEN)
def test_unturned_knobs_are_a_second_oracle(name: str, dialect: str) -> None:
    op = get_op(name)
    for case in cases(op, dialect, examples=40, seed=1):
        options, inputs = case.keywords(), op.build(case.recipe)
        knobs = variants.settings(name, dialect, options)
        made = variants.run(name, inputs, knobs)
        mismatch = compare(op, inputs, options, made, op.expected(inputs, **options))
        assert mismatch is None, f"{case}: {mismatch.words if mismatch else ''}"


def test_every_int8_op_has_a_model_and_stages() -> None:
    int8 = {name for name in OPS if name.startswith("int8.")}
    assert set(MODELLED) == int8 == set(STAGES)


def test_every_word_of_a_dialect_has_words_here() -> None:
    for field, values in DIALECT_FIELDS.items():
        # What a kernel refuses is no arithmetic, and ours divide as IEEE does.
        if field in ("k_overflow", "division"):
            continue
        listed = [stage[field] for stage in FIELDS.values() if field in stage]
        assert any(set(values) <= set(words) for words in listed), field


def test_every_stage_is_known_and_spoken() -> None:
    named = {stage for stages in STAGES.values() for stage in stages}
    assert named == {*FIELDS, *SLIPS}
    for name, dialect in SPOKEN:
        spoken = variants.spoken(name, dialect)
        for stage in STAGES[name]:
            for field, words in FIELDS.get(stage, {}).items():
                assert getattr(spoken, field) in words, (name, dialect, field)


def test_an_op_has_no_field_twice() -> None:
    for name, stages in STAGES.items():
        listed = [field for stage in stages for field in FIELDS.get(stage, ())]
        assert sorted(listed) == sorted(fields_of(name)), name


@pytest.mark.parametrize("name", MODELLED)
def test_hypotheses_run_and_have_distinct_words(name: str) -> None:
    op = get_op(name)
    inputs = op.build(op.hostile[len(op.hostile) // 2])
    options = {key: values[0] for key, values in op.options.items()}
    base = variants.settings(name, "ieee", options)
    forms = [(array.shape, array.dtype) for array in op.expected(inputs, **options)]
    tried = hypotheses(name, "ieee")
    for one in tried:
        made = variants.run(name, inputs, {**base, **dict(one.knobs)})
        assert [(array.shape, array.dtype) for array in made] == forms, one.words
    assert tried
    words = [one.words for one in tried]
    assert len(set(words)) == len(words), sorted({word for word in words if words.count(word) > 1})


# Rows and groups are fewer than 128, and ieee refuses a K whose sums leave int32: that cannot show.
HIDDEN = ("each 128", "% 128", "in int32 that saturates")
SHOWN: dict[str, tuple[str, ...]] = {  # op -> what its cases do not show either
    "int8.gemm_dequant": (),
    "int8.gemm_azp": ("modulo 2**32", "share in fp32", "in fp32, which"),
    "int8.gemm_group": ("wrong group: index %",),
    "int8.column_sums": ("pairs of products", "in 24 bits", "in fp32"),
    "int8.quantize_per_group": (
        *("clamps to -128..127", "the first 1024 elements", "% 64", "factor of x (1/s, 127/amax)"),
    ),
    "int8.quantize_static_per_group": (
        *("% 64", "own dtype, but not what follows", "factor of x (1/s, 127/amax)"),
    ),
    "int8.dequantize_per_group": ("% 64",),
    "int8.asymmetric_static_per_group": (
        *("int32, saturating", "% 64", "but not the codes' quotient", "as it is per tensor"),
    ),
    "int8.asymmetric_dequantize_per_group": ("% 64",),
    "int8.pack": (),
    "int8.transpose": (),
}


@pytest.mark.parametrize("name", SHOWN)
def test_most_hypotheses_can_be_seen(name: str) -> None:
    """A knob that never changes an output on the hostile cases could not be diagnosed."""
    op = get_op(name)
    runs = []
    for case in cases(op, "ieee", examples=60, seed=3):
        inputs, options = op.build(case.recipe), case.keywords()
        settings = variants.settings(name, "ieee", options)
        runs.append((inputs, options, settings, op.expected(inputs, **options)))
    unseen = []
    for one in hypotheses(name, "ieee"):
        for inputs, options, settings, expected in runs:
            made = variants.run(name, inputs, {**settings, **dict(one.knobs)})
            if compare(op, inputs, options, made, expected):
                break
        else:
            unseen.append(one.words)
    allowed = (*HIDDEN, *SHOWN[name])
    assert [words for words in unseen if not any(word in words for word in allowed)] == []


def test_the_fp64_intermediate_of_toward_zero_is_exact() -> None:
    from quantassay.diagnosis.knobs import narrow

    values = np.array([16777217, -16777217, 16777219], np.float64)
    assert narrow(values, "fp32", "rz").tolist() == [16777216, -16777216, 16777218]
