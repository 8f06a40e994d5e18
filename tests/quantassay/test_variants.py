"""The knobs: at the dialect's own values they give the oracle's bytes; turned, they do not."""

from __future__ import annotations

import numpy as np
import pytest

from quantassay.cases import cases
from quantassay.compare import compare
from quantassay.diagnosis import variants
from quantassay.diagnosis.hypotheses import FIELDS, STAGES, hypotheses
from reference import OPS, get_op
from reference.dialects import DIALECTS
from reference.dialects import FIELDS as DIALECT_FIELDS

MODELLED = sorted(variants.MODELS)


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("name", MODELLED)
def test_unturned_knobs_are_a_second_oracle(name: str, dialect: str) -> None:
    op = get_op(name)
    for case in cases(op, dialect, examples=40, seed=1):
        options, inputs = case.keywords(), op.build(case.recipe)
        knobs = variants.settings(dialect, options.get("out_dtype", "fp32"))
        made = variants.run(name, inputs, knobs)
        mismatch = compare(op, inputs, options, made, op.expected(inputs, **options))
        assert mismatch is None, f"{case}: {mismatch.words if mismatch else ''}"


def test_every_int8_op_has_a_model_and_stages() -> None:
    int8 = {name for name in OPS if name.startswith("int8.")}
    assert set(MODELLED) == int8 == set(STAGES)


def test_every_word_of_a_dialect_has_words_here() -> None:
    for field, values in DIALECT_FIELDS.items():
        if field in ("k_overflow",):  # what a kernel refuses is no arithmetic
            continue
        listed = [stage[field] for stage in FIELDS.values() if field in stage]
        assert len(listed) == 1, field
        assert set(values) <= set(listed[0]), field


@pytest.mark.parametrize("name", MODELLED)
def test_hypotheses_run_and_have_distinct_words(name: str) -> None:
    op = get_op(name)
    inputs = op.build(op.hostile[len(op.hostile) // 2])
    tried = hypotheses(name, "ieee")
    for one in tried:
        made = variants.run(name, inputs, {**variants.settings("ieee"), **dict(one.knobs)})
        shapes = [array.shape for array in op.expected(inputs, dialect="ieee")]
        assert [array.shape for array in made] == shapes, one.words
    assert tried


def test_most_hypotheses_can_be_seen() -> None:
    """A knob that never changes an output on the hostile cases could not be diagnosed."""
    op = get_op("int8.gemm_dequant")
    runs = list(cases(op, "ieee", examples=60, seed=3))
    unseen = []
    for one in hypotheses(op.name, "ieee"):
        for case in runs:
            inputs, options = op.build(case.recipe), case.keywords()
            base = variants.settings("ieee", options["out_dtype"])
            made = variants.run(op.name, inputs, {**base, **dict(one.knobs)})
            if compare(op, inputs, options, made, op.expected(inputs, **options)):
                break
        else:
            unseen.append(one.words)
    # M is below 128, and ieee refuses a K whose sums leave int32: these two cannot show.
    allowed = ("each 128", "% 128", "in int32 that saturates")
    assert [words for words in unseen if not any(word in words for word in allowed)] == []


def test_the_fp64_intermediate_of_toward_zero_is_exact() -> None:
    from quantassay.diagnosis.knobs import narrow

    values = np.array([16777217, -16777217, 16777219], np.float64)
    assert narrow(values, "fp32", "rz").tolist() == [16777216, -16777216, 16777218]
