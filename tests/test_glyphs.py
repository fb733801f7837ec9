"""Pictures show names in any script as letters, or spelled out; never as boxes."""

import warnings

import pytest
from matplotlib.figure import Figure

from hf_ser import glyphs
from hf_ser.plotting import save

NAMES = ("生气", "かなしい", "기쁨", "غاضب", "गुस्सा", "happy", "fröhlich")


@pytest.mark.parametrize("is_installed", [False, True])
def test_no_picture_has_boxes(tmp_path, monkeypatch, is_installed):
    if not is_installed:
        monkeypatch.setattr(glyphs, "font_with", lambda letters: None)
    figure = Figure()
    axes = figure.subplots()
    axes.barh(range(len(NAMES)), range(len(NAMES)))
    axes.set_yticks(range(len(NAMES)), NAMES)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        save(figure, tmp_path / "x.png")
    assert not [one for one in caught if "missing from" in str(one.message)]
    drawn = [text.get_text() for text in axes.get_yticklabels()]
    assert drawn[-2:] == ["happy", "fröhlich"]
    if not is_installed:
        assert len(caught) == 1
        assert "no installed font" in str(caught[0].message) and drawn[0] == "U+751F U+6C14 "
        assert drawn[1] == "kanasii" and drawn[2].startswith("gi")
        assert len(set(drawn)) == len(NAMES)
