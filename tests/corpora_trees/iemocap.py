"""IEMOCAP in small: five sessions of four dialogues, with every irregularity of real copies, most in session 1."""

from pathlib import Path

from corpora_trees.clips import write_clip

LABELS = {
    "F_impro01": {"F": ("neu", "ang", "sad"), "M": ("neu", "hap", "exc")},
    "M_impro05a": {"F": ("hap", "exc", "neu"), "M": ("sad", "ang", "fru")},
    "F_script01_3": {"F": ("sad", "ang", "neu"), "M": ("hap", "neu", "sad")},
    "M_script01_1b": {"F": ("exc", "fru", "hap"), "M": ("ang", "neu", "exc")},
}
"""Label codes of the whole turns of each dialogue, by the letter of the speaker."""

WORDS = {
    "neu": "Neutral",
    "hap": "Happiness",
    "exc": "Excited",
    "sad": "Sadness",
    "ang": "Anger",
    "fru": "Frustration",
    "fea": "Fear",
    "dis": "Disgust",
    "sur": "Surprise",
    "oth": "Other",
    "xxx": "Neutral",
}


def block(turn: str, code: str, dimensions: str = "2.5000, 3.0000, 3.5000") -> str:
    """The rating of one turn: two raters agree, one names a second emotion too, the actor says something else."""
    return (
        f"[6.2901 - 8.2357]\t{turn}\t{code}\t[{dimensions}]\n"
        f"C-E2:\t{WORDS[code]};\t()\nC-E3:\t{WORDS[code]};\t(not sure; maybe Sadness)\n"
        f"C-E4:\t{WORDS[code]}; Other;\t()\nC-F1:\tDisgust;\t()\n"
        "A-E3:\tval 3; act 2; dom  2;\t()\nA-F1:\tval 3; act 2; dom  1;\t()\n\n"
    )


def words(turn: str, text: str = "Excuse me.") -> str:
    return f"{turn} [006.2901-008.2357]: {text}\n"


def write(path: Path, text: str, encoding: str = "utf-8") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode(encoding))


def write_session(session: Path) -> None:
    """A session without fault: 24 turns, 12 by each speaker."""
    for dialogue, speakers in LABELS.items():
        dialogue = f"Ses0{session.name[-1]}{dialogue}"
        turns = {f"{dialogue}_{s}{n:03d}": code for s, codes in speakers.items() for n, code in enumerate(codes)}
        header = "% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]\n\n"
        ratings = header + "".join(block(turn, code) for turn, code in turns.items())
        write(session / f"dialog/EmoEvaluation/{dialogue}.txt", ratings)
        write(session / f"dialog/transcriptions/{dialogue}.txt", "".join(map(words, turns)))
        for turn in turns:
            write_clip(wav(session, turn))


def wav(session: Path, turn: str) -> Path:
    return session / f"sentences/wav/{turn.rpartition('_')[0]}/{turn}.wav"


def append(file: Path, text: str) -> None:
    file.write_bytes(file.read_bytes() + text.encode())


def spoil(session: Path) -> None:
    """The irregularities, all in the dialogue Ses01F_impro01 but for the droppings of a Mac."""
    dialogue = "Ses01F_impro01"
    ratings = session / f"dialog/EmoEvaluation/{dialogue}.txt"
    transcription = session / f"dialog/transcriptions/{dialogue}.txt"
    for number, code in enumerate(("fea", "dis", "sur", "oth", "xxx"), start=10):  # no class of the usual task
        append(ratings, block(f"{dialogue}_F{number:03d}", code))
        write_clip(wav(session, f"{dialogue}_F{number:03d}"))  # and nobody has written their words down
    append(ratings, block(f"{dialogue}_F000", "sad"))  # labelled a second time
    append(ratings, block(f"{dialogue}_M020", "ang"))  # without audio
    append(ratings, block(f"{dialogue}_M021", "neu", "2.5000, 3.0"))  # damaged
    append(ratings, f"[7.0 - 8.0]\t{dialogue}_M022\tneutral\t[2.5, 2.5, 2.5]\n")  # no such label
    append(ratings, "[6.2901 - 8.2")  # torn off
    for turn in ("M021", "M022", "M023"):
        write_clip(wav(session, f"{dialogue}_{turn}"))  # of the last nothing is said anywhere
    for turn in ("FXX0", "MXX1", "M030"):  # both at once; both at once; without label
        append(transcription, words(f"{dialogue}_{turn}", "Oh, [LAUGHTER] no."))
    append(transcription, "M: [inaudible]\n")

    write(ratings.with_name(f"._{ratings.name}"), block(f"{dialogue}_F050", "ang"))
    write(transcription.with_name(f"._{transcription.name}"), words(f"{dialogue}_F051"))
    write(wav(session, f"{dialogue}_F000").with_name(f"._{dialogue}_F052.wav"), "no sound")
    for folder in ("Categorical", "Attribute", "Self-evaluation"):
        write(ratings.parent / folder / f"{dialogue}_e2_cat.txt", block(f"{dialogue}_F053", "ang"))


def build(folder: Path) -> Path:
    """Lay the tree out under a folder of its own, as the archive does."""
    root = folder / "IEMOCAP_full_release"
    for number in range(1, 6):
        write_session(root / f"Session{number}")
    spoil(root / "Session1")
    windows = root / "Session2/dialog/EmoEvaluation/Ses02F_impro01.txt"
    windows.write_bytes(windows.read_bytes().replace(b"\n", b"\r\n"))
    write(
        root / "Session3/dialog/transcriptions/Ses03F_impro01.txt",
        words("Ses03F_impro01_F000", "A  café?") + words("Ses03F_impro01_F001", "") + words("Ses03F_impro01_M000"),
        encoding="latin-1",
    )
    return folder
