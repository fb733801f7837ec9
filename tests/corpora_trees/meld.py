"""MELD in small: three tables and the sound of most of their rows, with every irregularity that real copies have."""

import csv
from pathlib import Path

from corpora_trees.clips import write_clip

HEADER = (
    *("Sr No.", "Utterance", "Speaker", "Emotion", "Sentiment", "Dialogue_ID", "Utterance_ID"),
    *("Season", "Episode", "StartTime", "EndTime"),
)
FOLDERS = {"train": "train_splits", "dev": "dev_splits_complete", "test": "output_repeated_splits_test"}
EMOTIONS = ("neutral", "joy", "sadness", "anger", "fear", "disgust", "surprise")
SPEAKERS = {"train": ("Ross", "Rachel", "Gunther"), "dev": ("Monica", "Mr. Heckles"), "test": ("Joey", "Phoebe")}


def row(words: str, speaker: str, emotion: str, dialogue: int, utterance: int, episode: int = 21) -> list[str]:
    start = f"00:{dialogue:02d}:{utterance:02d},059"
    return ["1", words, speaker, emotion, "neutral", str(dialogue), str(utterance), "8", str(episode), start, start]


def write_table(file: Path, rows: list[list[str]], encoding: str = "utf-8") -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    with open(file, "w", newline="", encoding=encoding) as lines:
        csv.writer(lines).writerows([HEADER, *rows])
    return file


def clip(folder: Path, part: str, dialogue: int, utterance: int, ending: str = ".wav") -> Path:
    return folder / "MELD.Raw" / FOLDERS[part] / f"dia{dialogue}_utt{utterance}{ending}"


def build(folder: Path) -> Path:
    """Each speaker has a dialogue with one turn of each emotion; dialogue 9 of train holds what is out of order."""
    for part, speakers in SPEAKERS.items():
        rows = [
            row(f"This is {emotion}, {speaker}.", speaker, emotion, dialogue, turn)
            for dialogue, speaker in enumerate(speakers)
            for turn, emotion in enumerate(EMOTIONS)
        ]
        for dialogue, turn in ((int(each[5]), int(each[6])) for each in rows):
            write_clip(clip(folder, part, dialogue, turn))
        write_table(folder / "MELD.Raw" / f"{part}_sent_emo.csv", rows + (faults(folder) if part == "train" else []))
    return folder


def faults(folder: Path) -> list[list[str]]:
    # No row speaks of turn 20; of turn 6 there is only the film, of turn 7 nothing.
    for turn in (0, 1, 2, 3, 4, 5, 20):
        write_clip(clip(folder, "train", 9, turn))
    clip(folder, "train", 9, 6, ".mp4").touch()
    clip(folder, "train", 9, 0, ".mp4").touch()
    clip(folder, "train", 9, 0).with_name("._dia9_utt8.wav").touch()
    write_clip(folder / "MELD.Raw/elsewhere/dia9_utt7.wav")
    write_clip(clip(folder, "train", 9, 0).with_name("final_videos_testdia9_utt7.wav"))
    return [
        row("Hey!", "All", "joy", 9, 0),
        row("Uh-huh.", "Ross and Rachel", "joy", 9, 1),
        row("No I\x92m  not\x85", "Ursula", "sadness", 9, 2),
        row("Oh.", "Ross", "bored", 9, 3),
        row("It’s over!", "Rachel/actress", "sadness", 9, 4),
        row("A second 9, 4.", "Ross", "anger", 9, 4),
        ["1", "A comma", " without its quotes", *row("", "Ross", "joy", 9, 5)[2:]],
        row("Only filmed.", "Rachel", "joy", 9, 6),
        row('"Neither", he said.', "Ross", "joy", 9, 7),
    ]
