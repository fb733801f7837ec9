"""Characters that the font of a picture lacks: drawn with another installed font, or spelled out."""

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


def replace_missing_glyphs(figure: Figure) -> None:
    """Give each text of a figure a font that has its characters; where none is installed, spell them out."""
    replaced, axes = {}, [axis for one in figure.axes for axis in (one.xaxis, one.yaxis)]
    # Tick labels are made on access and again when drawn, so that changed ones must be set on the axis.
    ticks = {axis: [label.get_text() for label in axis.get_ticklabels()] for axis in axes}
    for text in figure.findobj(Text):
        lacking = {ord(one) for one in text.get_text() if not one.isspace()} - font_characters(default_font())
        if not lacking:
            continue
        if (family := font_with(frozenset(lacking))) is not None:
            text.set_fontfamily([*matplotlib.rcParams["font.family"], family])
            continue
        given = text.get_text()
        replaced[given] = "".join(spelled_out(one) if ord(one) in lacking else one for one in given)
        text.set_text(replaced[given])
    for axis, labels in ticks.items():
        if any(label in replaced for label in labels):
            axis.set_ticks(axis.get_ticklocs(), [replaced.get(label, label) for label in labels])
    if replaced:
        examples = ", ".join(f"{given} is {text}" for given, text in list(replaced.items())[:10])
        warnings.warn(
            f"no installed font has the letters of some names, which pictures spell out: {examples}. For the letters "
            "themselves install a font that has them, such as fonts-noto-cjk.",
            stacklevel=3,
        )


def spelled_out(letter: str) -> str:
    """The reading of a letter from its Unicode name, such as `ka`; its code point where it has none (`U+751F`)."""
    found = READING.search(unicodedata.name(letter, ""))
    return found[1].lower() if found else f"U+{ord(letter):04X} "


def default_font() -> str:
    return findfont(FontProperties())


@cache
def font_characters(file: str) -> frozenset[int]:
    """Code points of the characters that a font has."""
    try:
        return frozenset(FT2Font(file).get_charmap())
    except (OSError, RuntimeError):
        return frozenset()


@cache
def font_with(letters: frozenset[int]) -> str | None:
    """The name of an installed font that has all these letters; None where there is none."""
    for font in sorted(fontManager.ttflist, key=lambda one: (one.style != "normal", one.weight != 400, one.name)):
        if "Last" not in font.name and letters <= font_characters(font.fname):
            return font.name
    return None
