"""MSP-Podcast in small: 8 speakers in the published parts, an unknown one, and the irregularities of real copies."""

from pathlib import Path

from corpora_trees.clips import write_clip

HEADER = "FileName,EmoClass,EmoAct,EmoVal,EmoDom,SpkrID,Gender,Split_Set\n"
MEANS = {"A": (5.8, 2.2, 5.6), "H": (5.2, 5.9, 4.8), "N": (3.6, 4.0, 4.0), "S": (2.4, 2.6, 2.9)}
"""Activation, valence and dominance about which the turns of an emotion vary."""
PARTS = {1: "Train", 2: "Train", 3: "Train", 4: "Train", 5: "Development", 6: "Development", 7: "Test1", 8: "Test2"}
WORDS = {"A": "Angry", "H": "Happy", "N": "Neutral", "S": "Sad"}


def rows() -> list[tuple[str, str, tuple[float, float, float], str, str, str]]:
    """Turn, emotion, means, speaker, sex and part of the regular turns: two an emotion and speaker."""
    found = []
    for speaker, part in PARTS.items():
        for number, emotion in enumerate("AHNSAHNS", start=1):
            step = 0.1 * (number > 4) + 0.05 * (speaker % 3)
            means = tuple(round(one + step, 6) for one in MEANS[emotion])
            name = f"MSP-PODCAST_{speaker:04d}_{number:04d}"
            found.append((name, emotion, means, str(speaker + 40), "Male" if speaker % 2 else "Female", part))
    return found


def build(folder: Path) -> Path:
    lines, detailed = [HEADER], ["FileName,EmoDetail\n"]
    for name, emotion, means, speaker, sex, part in rows():
        write_clip(folder / f"Audios/{name}.wav")
        (folder / "Transcripts").mkdir(exist_ok=True)
        (folder / f"Transcripts/{name}.txt").write_text(f"well {WORDS[emotion].lower()} then\n")
        lines.append(f"{name}.wav,{emotion},{means[0]},{means[1]},{means[2]},{speaker},{sex},{part}\n")
        for worker, word in enumerate((WORDS[emotion], WORDS[emotion], "Other-Tired"), start=1):
            rating = f"WORKER{worker:08d}; {word}; Neutral,Concerned; A:4.0; V:4.0; D:4.0;"
            detailed.append(f'{name}.wav,"{rating}"\n')
    write_clip(folder / "Audios/MSP-PODCAST_0099_0001.wav")
    lines += [
        "MSP-PODCAST_0099_0001.wav,C,4.0,2.0,,Unknown,Unknown,Test3\n",  # of an unknown speaker
        "MSP-PODCAST_0001_0009.wav,X,4.0,4.0,4.0,41,Male,Train\n",  # no agreement
        "MSP-PODCAST_0001_0010.wav,N,4.0,4.0,4.0,41,Male,Train\n",  # without audio
        "MSP-PODCAST_0001_0011.wav,,,,,41,Male,Test3\n",  # labels withheld
        "MSP-PODCAST_0001_0001.wav,A,4.0,4.0,4.0,41,Male,Train\n",  # again
    ]
    write_clip(folder / "Audios/MSP-PODCAST_0001_0012.wav")  # not in the table
    labels = folder / "Labels"
    labels.mkdir()
    (labels / "labels_consensus.csv").write_text("".join(lines))
    (labels / "labels_detailed.csv").write_text("".join(detailed))
    return folder


def build_old(folder: Path) -> Path:
    """The same with the raters' sheet of older releases."""
    build(folder)
    (folder / "Labels/labels_detailed.csv").unlink()
    blocks = [
        f"{name}.wav; {emotion}; A:{means[0]}; V:{means[1]}; D:{means[2]};\n"
        f"WORKER00000001; {WORDS[emotion]}; Neutral; A:4.0; V:4.0; D:4.0;\n"
        "WORKER00000002; Surprise; Neutral; A:4.0; V:4.0; D:4.0;\n\n"
        for name, emotion, means, *_ in rows()
    ]
    (folder / "Labels/labels.txt").write_text("".join(blocks))
    return folder
