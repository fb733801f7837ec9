"""MSP-Improv in small: six sessions of two actors, activation from active to calm as published, and irregularities."""

from pathlib import Path

from corpora_trees.clips import write_clip

MEANS = {"A": (2.0, 2.0, 4.0), "H": (2.3, 4.2, 3.5), "N": (3.2, 3.1, 3.0), "S": (3.9, 2.0, 2.1)}
"""Activation (1: the most active), valence and dominance of an emotion."""
WORDS = {"A": "Angry", "H": "Happy", "N": "Neutral", "S": "Sad"}


def names() -> list[tuple[str, str]]:
    """Turn and perceived emotion: of each actor two an emotion, read and improvised."""
    return [
        (f"S0{1 + number % 2}{emotion}-{sex}0{session}-{kind}-{turn}01", emotion)
        for session in range(1, 7)
        for sex in "FM"
        for number, emotion in enumerate("AHNS")
        for kind, turn in (("R", 2 * sex), ("S", "FM"))
    ]


def block(name: str, code: str, means: tuple = (3.0, 3.0, 3.0)) -> str:
    word = WORDS.get(code, "Other")
    activation, valence, dominance = means
    return (
        f"UTD-IMPROV-{name}.avi; {code}; A:{activation:.6f}; V:{valence:.6f}; D:{dominance} ; N:4.000000;\n"
        f"83572734; {word}; {word},Excited; A:2.000000; V:5.000000; D:3.000000; N:4.000000;\n"
        f"Ah-12; {word}; ; A:2.000000; V:5.000000; D:NaN; N:NaN;\n"
        "83572736; Other; Other (bored); A:2.000000; V:5.000000; D:3.000000; N:4.000000;\n\n"
    )


def wav(folder: Path, name: str) -> Path:
    scene, actor, kind, _ = name.split("-")
    return folder / f"Audio/session{actor[-1]}/{scene}/{kind}/MSP-IMPROV-{name}.wav"


def build(folder: Path) -> Path:
    blocks = []
    for number, (name, emotion) in enumerate(names()):
        write_clip(wav(folder, name))
        means = tuple(round(one + 0.1 * (number % 3), 6) for one in MEANS[emotion])
        blocks.append(block(name, emotion, means))
    for name, code in (("S03N-F01-P-FM01", "X"), ("S03N-F01-P-FM02", "O"), ("S03N-M01-T-MF01", "N")):
        blocks.append(block(name, code, (3.0, 3.0, "NaN")))
    write_clip(wav(folder, "S03N-F01-P-FM01"))
    write_clip(wav(folder, "S03N-F01-P-FM02"))  # the turn after it has no audio
    write_clip(wav(folder, "S04H-F02-P-FM03"))  # and this one no label
    blocks.append("UTD-IMPROV-S05A-F01-S-FM01.avi; torn off\n")
    (folder / "Evalution.txt").write_text("".join(blocks))
    texts = folder / "All_human_transcriptions"
    texts.mkdir()
    (texts / "MSP-IMPROV-S01A-F01-R-FF01.txt").write_text("How can I not.\n")
    return folder
