"""Every dialect that a package implements agrees with that package; and the comparison bites."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from reference import get_op
from tests.packages.catalogue import PEERS
from tests.packages.peer import Known, Peer, agree

FEW = 200_000  # elements here; `make packages` writes the table at full size


@pytest.mark.parametrize("peer", PEERS, ids=lambda p: f"{p.package}-{p.op}-{p.call}")
def test_agrees(peer: Peer) -> None:
    found = agree(peer, FEW)
    assert found.unexplained == 0, "\n".join(found.examples)
    assert found.elements >= FEW
    assert found.differences == sum(found.known.values())


def _one_off(peer: Peer) -> Peer:
    """The same function with one code of each input one up."""

    def run(inputs):
        first, *rest = peer.run(inputs)
        wrong = first.copy()
        wrong.flat[wrong.size // 2] += np.int8(1)
        return wrong, *rest

    return replace(peer, run=run)


@pytest.mark.parametrize("peer", PEERS[::7], ids=lambda p: f"{p.package}-{p.op}")
def test_one_wrong_code_is_unexplained(peer: Peer) -> None:
    assert agree(_one_off(peer), 1).unexplained > 0


def test_a_known_difference_covers_its_elements_only() -> None:
    peer = _one_off(PEERS[0])
    name = get_op(peer.op).output_names()[0]
    none = Known("nothing", lambda one: np.zeros(one.ours.shape, bool))
    everything = Known("everything", lambda one: np.ones(one.ours.shape, bool))
    assert agree(replace(peer, known={name: (none,)}), 1).unexplained > 0
    covered = agree(replace(peer, known={name: (everything,)}), 1)
    assert covered.unexplained == 0
    assert covered.known == {"everything": covered.differences}
