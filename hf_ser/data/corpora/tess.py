"""TESS, the Toronto emotional speech set: two actresses, 7 emotions, 200 words in "Say the word ...".

Each word is spoken in all emotions, so the text says nothing about the emotion. With two speakers a
speaker-independent split trains on one and tests on the other.
"""

import re
from functools import partial
from pathlib import Path

from hf_ser.data.corpora.named_files import named_files
from hf_ser.data.download import dataverse
from hf_ser.data.schema import REFERENCE, Finding, Listing, Utterance

LICENCE = "CC BY-NC-ND 4.0; some copies say CC BY-NC 4.0: see where yours is from"
MAY_BE_SHARED = False
SOURCE = "Pichora-Fuller & Dupuis 2020, Toronto emotional speech set (TESS), Borealis, doi:10.5683/SP2/E8H2MF"
LANGUAGE = "en"

PAGE = "https://doi.org/10.5683/SP2/E8H2MF"
DOWNLOADS = partial(dataverse, "https://borealisdata.ca", "doi:10.5683/SP2/E8H2MF")

LABELS = ("neutral", "happy", "sad", "angry", "fearful", "disgust", "surprised")
EMOTION_CODES = {
    "neutral": "neutral",
    "happy": "happy",
    "sad": "sad",
    "angry": "angry",
    "fear": "fearful",
    "disgust": "disgust",
    "ps": "surprised",  # pleasant surprise
}
AGES = {"OAF": 64, "YAF": 26}
"""Years of the older and the younger actress."""
MISSPELT = {"OA": "OAF"}
"""The published OA_bite_neutral.wav is the older actress's: otherwise it would be a third speaker."""
NAME = re.compile(rf"(OAF|YAF|OA)_([a-z]+)_({'|'.join(EMOTION_CODES)})$", re.IGNORECASE)


def list_utterances(data_dir: str | Path) -> Listing:
    """List the clips below a folder at any depth; folder names, which vary, are ignored.

    If a clip is stored twice (the widespread archive has everything twice), the first is kept.

    Raises:
        FileNotFoundError: no such folder, or no TESS file in it.
    """
    files, findings = named_files(data_dir, "tess", _parts, "OAF_angry/OAF_back_angry.wav")
    findings += [
        Finding("misnamed", str(file.relative_to(data_dir)), f"read as {'_'.join(parts)}")
        for parts, file in files.items()
        if not file.stem.upper().startswith(parts[0])
    ]
    return Listing(LABELS, [_utterance(file, *parts) for parts, file in files.items()], findings)


def _parts(file: Path) -> tuple[str, str, str] | None:
    """Speaker, word and emotion code of a file name, in the official spelling; None for other files."""
    name = NAME.match(file.stem)
    if name is None:
        return None
    speaker, word, emotion = name[1].upper(), name[2].lower(), name[3].lower()
    return MISSPELT.get(speaker, speaker), word, emotion


def _utterance(file: Path, speaker: str, word: str, emotion: str) -> Utterance:
    return Utterance(
        id=f"tess/{speaker}_{word}_{emotion}",
        audio=file,
        label=EMOTION_CODES[emotion],
        corpus="tess",
        speaker=f"tess/{speaker}",
        sex="female",
        age=AGES[speaker],
        sentence=word,
        transcript=f"Say the word {word}",
        transcript_source=REFERENCE,
    )
