"""CREMA-D as its repository lies on disk: sound, film and tables, with the known faults of the published files."""

import csv
from pathlib import Path

from corpora_trees.clips import write_clip

VOTE_COLUMNS = ("A", "D", "F", "H", "N", "S")
VOTES = {
    # by voice, by face, by both
    "1001_IEO_ANG_HI": ("A" * 9, "A" * 5 + "D" * 5, "A" * 10),
    "1001_IEO_NEU_XX": ("N" * 5 + "H" * 5, "N" * 9, "N" * 8),
    "1001_DFA_SAD_XX": ("N" * 6 + "S" * 3, "S" * 9, "S" * 8),
    "1002_TIE_HAP_XX": ("", "H" * 9, "H" * 9),
    "1040_ITH_SAD_XX": ("S" * 7 + "N", "S" * 8, "S" * 9),
    "1076_MTI_NEU_XX": ("N" * 7, "N" * 5 + "D" * 4, "N" * 7),
    "1091_WSI_DIS_XX": ("D" * 4 + "A" * 3, "D" * 9, "D" * 9),
}
"""Letters that the raters chose. Nobody heard the fourth clip; the last one has votes and no file."""
POINTER = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 72862\n"


def build(folder: Path) -> Path:
    names = [name for name in VOTES if not name.startswith("1091")]
    for name in names:
        # One published file says X for XX.
        write_clip(folder / "AudioWAV" / f"{name.replace('1040_ITH_SAD_XX', '1040_ITH_SAD_X')}.wav")
    write_clip(folder / "backup/AudioWAV/1001_IEO_ANG_HI.wav")
    write_clip(folder / "AudioWAV/1001_XYZ_ANG_HI.wav")  # no such sentence
    (folder / "AudioWAV/1076_MTI_SAD_XX.wav").touch()  # without sound in the published corpus too
    (folder / "AudioWAV/1003_TSI_FEA_XX.wav").write_text(POINTER)
    (folder / "AudioWAV/._1001_IEO_ANG_HI.wav").write_bytes(b"\0\5\26\7")
    (folder / "AudioMP3").mkdir()
    (folder / "AudioMP3/1001_IEO_ANG_HI.mp3").touch()
    write_votes(folder / "processedResults/tabulatedVotes.csv")
    write_actors(folder / "VideoDemographics.csv")
    return folder


def write_votes(file: Path, columns: tuple[str, ...] = VOTE_COLUMNS) -> None:
    """The columns that count, of the 25 of the published table."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with open(file, "w", newline="") as table:
        writer = csv.writer(table, quoting=csv.QUOTE_NONNUMERIC)
        writer.writerow(["", *columns, "fileName", "numResponses"])
        for modality in (1, 2, 3):
            for number, (name, letters) in enumerate(VOTES.items(), start=1):
                chosen = letters[modality - 1]
                counts = [chosen.count(column) for column in columns]
                writer.writerow([f"{modality}{number:05d}", *counts, name, len(chosen)])


def write_actors(file: Path) -> None:
    lines = (
        '"ActorID","Age","Sex","Race","Ethnicity"',
        '1001,51,"Male","Caucasian","Not Hispanic"',
        '1002,21,"Female","African American","Hispanic"',
        '1003,35,"Female","Unknown","Not Hispanic"',
        '1040,42,"Female","Asian","Not Hispanic"',
        '1076,25,"Female","Caucasian","Not Hispanic"',
    )
    file.write_text("\n".join(lines) + "\n")
