"""A sample of the mutants of docs/mutation.md, and that the tool itself bites.

Contract: the chosen mutants are judged as recorded; a change that the compilers do not see is
equivalent, and so is a renamed variable; the records, the table and the arguments fit each other.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from quantassay.loading import load_wings
from quantassay.mutation import campaign, operators_cuda, operators_python, results, table
from quantassay.mutation.judge import Verdict
from quantassay.mutation.mutant import Edit, Mutant, mutants_of, sampled
from quantassay.mutation.plan import Plan

CUDA, NUMBA = "kernels_cupy/int8_pack.cu", "kernels_numba/int8_pack.py"
OPS = ("int8.transpose", "int8.pack")
COUNT = 3  # killed mutants of each file

load_wings()


def judged(file: str, mutants: list[Mutant]) -> list[Verdict]:
    source, _ = campaign.mutants(file)
    found: list[Verdict] = []
    one = campaign.Campaign(Plan(campaign.wing_of(file)), ("ieee",), OPS)
    one.run(file, mutants, source, lambda _, verdict: found.append(verdict))
    return found


def changed(file: str, operator: str, after: str, source: str) -> Mutant:
    """The whole source, changed."""
    (made,) = mutants_of(file, source, [Edit(0, len(source), operator, after)])
    return made


def chosen(file: str) -> list[Mutant]:
    """Mutants that the records know as killed by the emulator's runs."""
    _, mutants = campaign.mutants(file)
    kinds = results.read()[file].verdicts
    killed = [one for one in mutants if kinds.get(one.id) in ("output", "fault")]
    return sampled(killed, COUNT, 4)


@pytest.mark.parametrize("file", [CUDA, NUMBA])
def test_mutants_are_judged_as_recorded(file: str) -> None:
    source, _ = campaign.mutants(file)
    assert results.read()[file].hash == campaign.digest(source), "judge this file again"
    mutants = chosen(file)
    verdicts = judged(file, mutants)
    assert len(verdicts) == COUNT
    for verdict, mutant in zip(verdicts, mutants, strict=True):
        assert verdict.verdict == "killed", (mutant, verdict)
        assert verdict.kind in ("output", "fault"), (mutant, verdict)


def test_what_the_compiler_does_not_see_is_no_kill() -> None:
    source, _ = campaign.mutants(CUDA)
    name = next(re.finditer(r"const int (\w+) = ", source))[1]
    renamed = changed(CUDA, "renamed", re.sub(rf"\b{name}\b", f"{name}_too", source), source)
    twice = changed(CUDA, "comment", f"{source}// the end\n", source)
    broken = changed(CUDA, "broken", source.replace("__syncthreads();", "__syncthreads(;"), source)
    barrier = changed(CUDA, "barrier", source.replace("__syncthreads();", ""), source)
    kinds = [(one.verdict, one.kind) for one in judged(CUDA, [renamed, twice, broken, barrier])]
    assert kinds[:3] == [("equivalent", ""), ("equivalent", ""), ("stillborn", "")]
    assert kinds[3] == ("killed", "fault")


def test_an_endless_loop_is_killed_by_time() -> None:
    source, _ = campaign.mutants(CUDA)
    opened = source.index("{", source.index('extern "C"'))
    after = f"{source[: opened + 1]} volatile int on = 1; while (on) {{}} {source[opened + 1 :]}"
    (verdict,) = judged(CUDA, [changed(CUDA, "endless", after, source)])
    assert (verdict.verdict, verdict.kind) == ("killed", "timeout")


# --- the operators


def made(edits: list[Edit], source: str) -> set[str]:
    return {one.apply(source) for one in mutants_of("a file", source, edits)}


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("a = b + c;", {"a = b - c;", ";"}),
        ("int* p; T<int> q; f(x & y);", {"int* p; T<int> q; f(x | y);", "int* p; T<int> q; ;"}),
        ("if (m < M) return;", {"if (m <= M) return;", "if (m >= M) return;", "if (m < M) ;",
                                "if (n < M) return;", "if (m < N) return;",
                                "if (!(m < M)) return;"}),
        ("__syncthreads();", {";"}),
        ("x = __fmaf_rn(a, b, c);", {"x = __fmaf_rz(a, b, c);", "x = __fmaf_ru(a, b, c);", ";",
                                     "x = __fadd_rn(__fmul_rn(a, b), c);"}),
        ("float v[4]; v[i] = 2u;", {"float v[5]; v[i] = 2u;", "float v[3]; v[i] = 2u;",
                                    "float v[0]; v[i] = 2u;", "float v[4]; v[i + 1] = 2u;",
                                    "float v[4]; v[i] = 3u;", "float v[4]; v[i] = 1u;",
                                    "float v[4]; v[i] = 0u;", "float v[4]; ;"}),
        ("// a + b\nstatic_assert(a < 3);", set()),
    ],
)  # fmt: skip
def test_cuda_operators(source: str, expected: set[str]) -> None:
    assert made(list(operators_cuda.edits(source)), source) == expected


def test_python_operators_change_the_device_side_only() -> None:
    source = (
        "def host(n):\n"
        "    size = n + 1\n"
        "    def kernel(a, out):\n"
        '        """One + one."""\n'
        "        out[i] = libdevice.fadd_rn(a, b)\n"
        "    return kernel\n"
    )
    body = "        out[i] = libdevice.fadd_rn(a, b)\n"
    expected = {
        source.replace(body, f"        {after}\n")
        for after in (
            "pass",
            "out[i + 1] = libdevice.fadd_rn(a, b)",
            "out[(i) + uint64(1)] = libdevice.fadd_rn(a, b)",
            "out[i] = libdevice.fadd_rz(a, b)",
            "out[i] = libdevice.fadd_ru(a, b)",
        )
    }
    assert made(list(operators_python.edits(source)), source) == expected


def test_identities_stay_when_other_lines_move() -> None:
    source, mutants = campaign.mutants(CUDA)
    moved = f"// one line more\n{source}"
    again = mutants_of(CUDA, moved, operators_cuda.edits(moved))
    assert [one.id for one in again] == [one.id for one in mutants]
    assert len({one.id for one in mutants}) == len(mutants)
    assert all(one.apply(source).count("\n") == source.count("\n") for one in mutants)


# --- records, table, arguments


def test_the_table_is_that_of_the_records() -> None:
    made = table.text(results.read(), results.arguments())
    kept = table.FILE.read_text()
    mark = re.compile(r"(as judged|changed since)")  # of the sources, which move on
    assert mark.sub("", made) == mark.sub("", kept)


def test_every_argument_speaks_of_a_line_and_a_survivor() -> None:
    known, records = results.arguments(), results.read()
    assert results.stale(known) == []
    spoken = {
        argument
        for record in records.values()
        for argument in table.shown_equivalent(record, known).values()
    }
    assert [one for one in known if one not in spoken] == []
    assert all(len(one.why.split()) > 4 for one in known)


def test_a_stale_argument_is_found() -> None:
    gone = results.Argument(CUDA, "a line that is not there", "constant", "0 -> 1", "no reason")
    assert results.stale([gone]) == [gone]


def test_records_are_read_as_written(tmp_path: Path) -> None:
    _, (first, second, *_) = campaign.mutants(CUDA)
    record = results.Record(CUDA, "hash", 2)
    record.add(first, Verdict("survived", words="why"))
    record.add(second, Verdict("killed", "output"))
    results.write({CUDA: record}, tmp_path / "some.json")
    assert results.read(tmp_path / "some.json") == {CUDA: record}
    argument = results.Argument(CUDA, first.text, first.operator, first.change, "it is the same")
    assert table.score(record, []) == 0.5
    assert table.score(record, [argument]) == 1.0
    record.add(first, Verdict("killed", "fault"))
    assert (record.killed, record.survivors) == (2, {})
