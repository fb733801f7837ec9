"""What a person can mend is output in one line: a package that is not installed, a disk that is full."""

import errno
import sqlite3

import pytest

from hf_ser import cli
from hf_ser.versions import extra_of


def error_output(main, capsys) -> str:
    with pytest.raises(SystemExit) as end:
        cli.run(main)
    assert end.value.code == 2
    output = capsys.readouterr().err
    assert output.startswith("error: ") and "Traceback" not in output
    return output


@pytest.mark.parametrize(
    ("name", "install"), [("optuna", "pip install hf_ser[search]"), ("sentencepiece", "pip install sentencepiece")]
)
def test_a_package_that_is_not_installed_is_one_line(name, install, capsys):
    def main():
        try:
            raise KeyError("before")
        except KeyError:
            raise ModuleNotFoundError(f"No module named '{name}.x'", name=f"{name}.x")  # noqa: B904

    assert (
        error_output(main, capsys)
        == f"error: found no package {name}, which is needed here. Expected it installed: {install}\n"
    )


def test_a_missing_optional_package_of_a_library_is_one_line(capsys):
    def main():
        raise ImportError("\nX requires the protobuf library but it was not found in your environment.\n Go to")

    assert error_output(main, capsys).count("\n") == 1


@pytest.mark.parametrize(
    "error", [ImportError("cannot import name 'x' from 'y'"), ModuleNotFoundError("m", name="hf_ser.no"), KeyError("x")]
)
def test_a_fault_of_the_code_keeps_its_traceback(error):
    def main():
        raise error

    exec(compile("def outside(error):\n    raise error", "/elsewhere.py", "exec"), space := {})
    with pytest.raises(type(error)):
        cli.run(lambda: space["outside"](error))


def wrapped() -> None:
    try:
        raise OSError(errno.ENOSPC, "No space left on device", "/data/x")
    except OSError as error:
        raise RuntimeError("could not save") from error


def raising(error):
    def main():
        raise error

    return main


@pytest.mark.parametrize(
    "main",
    [
        raising(OSError(errno.ENOSPC, "No space left on device")),
        raising(OSError(errno.EDQUOT, "Disk quota exceeded", "/data/x")),
        raising(sqlite3.OperationalError("database or disk is full")),
        raising(RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)")),
        raising(RuntimeError("[enforce fail] . PytorchStreamWriter failed writing file data/3: file write failed")),
        wrapped,
    ],
)
def test_a_full_disk_is_one_line_with_what_is_kept_and_the_remedy(main, capsys):
    output = error_output(main, capsys)
    assert output.startswith("error: found no space left") and output.count("\n") == 1
    assert "what is finished is kept" in output and "the same command again" in output


def test_another_failed_write_is_no_full_disk():
    assert cli.disk_full_message(OSError(errno.EIO, "Input/output error")) is None
    assert cli.disk_full_message(ValueError("28 clips")) is None


def after_a_full_disk(error):
    def main():
        try:
            raise OSError(errno.ENOSPC, "No space left on device")
        except OSError:
            raise error  # noqa: B904

    return main


def test_an_error_after_a_full_disk_keeps_its_message(capsys):
    error = ModuleNotFoundError("No module named 'optuna'", name="optuna")
    assert "found no package optuna" in error_output(after_a_full_disk(error), capsys)
    with pytest.raises(KeyError):
        cli.run(after_a_full_disk(KeyError("a fault")))


def test_extras_are_known_by_their_packages(monkeypatch):
    lines = ["torch>=2", 'optuna>=4; extra == "search"', 'optuna>=4; extra == "test"']
    monkeypatch.setattr("hf_ser.versions.requires", lambda package: lines)
    assert (extra_of("optuna"), extra_of("torch"), extra_of("nothing")) == ("search", None, None)
