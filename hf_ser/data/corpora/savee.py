"""SAVEE, Surrey audio-visual expressed emotion: four men, 7 emotions, 480 clips of TIMIT sentences.

The text reveals the label: of the 15 sentences of an emotion 3 are common to all, 2 are chosen to suit it and 10 are
spoken in no other; the neutral ones repeat the 3 and the 12. There is no list of the sentences by number, so clips have
neither transcript nor sentence; ASR transcripts still reveal the emotion.
"""

import re
from pathlib import Path

from hf_ser.data.corpora.named_files import named_files
from hf_ser.data.schema import Listing, Utterance

LICENCE = "research only, on registration with the authors (University of Surrey)"
MAY_BE_SHARED = False
SOURCE = "Haq & Jackson 2010, Multimodal Emotion Recognition, in Machine Audition, IGI Global"
LANGUAGE = "en"

LABELS = ("neutral", "happy", "sad", "angry", "fearful", "disgust", "surprised")
EMOTION_CODES = {
    "n": "neutral",
    "h": "happy",
    "sa": "sad",
    "a": "angry",
    "f": "fearful",
    "d": "disgust",
    "su": "surprised",
}
NAME = re.compile(r"(DC|JE|JK|KL)_(?:(a|d|f|h|sa|su)(?:0[1-9]|1[0-5])|(n)(?:0[1-9]|[12]\d|30))$")
"""Speaker, emotion, and number: 15 of each emotion, 30 neutral."""


def list_utterances(data_dir: str | Path) -> Listing:
    """List the clips below a folder: DC/a01.wav as published, or DC_a01.wav as in flat copies.

    If a clip is stored twice, the first is kept.

    Raises:
        FileNotFoundError: no such folder, or no SAVEE file in it.
    """
    files, findings = named_files(data_dir, "savee", _full_name, "AudioData/DC/a01.wav or DC_a01.wav")
    return Listing(LABELS, [_utterance(name, file) for name, file in files.items()], findings)


def _full_name(file: Path) -> str | None:
    """`DC_a01`, whether the speaker is in the file name or is the folder; None for other files."""
    name = file.stem if "_" in file.stem else f"{file.absolute().parent.name}_{file.stem}"
    return name if NAME.match(name) else None


def _utterance(name: str, file: Path) -> Utterance:
    speaker, emotion, neutral = NAME.match(name).groups()
    return Utterance(
        id=f"savee/{name}",
        audio=file,
        label=EMOTION_CODES[emotion or neutral],
        corpus="savee",
        speaker=f"savee/{speaker}",
        sex="male",
    )
