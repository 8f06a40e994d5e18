"""Malformed command lines and files: exit status 2 and one line, never a traceback."""

from __future__ import annotations

from pathlib import Path

import pytest

from quantassay import console
from quantassay.cli import app
from tests.hostile import commands

PLACE = Path("HOSTILE")  # stands for the test's folder
LINES = list(commands.lines(app, PLACE))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("hostile")
    commands.files(made)
    return made


@pytest.mark.parametrize(("words", "line"), LINES, ids=[words for words, _ in LINES])
def test_bad_usage_is_one_line(words, line, folder, capsys, monkeypatch) -> None:
    monkeypatch.chdir(folder)
    given = [word.replace(str(PLACE), str(folder)) for word in line]
    status = console.run(app, given)
    out, err = capsys.readouterr()
    assert status == console.BAD_USAGE, (status, out, err)
    assert out == ""
    assert err.startswith("quantassay: ")
    assert err.count("\n") == 1, err
    assert "Traceback" not in err


def test_every_command_and_option_is_tried() -> None:
    tried = " ".join(words for words, _ in LINES)
    for name in ("check", "report", "identify"):
        assert f"{name} --device" in tried
        assert f"{name} --kernels" in tried
    assert "doctor" in tried
    assert len(LINES) >= 150
