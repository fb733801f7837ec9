"""Utterances, findings and the typed columns of a data set.

Every corpus is read into `Utterance`s; training starts from rows typed by `features`.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from datasets import Audio, ClassLabel, Features, List, Value

SAMPLING_RATE = 16_000
"""Hz, of every stored clip and every model."""

REFERENCE = "reference"
"""`transcript_source` of the corpus's own transcripts; that of a recogniser is `<ASR id>@<revision>`."""

ASR_COLUMNS = Features(
    {"reference_transcript": Value("string")}
    | dict.fromkeys(("asr_avg_logprob", "asr_no_speech_prob", "asr_compression_ratio"), Value("float32"))
)
"""Further columns of a transcribed data set, whose `transcript` is a recogniser's: the corpus's own transcript, and the
recogniser's confidence."""

SEXES = ("female", "male")
SPLITS = ("train", "validation", "test")
SPLIT_NAMES = {
    **dict.fromkeys(("train", "training", "trn", "trainset"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "validate", "validating", "vld"), "validation"),
    **dict.fromkeys(("dev", "devel", "development", "devset", "valset", "tune", "tuning"), "validation"),
    **dict.fromkeys(("test", "testing", "tst", "testset"), "test"),
}
"""Names of splits and the part that they mean; a number or a word may follow: `Test1`, `dev-clean`."""
EVALUATION_NAMES = ("eval", "evaluation", "evl", "evaluate")
"""Names of the validation or the test part, depending on the other names of the split."""
DIALOGUE_KINDS = ("impro", "script")

UNKNOWN = "unknown"
"""Name of an unknown speaker, sex or other group in tables and pictures."""

NUMBERS = ("age", "valence", "activation", "dominance")
METADATA_COLUMNS = (
    *("speaker", "sex", "age", "race", "ethnicity"),
    *("session", "dialogue", "dialogue_kind", "script", "scene", "sentence", "split"),
    *("transcript", "transcript_source", "valence", "activation", "dominance"),
)
"""Columns that are copied from an utterance, besides its id, label, votes and corpus."""


@dataclass(frozen=True, slots=True)
class Utterance:
    """One clip of one speaker, as a corpus lists it before its audio is read.

    Args:
        id: Unique over all corpora, `<corpus>/<name>`.
        audio: File to decode, its bytes, or a function without arguments that returns the bytes (with a `repr` that
            identifies the clip); None for a row of text only.
        label: Emotion, one of the listing's labels.
        corpus: Name of the corpus.
        speaker: `<corpus>/<name>`, None if unknown. Speakers of the same name in two tables count as one person, which
            is the safe assumption.
        sex: `female`, `male` or None.
        age: Years.
        race, ethnicity: As the corpus names them.
        session: Recording session.
        dialogue: Conversation that the utterance is a turn of.
        dialogue_kind: `impro` (improvised) or `script` (read from a play).
        script: Text of a play that several speakers read.
        scene: Script or improvised scenario: clips of one scene share their topic.
        sentence: Fixed sentence that several clips share.
        split: `train`, `validation` or `test`, if published.
        transcript: Spoken text, None if unknown.
        transcript_source: `reference`, or `<ASR id>@<revision>`; None without a transcript.
        votes: Raters' votes by label (counts or shares), None if there are none.
        valence, activation, dominance: Means of the raters, on the corpus's own scale.
        start_seconds, end_seconds: Part of the file; None is its beginning, or its end.
        channel: Channel of the file: `left`, `right`, or `mix` (the mean of all, also None).
    """

    id: str
    audio: str | Path | bytes | Callable[[], bytes] | None
    label: str
    corpus: str
    speaker: str | None = None
    sex: str | None = None
    age: float | None = None
    race: str | None = None
    ethnicity: str | None = None
    session: str | None = None
    dialogue: str | None = None
    dialogue_kind: str | None = None
    script: str | None = None
    scene: str | None = None
    sentence: str | None = None
    split: str | None = None
    transcript: str | None = None
    transcript_source: str | None = None
    votes: dict[str, float] | None = None
    valence: float | None = None
    activation: float | None = None
    dominance: float | None = None
    start_seconds: float | None = None
    end_seconds: float | None = None
    channel: str | None = None


@dataclass(frozen=True)
class Finding:
    """A remark about one item of a corpus.

    Args:
        kind: Kind of finding, such as `unreadable`, `stereo`, `duplicate`.
        item: File or utterance id.
        detail: What was found.
        skipped: Whether the item is left out of the data set because of it.
        count: Number of items.
    """

    kind: str
    item: str
    detail: str
    skipped: bool = False
    count: int = 1


@dataclass(frozen=True)
class Listing:
    """Contents of a corpus: label names in order, utterances, and findings."""

    labels: tuple[str, ...]
    utterances: list[Utterance]
    findings: list[Finding] = field(default_factory=list)


def split_parts(words: Iterable[str]) -> dict[str, str | None]:
    """Map names of splits to `train`, `validation` or `test`, unknown ones to None.

    `eval` is the test part, unless another name is the test part and none the validation part.
    """
    parts = {word: _split_part(word) for word in words}
    known = set(parts.values())
    evaluation = "validation" if "test" in known and "validation" not in known else "test"
    return {word: evaluation if part in EVALUATION_NAMES else part for word, part in parts.items()}


def known_split_names() -> str:
    """Known names of splits, for a message."""
    return ", ".join((*SPLIT_NAMES, *EVALUATION_NAMES))


def _split_part(word: str) -> str | None:
    """A part, a name of EVALUATION_NAMES, or None if unknown or of several parts, such as `train-dev`."""
    first, *others = re.findall(r"[^\W\d_]+", word.casefold()) or [""]
    known = SPLIT_NAMES | {word: word for word in EVALUATION_NAMES}
    if not re.match(r"\W*[^\W\d_]", word) or any(
        known.get(other, known.get(first)) != known.get(first) for other in others
    ):
        return None
    begun = {part for name, part in known.items() if name.startswith(first) and part in SPLITS}
    return known.get(first) or (begun.pop() if len(begun) == 1 and len(first) > 1 and not others else None)


def features(labels: tuple[str, ...]) -> Features:
    """Column types of a prepared data set.

    Args:
        labels: Emotion names in the order of their class indices.

    Returns:
        `datasets.Features`. `audio` has the encoded bytes of a mono 16 kHz clip and is not decoded by `datasets`.
        `votes` is a distribution over `labels` or null. `METADATA_COLUMNS` are as in `Utterance`. The columns after
        them are measured when the clip is read, and null without audio: level (RMS in dBFS), exact zeros at the
        beginning, format and size of the file, hash of the samples, and fingerprint (`hf_ser.data.fingerprint`).
    """
    text, number = Value("string"), Value("float32")
    return Features(
        {
            "id": text,
            "audio": Audio(SAMPLING_RATE, decode=False),
            "label": ClassLabel(names=list(labels)),
            "votes": List(number),
            "corpus": text,
            **{name: number if name in NUMBERS else text for name in METADATA_COLUMNS},
            "duration_seconds": number,
            "level_dbfs": number,
            "leading_zeros_seconds": number,
            "source_format": text,
            "source_bytes": Value("int64"),
            "pcm_sha256": text,
            "fingerprint": Value("binary"),
        }
    )
