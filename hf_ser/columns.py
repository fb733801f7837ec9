"""The row: what one utterance is, and how a data set of them is typed.

Everything that reads a corpus ends in `Utterance`s; everything that trains starts from rows typed by `features`.
"""

from dataclasses import dataclass, field
from pathlib import Path

from datasets import Audio, ClassLabel, Features, List, Value

SAMPLING_RATE = 16_000
"""Hz. Every stored clip and every model of this toolkit uses this one rate."""

REFERENCE = "reference"
"""`transcript_source` of words that the corpus itself gives; an ASR transcript says `<ASR id>@<revision>`."""

SEXES = ("female", "male")


@dataclass(frozen=True)
class Utterance:
    """One clip of one speaker, as a corpus lists it before its audio is read.

    Args:
        id: Unique over all corpora, `<corpus>/<name>`.
        audio: File to decode, or the bytes of one.
        label: Emotion, one of the listing's labels.
        corpus: Name of the corpus.
        speaker: Who speaks, `<corpus>/<name>`, None where the corpus does not say. Of two tables, speakers of one name
            are taken to be one person, which is the safe side.
        sex: `female`, `male` or None.
        session: Recording session, where the corpus has them.
        sentence: Sentence or script id, where several clips share a text.
        transcript: The words, None where they are not known.
        transcript_source: `reference`, or `<ASR id>@<revision>`; None without a transcript.
        votes: Raters' votes by label (counts or shares), None where there are none.
    """

    id: str
    audio: str | Path | bytes
    label: str
    corpus: str
    speaker: str | None = None
    sex: str | None = None
    session: str | None = None
    sentence: str | None = None
    transcript: str | None = None
    transcript_source: str | None = None
    votes: dict[str, float] | None = None


@dataclass(frozen=True)
class Finding:
    """Something a person should know about one item: what kind, which item, and what exactly was found.

    Args:
        kind: A short controlled word, e.g. `unreadable`, `stereo`, `duplicate`.
        item: File or utterance id.
        detail: What was found, in words.
        skipped: Whether the item is left out of the data set because of it.
    """

    kind: str
    item: str
    detail: str
    skipped: bool = False


@dataclass(frozen=True)
class Listing:
    """What a corpus folder holds: the label names in their order, the utterances, and what was passed over and why."""

    labels: tuple[str, ...]
    utterances: list[Utterance]
    findings: list[Finding] = field(default_factory=list)


def features(labels: tuple[str, ...]) -> Features:
    """Typed columns of a prepared data set.

    Args:
        labels: Emotion names in the order of their class indices.

    Returns:
        `datasets.Features`; `audio` holds the encoded bytes of a mono 16 kHz clip and is never decoded by `datasets`
        itself, `votes` is a distribution over `labels` or null.
    """
    text = Value("string")
    return Features(
        {
            "id": text,
            "audio": Audio(SAMPLING_RATE, decode=False),
            "label": ClassLabel(names=list(labels)),
            "votes": List(Value("float32")),
            "speaker": text,
            "sex": text,
            "session": text,
            "sentence": text,
            "transcript": text,
            "transcript_source": text,
            "duration_seconds": Value("float32"),
            "corpus": text,
            "pcm_sha256": text,
        }
    )
