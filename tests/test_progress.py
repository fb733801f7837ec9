"""Progress of long work where there is no terminal: a line now and then, and none of what is over at once."""

import pytest

from hf_ser import progress
from hf_ser.progress import Progress


def test_lines_say_what_is_done_and_what_is_left(monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    with Progress(520, "frozen audio features", "clips") as bar:
        for now[0] in (10.0, 29.0, 40.0, 50.0, 75.0):
            bar.update(13)
    assert capsys.readouterr().err.splitlines() == [
        "frozen audio features: 39 of 520 clips, 0.975 clips/s, about 8 min left",
        "frozen audio features: 65 of 520 clips, 0.867 clips/s, about 9 min left",
    ]


@pytest.mark.parametrize("hidden", [True, False])
def test_short_and_hidden_work_writes_nothing(hidden, capsys):
    with Progress(3, "reading", "clips", hidden) as bar:
        bar.update(3)
    assert capsys.readouterr().err == ""
