"""The planted wrong kernels cover enough classes of mistakes, each by its own reason."""

from __future__ import annotations

import pytest

from tests.test_wrong_kernels import WRONG
from tests.wrong.kinds import DOCUMENT, KINDS, by_kind, kind_of, page


def test_sixty_kernels_in_twelve_classes_or_more() -> None:
    classes = by_kind(WRONG)
    assert len(WRONG) >= 60
    assert len(classes) >= 12
    assert set(classes) <= set(KINDS)
    assert max(map(len, classes.values())) < len(WRONG) // 4  # no class is a catch-all


def test_each_names_the_reason_for_which_it_is_rejected() -> None:
    assert [one.name for one in WRONG if not any(one.words)] == []


def test_words_of_no_class_are_refused() -> None:
    with pytest.raises(ValueError, match=r"words: got \('unheard of',\); allowed"):
        kind_of(("unheard of",))


def test_the_list_is_current() -> None:
    """Made by `python -m tests.wrong.kinds --write`."""
    assert DOCUMENT.read_text() == page(WRONG)
