"""Normal form of names and texts, spellings of "not known", and safe printing of texts that users wrote.

One name has many spellings that look the same: composed on Windows and decomposed on a Mac, with a no-break space, a
full-width digit, or an invisible character. Every text of a corpus is normalised when it is read.
"""

import re
import unicodedata
from functools import lru_cache

PLAIN_ASCII = re.compile(r"[!-~]+(?: [!-~]+)*")
"""ASCII that needs no normalisation, the usual case."""

JOINERS = "\u200c\u200d"
"""Invisible, but Persian, Indic scripts and emoji need them."""

STRAY_JOINERS = re.compile(rf"(?<!\S)[{JOINERS}]+|[{JOINERS}]+(?!\S)|[{JOINERS}]+(?=[\u0300-\u036f])")
"""Joiners without effect: at the edge of a word, or before an accent."""

INVISIBLE = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0") | {
    chr(code) for code in range(0xFE00, 0xFE10)
}
"""Invisible characters that Unicode counts as letters, marks or symbols: fillers and variation selectors."""

DASHES = dict.fromkeys(map(ord, "\u2010\u2011\u2012\u2013\u2014\u2015\u2212\ufe58\ufe63"), "-")
QUOTES = dict.fromkeys(map(ord, "\u2018\u2019\u201a\u201b\u2032\u02bc`\u00b4"), "'")
LATIN_LOOK_ALIKES = str.maketrans(
    "\u0430\u0435\u043e\u0440\u0441\u0443\u0445\u0456\u0458\u0455\u0501\u03bf\u03b1\u03bd\u03c1\u0131\u04cf",
    "aeopcyxijsdoavpil",
)
"""Cyrillic and Greek small letters that look like Latin ones."""

EDGE_PUNCTUATION = (
    " .,;:!?\u2026\u00a1\u00bf\"'`*~|/\\\u00b7\u3002\u3001\u00ab\u00bb\u201c\u201d\u201e\u2018\u2019\u061f\u060c"
)
"""Punctuation around a name that is not part of it. + and - are not among it, as in `arousal+`."""

UNKNOWN_WORDS = frozenset(
    (
        *("unknown", "unk", "unkn", "unkown", "unknow", "not known", "unidentified", "unspecified", "undefined"),
        *("nan", "na", "n/a", "n.a", "#n/a", "#na", "nat", "none", "null", "nil", "n.n", "missing", "no value"),
        *("not available", "not applicable", "not given", "not specified", "not stated", "not set", "not identified"),
        *("not provided", "not determined", "no name", "no id", "tbd", "tba", "t.b.d", "t.b.a", "to be determined"),
        *("anonymous", "anon", "anonym", "anonymus", "anonyme", "anonimo", "nobody", "no one", "noone", "somebody"),
        *("someone", "undetermined", "undisclosed", "withheld", "not disclosed", "no speaker", "-1"),
        *("unbekannt", "k.a", "keine angabe", "inconnu", "desconocido", "desconhecido", "sconosciuto", "onbekend"),
        *("\u043d\u0435\u0438\u0437\u0432\u0435\u0441\u0442\u043d\u043e", "\u672a\u77e5", "\u4e0d\u660e"),
    )
)
"""Spellings of an unknown value, in the form that `is_unknown` looks up."""

PERSON = r"(?:speaker|spkr|spk|talker|person|actor|participant|subject|voice|caller|client|customer|user|id|name|sex)"
NUMBERED_UNKNOWN = re.compile(
    rf"(?:{PERSON} )?(unknown|unk|unidentified|unspecified|anonymous|anon|undefined)(?: {PERSON})?(?: ?#?\d+)?"
)
"""`spk_unknown`, `unknown_1`: the number identifies the recording, not the person."""

MISSING_LABELS = frozenset(("nan", "NaN", "NAN", "Nan", "NA", "N/A", "n/a", "#N/A", "#NA", "<NA>", "<na>", "NaT"))
MISSING_LABELS |= {"None", "NULL", "Null", "null", "nil"}
"""Spellings of a missing label by programs. `none` and `unknown` in small letters may be classes."""


@lru_cache(maxsize=65_536)
def normal_form(text: str, keep_joiners: bool = False) -> str:
    """Text as it is stored and compared: NFKC, any whitespace as one space, no invisible characters.

    Args:
        text: Any text.
        keep_joiners: Keep the joiners between two letters, which some languages need.
    """
    if PLAIN_ASCII.fullmatch(text):
        return text
    text = unicodedata.normalize("NFKC", text)
    kept = "".join(one for one in text if one.isspace() or _is_shown(one) or (keep_joiners and one in JOINERS))
    # Without the character between them, a letter and its accent can be composed.
    text = " ".join(unicodedata.normalize("NFKC", kept).split())
    return text if not keep_joiners else unicodedata.normalize("NFKC", STRAY_JOINERS.sub("", text))


def normal_name(text: str) -> str:
    """Normal form of a label or a person's name, without punctuation around it: `sad!` becomes `sad`."""
    text = normal_form(text)
    return text.strip(EDGE_PUNCTUATION) or text


def normal_text(text: str) -> str:
    """Normal form of a transcript, with the joiners that its language needs."""
    return normal_form(text, keep_joiners=True)


@lru_cache(maxsize=65_536)
def bare_words(text: str) -> str:
    """Words of a text without capitals and punctuation: what two writings of one sentence have in common."""
    return " ".join(re.findall(r"\w+", normal_form(text).casefold()))


def look_alike(text: str) -> str:
    """Key that is equal for two names that a person would read as the same name.

    Ignored are capitals, spaces, hyphens and underscores, punctuation around the name, leading zeros, `.0`, the plus
    sign of a number, and which alphabet a letter of the same shape is from.
    """
    text = normal_name(text).casefold().translate(DASHES | QUOTES)
    text = normal_name(text).translate(LATIN_LOOK_ALIKES)
    text = re.sub(r"(?<=\w)[\s_-]+(?=\w)", "_", text)
    text = re.sub(r"(?<=\d)_+(?=\d)", "-", text)  # 1_11 and 11_1 stay two names
    text = text.replace("_", "") if re.search(r"\w", text.replace("_", "")) else text
    text = re.sub(r"(?<=\d)\.0+$", "", text)
    text = re.sub(r"^\+(?=\d)", "", text)
    return re.sub(r"(?<![\d.])0+(?=\d)", "", text)


@lru_cache(maxsize=65_536)
def is_unknown(text: str) -> bool:
    """Whether a cell has no value: empty, punctuation alone, or one of `UNKNOWN_WORDS`."""
    text = normal_name(text).casefold().translate(DASHES)
    text = " ".join(re.sub(r"^[<(\[{\"']+|[>)\]}\"']+$", "", text).replace("_", " ").split())
    if not re.search(r"[^\s!-/:-@\[-`{-~]", text):
        return True
    text = text.strip(" .?!")
    words = re.sub(r"(?<=\w)-(?=\w)", " ", text)
    return text in UNKNOWN_WORDS or words in UNKNOWN_WORDS or bool(NUMBERED_UNKNOWN.fullmatch(words))


def is_missing_label(text: str) -> bool:
    """Whether a label is one of `MISSING_LABELS`, or punctuation alone."""
    text = normal_form(text)
    return text in MISSING_LABELS or (is_unknown(text) and not re.search(r"\w", text))


def is_text(text: str) -> bool:
    """Whether a text can be encoded as UTF-8: half of a surrogate pair cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def storable(name: str) -> str:
    """File name whose bytes that are not UTF-8 are written as `\\xfc`."""
    return name if is_text(name) else name.encode("utf-8", "backslashreplace").decode()


def printable(text: object, keep_lines: bool = False) -> str:
    """Escape what would control a terminal, or hide or reverse text, as `\\x1b`.

    Args:
        text: Text of a user.
        keep_lines: Keep line ends.
    """
    text = str(text)
    if PLAIN_ASCII.fullmatch(text):
        return text
    return "".join(
        one.encode("unicode_escape", "backslashreplace").decode()
        if _is_hidden(one) and not (one == "\n" and keep_lines)
        else one
        for one in text
    )


def _is_hidden(character: str) -> bool:
    """Whether a terminal does not show a character; it may end a line, or reverse or hide text."""
    shown = _is_shown(character) and unicodedata.category(character) not in ("Zl", "Zp")
    return not shown and character not in JOINERS


def _is_shown(character: str) -> bool:
    return unicodedata.category(character) not in ("Cc", "Cf", "Cs") and character not in INVISIBLE


PLAIN_LINES = re.compile(r"[\n\t -~]*")


def for_terminal(text: str) -> str:
    """Escape what `printable` escapes as `\\u001b`, which JSON reads as the same character; lines are kept."""
    if PLAIN_LINES.fullmatch(text):
        return text
    return "".join(_json_escape(one) if _is_hidden(one) and one not in "\n\t" else one for one in text)


def _json_escape(character: str) -> str:
    pairs = character.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{pairs[start : start + 4]}" for start in range(0, len(pairs), 4))
