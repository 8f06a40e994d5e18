"""The cache folder's rule, and replacing a file in one step."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from reference import storage
from reference.storage import cache_folder, keep, private_folder, replace


@pytest.mark.parametrize("value", [None, ""])
def test_an_unset_or_empty_variable_means_the_home(
    value: str | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv(storage.VARIABLE, raising=False)
    if value is not None:
        monkeypatch.setenv(storage.VARIABLE, value)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "quantassay"
    assert not cache_folder().exists()
    assert private_folder("kernels") == cache_folder() / "kernels"
    assert stat.S_IMODE((cache_folder() / "kernels").stat().st_mode) & 0o077 == 0


def test_the_variable_names_the_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(storage.VARIABLE, str(tmp_path / "a" / "b"))
    assert cache_folder() == tmp_path / "a" / "b"
    assert keep(cache_folder() / "c" / "file", b"x")
    assert (tmp_path / "a" / "b" / "c" / "file").read_bytes() == b"x"


def test_without_a_home_nothing_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv(storage.VARIABLE, raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    assert private_folder("kernels") is None
    assert not keep(cache_folder() / "file", b"x")


def test_a_folder_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv(storage.VARIABLE, str(tmp_path / "file" / "cache"))
    assert private_folder("kernels") is None
    assert not keep(cache_folder() / "file", b"x")


def test_another_users_folder_is_not_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(storage.VARIABLE, str(tmp_path))
    assert private_folder("kernels") is not None
    monkeypatch.setattr(os, "getuid", lambda: -1)
    assert private_folder("kernels") is None


def test_a_file_is_replaced_in_one_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "result.json"
    target.write_text("old")

    def fails(*_: object) -> None:
        raise OSError("disk full")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", fails)
        with pytest.raises(OSError, match="disk full"):
            replace(target, "new")
        assert not keep(target, "new")
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]
    replace(target, "n\u00e9w")
    assert target.read_bytes() == "n\u00e9w".encode()
    replace(target, b"\x00")
    assert target.read_bytes() == b"\x00"
    assert list(tmp_path.iterdir()) == [target]


def test_a_new_file_has_the_usual_permissions(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("")
    replace(tmp_path / "new", "")
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("plain", "new")]
    assert modes[0] == modes[1]


def test_long_names_fit(tmp_path: Path) -> None:
    target = tmp_path / ("x" * 250)
    replace(target, "whole")
    assert target.read_text() == "whole"
