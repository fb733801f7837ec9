"""Folders of recordings whose sub-folders are the labels, with checks that they are labels."""

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

from hf_ser.data.corpora.table_columns import Naming, Rows
from hf_ser.data.folders import files_under
from hf_ser.data.labels import EMOTIONS
from hf_ser.data.schema import Finding, split_parts
from hf_ser.normal_form import look_alike, normal_name, printable, storable

AUDIO_SUFFIXES = (".wav", ".flac", ".ogg", ".opus", ".mp3", ".aif", ".aiff")

SEX_NAMES = frozenset(
    (
        *("female", "females", "male", "males", "f", "m", "w", "fem", "woman", "women", "man", "men", "girl", "girls"),
        *("boy", "boys", "lady", "ladies", "weiblich", "maennlich", "femme", "homme", "mujer", "hombre"),
    )
)
FOLDER_NAMES = frozenset(
    (
        *("audio", "audios", "wav", "wavs", "wave", "flac", "mp3", "ogg", "clip", "clips", "data", "dataset", "file"),
        *("files", "sound", "sounds", "recording", "recordings", "speech", "voice", "segments", "utterances"),
        "audiowav",
    )
)
"""Names of folders of any recordings."""
EMOTION_NAMES = frozenset(
    (
        *(*EMOTIONS, "anger", "happiness", "sadness", "fear", "afraid", "joy", "surprise", "disgusted", "boredom"),
        *("calmness", "excitement", "frustration", "contempt", "positive", "negative", "ang", "hap", "neu", "fea"),
        *("dis", "sur", "anxiety", "pleasant surprise", "pleasantly surprised", "scared", "amused", "sleepy", "love"),
    )
)
NUMBERED = re.compile(r"(?:(.*?[^\W\d])[\s_-]*\d+|0\d+|\d{2,})")
"""Names of folders of a speaker: `Actor_01`, `spk3`, `0011`."""
CLASS_PREFIXES = ("class", "label", "emotion", "emo", "category", "cat", "level")
LABEL_REMEDY = (
    "name a table of the files (path,label) in --data_dir, or find the label in a path with --label_pattern, a "
    r"regular expression with one group, such as '([^/]+)/[^/]+$' for the folder of a file or '_([a-z]+)\.' for the "
    "end of its name"
)


def audio_below(folder: Path) -> tuple[list[Path], list[Finding]]:
    """Audio files below a folder, relative to it and without hidden ones, and findings about others."""
    files, findings = files_under(folder)
    files = [file.relative_to(folder) for file in files]
    files = [file for file in files if not any(part.startswith(".") for part in file.parts)]
    audio = [file for file in files if file.suffix.lower() in AUDIO_SUFFIXES]
    others = Counter(file.suffix.lower() or "no ending" for file in files if file.suffix.lower() not in AUDIO_SUFFIXES)
    findings += [
        Finding("not_audio", str(folder), f"{count} files with {suffix}", skipped=True, count=count)
        for suffix, count in sorted(others.items())
    ]
    return audio, findings


def rows_of_label_folders(folder: Path, naming: Naming) -> Rows:
    """Rows of a folder with a sub-folder for each label; if a pattern gives the labels, sub-folders do not matter.

    Raises:
        ValueError: no audio in sub-folders, or sub-folders that are not labels.
    """
    audio, findings = audio_below(folder)
    # A folder of splits, each with a folder for each label: train/angry/x.wav.
    parts = split_parts(normal_name(file.parts[0]) for file in audio if len(file.parts) > 1)
    depth = 1 if parts and all(parts.values()) and all(len(file.parts) > 1 for file in audio) else 0
    labelled = [file for file in audio if len(file.parts) > depth + 1] if naming.needs_label else audio
    if not labelled:
        raise ValueError(
            f"{folder}: found {len(audio) + sum(one.count for one in findings)} files, none of them "
            f"{', '.join(AUDIO_SUFFIXES)} in the sub-folder of a label. Expected files such as angry/x.wav, a "
            "metadata.csv next to them, or a data set of datasets.save_to_disk: name a table of the files, or such a "
            "folder, in --data_dir."
        )
    if naming.needs_label:
        check_label_folders(folder, [file.parts[depth:] for file in labelled])
    found = ["path", *(["label"] if naming.needs_label else []), *(["split"] if depth else [])]
    names = naming.named(str(folder), found)
    given = [{"path": str(file), "label": storable(file.parts[depth]), "split": file.parts[0]} for file in labelled]

    findings += [
        Finding("no_label_folder", storable(file.as_posix()), "not in the sub-folder of a label", skipped=True)
        for file in sorted(set(audio) - set(labelled))
    ]
    rows = [{ours: row[theirs] for ours, theirs in names.items()} | {"place": row["path"]} for row in given]
    return Rows(str(folder), folder, rows, findings)


def check_label_folders(folder: Path, files: Sequence[tuple[str, ...]]) -> None:
    """Check that the sub-folders may be labels.

    Args:
        folder: Folder, for the message.
        files: Path parts of each file, from the folder of the label on.

    Raises:
        ValueError: speakers, sexes, or names of folders of any content.
    """
    below = defaultdict(set)
    for parts in files:
        below[normal_name(parts[0])].update(parts[1:-1][:1])
    names = sorted(below)
    emotions = {name for name in names if _word(name) in EMOTION_NAMES}
    deeper = {normal_name(name) for names in below.values() for name in names}
    what = None
    if emotions:
        return
    if all(_word(name) in FOLDER_NAMES for name in names):
        what = "which are names for folders of any content"
    elif all(_word(name) in SEX_NAMES for name in names):
        what = "which are sexes"
    elif {name for name in deeper if _word(name) in EMOTION_NAMES}:
        shown = ", ".join(sorted(printable(name) for name in deeper)[:4])
        what = f"and below them {shown}, so that the upper ones seem to be speakers and the lower ones labels"
    elif len(names) == 1:
        what = "which alone holds all of them, so that there would be one label"
    elif all(_is_numbered(name) for name in names):
        what = "which are numbered like speakers"
    if what:
        shown = ", ".join(printable(name) for name in names[:4]) + (" ..." if len(names) > 4 else "")
        raise ValueError(
            f"{folder}: found the sub-folders {shown}, {what}. Expected one for each label: {LABEL_REMEDY}."
        )


def _is_numbered(name: str) -> bool:
    found = NUMBERED.fullmatch(name)
    return bool(found) and _word(found[1] or "") not in CLASS_PREFIXES


def _word(name: str) -> str:
    return look_alike(name.replace("ä", "ae"))
