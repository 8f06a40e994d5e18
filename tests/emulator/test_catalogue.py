"""The catalogue holds: every planted bug is named to the thread, every right twin passes."""

from __future__ import annotations

import pytest

from tests.emulator import catalogue
from tests.emulator.catalogue import ENTRIES
from tests.emulator.planted import expect

IDS = [f"{entry.group}: {entry.name}" for entry in ENTRIES]


@pytest.mark.parametrize("entry", ENTRIES, ids=IDS)
def test_the_bug_is_found_with_kernel_line_thread_and_block(cuda, entry):
    expect(cuda, entry.bug.ready(), **catalogue.options(entry))


@pytest.mark.parametrize("entry", ENTRIES, ids=IDS)
def test_the_right_twin_passes(cuda, entry):
    bug = entry.bug
    if bug.shared_bytes > 1 << 16:  # its twin asks for less, not for another source
        bug = catalogue.within_the_limit(bug)
    else:
        assert entry.fix
    catalogue.run_right(cuda(entry.right), bug, entry)


def test_every_class_has_an_entry():
    groups = {entry.group for entry in ENTRIES}
    assert len(groups) >= 14
    assert len(set(IDS)) == len(IDS)


def test_the_page_is_current(cuda):
    """Made by `python -m tests.emulator.catalogue --write`."""
    assert catalogue.DOCUMENT.read_text() == catalogue.page(cuda)
