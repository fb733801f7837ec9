"""EmoDB, the Berlin database of emotional speech: 10 actors, 7 emotions, ten German sentences, all in the file name.

The published 535 clips are those that listeners recognised and found natural. The text says nothing about the emotion,
since every sentence is spoken in all emotions.
"""

import re
from pathlib import Path

from hf_ser.data.corpora.named_files import named_files
from hf_ser.data.download import Download
from hf_ser.data.schema import REFERENCE, Listing, Utterance

LICENCE = "free to use and to be cited; CC0 1.0 as republished in audb"
MAY_BE_SHARED = True
SOURCE = "Burkhardt et al. 2005, A Database of German Emotional Speech, Interspeech, 1517-1520"
LANGUAGE = "de"

PAGE = "http://emodb.bilderbar.info"
DOWNLOADS = [Download("http://emodb.bilderbar.info/download/download.zip", "emodb.zip")]
"""The publisher gives no checksum; that of the downloaded file is printed."""

LABELS = ("neutral", "happy", "sad", "angry", "fearful", "disgust", "bored")
LETTERS = {
    "N": "neutral",
    "F": "happy",  # Freude
    "T": "sad",  # Trauer
    "W": "angry",  # Wut
    "A": "fearful",  # Angst
    "E": "disgust",  # Ekel
    "L": "bored",  # Langeweile
}
SPEAKERS = {
    "03": ("male", 31),
    "08": ("female", 34),
    "09": ("female", 21),
    "10": ("male", 32),
    "11": ("male", 26),
    "12": ("male", 30),
    "13": ("female", 32),
    "14": ("female", 35),
    "15": ("male", 25),
    "16": ("female", 31),
}
"""Sex and age in years."""
SENTENCES = {
    "a01": "Der Lappen liegt auf dem Eisschrank.",
    "a02": "Das will sie am Mittwoch abgeben.",
    "a04": "Heute abend könnte ich es ihm sagen.",
    "a05": "Das schwarze Stück Papier befindet sich da oben neben dem Holzstück.",
    "a07": "In sieben Stunden wird es soweit sein.",
    "b01": "Was sind denn das für Tüten, die da unter dem Tisch stehen?",
    "b02": "Sie haben es gerade hochgetragen und jetzt gehen sie wieder runter.",
    "b03": "An den Wochenenden bin ich jetzt immer nach Hause gefahren und habe Agnes besucht.",
    "b09": "Ich will das eben wegbringen und dann mit Karl was trinken gehen.",
    "b10": "Die wird auf dem Platz sein, wo wir sie immer hinlegen.",
}
NAME = re.compile(rf"({'|'.join(SPEAKERS)})({'|'.join(SENTENCES)})([{''.join(LETTERS)}])[a-z]?$")
"""Speaker, sentence, emotion, and the version if there are several."""


def list_utterances(data_dir: str | Path) -> Listing:
    """List the clips below a folder at any depth; if a clip is stored twice, the first is kept.

    Raises:
        FileNotFoundError: no such folder, or no EmoDB file in it.
    """
    files, findings = named_files(data_dir, "emodb", _name, "wav/03a01Fa.wav")
    return Listing(LABELS, [_utterance(file) for file in files.values()], findings)


def _name(file: Path) -> str | None:
    return file.stem if NAME.match(file.stem) else None


def _utterance(file: Path) -> Utterance:
    speaker, sentence, emotion = NAME.match(file.stem).groups()
    sex, age = SPEAKERS[speaker]
    return Utterance(
        id=f"emodb/{file.stem}",
        audio=file,
        label=LETTERS[emotion],
        corpus="emodb",
        speaker=f"emodb/{speaker}",
        sex=sex,
        age=age,
        sentence=sentence,
        transcript=SENTENCES[sentence],
        transcript_source=REFERENCE,
    )
