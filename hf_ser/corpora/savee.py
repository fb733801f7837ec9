"""SAVEE, Surrey audio-visual expressed emotion: four men, 7 emotions, 480 clips of TIMIT sentences.

The text gives the label away: of the 15 sentences of an emotion 3 are common to all, 2 are chosen to suit it and 10 are
spoken in no other; the neutral ones repeat the 3 and the 12. No list of which number is which sentence comes with the
sound, so that clips have neither transcript nor sentence here; words found by ASR still tell the emotion.
"""

import re
from pathlib import Path

from hf_ser.columns import Finding, Listing, Utterance

LICENCE = "research only, on registration with the authors (University of Surrey)"
SOURCE = "Haq & Jackson 2010, Multimodal Emotion Recognition, in Machine Audition, IGI Global"

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
    """List the clips under a folder: DC/a01.wav as published, or DC_a01.wav as in flat copies.

    Of a clip stored twice the first is kept.

    Raises:
        FileNotFoundError: no such folder, or no SAVEE file in it.
    """
    root = Path(data_dir)
    files = sorted(p for p in root.rglob("*") if p.suffix.lower() in (".wav", ".flac")) if root.is_dir() else []
    chosen, findings = {}, []
    # Empty copies last, then by path, so that the choice is always the same.
    for file in sorted(files, key=lambda p: (not p.stat().st_size, len(p.parts), str(p))):
        name, relative = _full_name(file), str(file.relative_to(root))
        if not NAME.match(name):
            findings.append(Finding("not_savee", relative, "file name is not that of a SAVEE clip", skipped=True))
        elif first := chosen.get(name):
            findings.append(Finding("doubled_file", relative, f"same clip as {first.relative_to(root)}", skipped=True))
        else:
            chosen[name] = file
    if not chosen:
        raise FileNotFoundError(
            f"{root}: found {len(files)} .wav or .flac files, none with a SAVEE name. Expected files such as "
            "AudioData/DC/a01.wav or DC_a01.wav: point --data_dir at the unpacked archive."
        )
    return Listing(LABELS, [_utterance(name, file) for name, file in chosen.items()], findings)


def _full_name(file: Path) -> str:
    """`DC_a01`, whether the speaker stands in the file's name or is its folder."""
    return file.stem if "_" in file.stem else f"{file.absolute().parent.name}_{file.stem}"


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
