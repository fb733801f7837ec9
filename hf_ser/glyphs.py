"""Letters that the font of a picture lacks: another installed font, or else how they are read, instead of boxes."""

import re
import unicodedata
import warnings
from functools import cache

import matplotlib
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, fontManager
from matplotlib.ft2font import FT2Font
from matplotlib.text import Text

READING = re.compile(r"(?:LETTER|SYLLABLE|SIGN|DIGIT) (.+)$")


def without_boxes(figure: Figure) -> None:
    """Give each text of a figure a font that has its letters; where none is installed, write how they are read."""
    replaced, axes = {}, [axis for one in figure.axes for axis in (one.xaxis, one.yaxis)]
    # Labels of ticks are written when they are asked for, and anew when they are drawn.
    ticks = {axis: [label.get_text() for label in axis.get_ticklabels()] for axis in axes}
    for text in figure.findobj(Text):
        lacking = {ord(one) for one in text.get_text() if not one.isspace()} - covered(default_font())
        if not lacking:
            continue
        if (family := family_with(frozenset(lacking))) is not None:
            text.set_fontfamily([*matplotlib.rcParams["font.family"], family])
            continue
        given = text.get_text()
        replaced[given] = "".join(reading(one) if ord(one) in lacking else one for one in given)
        text.set_text(replaced[given])
    for axis, labels in ticks.items():
        if any(label in replaced for label in labels):
            axis.set_ticks(axis.get_ticklocs(), [replaced.get(label, label) for label in labels])
    if replaced:
        told = ", ".join(f"{given} is {text}" for given, text in list(replaced.items())[:10])
        warnings.warn(
            f"no installed font has the letters of some names, which pictures give as they are read: {told}. For the "
            "letters themselves install a font that has them, such as fonts-noto-cjk.",
            stacklevel=3,
        )


def reading(letter: str) -> str:
    """How a letter is read, by its name in Unicode, such as `ka`; of a Chinese one its number, such as `U+751F`."""
    found = READING.search(unicodedata.name(letter, ""))
    return found[1].lower() if found else f"U+{ord(letter):04X} "


def default_font() -> str:
    return findfont(FontProperties())


@cache
def covered(file: str) -> frozenset[int]:
    """Numbers of the letters that a font has."""
    try:
        return frozenset(FT2Font(file).get_charmap())
    except (OSError, RuntimeError):
        return frozenset()


@cache
def family_with(letters: frozenset[int]) -> str | None:
    """An installed font that has all of some letters."""
    for font in sorted(fontManager.ttflist, key=lambda one: (one.style != "normal", one.weight != 400, one.name)):
        if "Last" not in font.name and letters <= covered(font.fname):
            return font.name
    return None
