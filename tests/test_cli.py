"""What a person can mend is output in one line: a package that is not installed, a disk that is full."""

import errno
import signal
import sqlite3
import subprocess

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


@pytest.mark.parametrize(
    ("continues", "line"),
    [(True, "stopped by Ctrl-C: the same command goes on where it stopped"), (False, cli.STOPPED)],
)
def test_ctrl_c_says_whether_the_command_goes_on(continues, line, capsys):
    with pytest.raises(SystemExit) as end:
        cli.run(raising(KeyboardInterrupt()), continues)
    assert (end.value.code, capsys.readouterr().err) == (130, f"{line}\n")


def test_of_several_processes_one_speaks(monkeypatch, capsys):
    waits = []
    monkeypatch.setattr(cli.time, "sleep", waits.append)
    monkeypatch.setenv("LOCAL_RANK", "1")
    with pytest.raises(SystemExit):
        cli.run(raising(KeyboardInterrupt()))
    cli.show_next("predict runs/a call.wav")
    assert capsys.readouterr() == ("", "")
    with pytest.raises(SystemExit):  # perhaps of this process alone: shown if the first has not ended all by then
        cli.run(lambda: cli.take_plugins(["x", "--plugins", "none.py"]))
    assert waits == [cli.LATER_PROCESS_SECONDS]
    assert capsys.readouterr().err.startswith("error: ")


def test_a_process_of_several_ends_at_once_after_an_error(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(cli.os, "_exit", lambda status: (_ for _ in ()).throw(GeneratorExit(status)))
    with pytest.raises(GeneratorExit):
        cli.run(lambda: cli.take_plugins(["x", "--plugins", "none.py"]))


@pytest.mark.parametrize(
    ("started", "line"),
    [
        ("scripts/train_audio.py", "  python scripts/predict.py M a.wav"),
        ("hf-ser train_audio", "  hf-ser predict M a.wav"),
    ],
)
def test_next_commands_are_written_as_this_one_was_typed(started, line, monkeypatch, capsys):
    monkeypatch.setattr(cli.sys, "argv", [started])
    cli.show_next("predict M a.wav")
    assert capsys.readouterr().out.splitlines() == ["next:", line]


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (subprocess.CalledProcessError(2, "x"), 2, ""),
        (subprocess.CalledProcessError(-9, "x"), 137, "ended by signal 9 (Killed), perhaps out of memory"),
        (KeyboardInterrupt(), 130, ""),
        (None, None, ""),
    ],
)
def test_launch_runs_a_command_by_accelerate_and_adds_no_traceback(error, status, line, monkeypatch, capsys):
    from accelerate.commands import launch

    def launch_command(given):
        seen.append((given.num_processes, given.module, given.training_script, given.training_script_args))
        if error:
            raise error

    seen, handler = [], signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(launch, "launch_command", launch_command)
    monkeypatch.setattr(cli.sys, "argv", [])
    with pytest.raises(SystemExit) as end:
        cli.launch(["--num_processes", "2", "train-audio", "predict"], ["train_audio", "predict"])
    signal.signal(signal.SIGINT, handler)
    output = capsys.readouterr().err
    assert end.value.code == status and line in output and output.count("\n") == bool(line)
    assert seen == [(2, True, "hf_ser.scripts.train_audio", ["predict"])]


def test_launch_lists_the_commands_where_one_is_mistyped(monkeypatch, capsys):
    monkeypatch.setattr(cli.sys, "argv", [])
    with pytest.raises(SystemExit) as end:
        cli.launch(["--num_processes", "2", "trian-audio", "--dataset", "predict"], ["train_audio", "predict"])
    assert end.value.code == 2
    assert capsys.readouterr().err == "error: unknown command 'trian-audio', expected one of train_audio, predict\n"
