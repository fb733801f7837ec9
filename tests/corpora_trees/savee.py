"""SAVEE as published: a folder a speaker under AudioData, and beside it the film that the sound was taken from."""

from pathlib import Path

from corpora_trees.clips import write_clip

CLIPS = ("DC/a01", "DC/d03", "DC/n30", "JE/sa15", "JE/su07", "JK/f02", "KL/h11", "KL/n01")


def build(folder: Path) -> Path:
    for name in CLIPS:
        write_clip(folder / f"AudioData/{name}.wav", rate=44_100)
    write_clip(folder / "ALL/DC_a01.wav", rate=44_100)  # the flat copy that many have
    write_clip(folder / "AudioData/DC/a16.wav", rate=44_100)  # 15 sentences an emotion, 30 neutral
    write_clip(folder / "AudioData/Samples/a01.wav", rate=44_100)
    (folder / "AudioData/DC/._a01.wav").write_bytes(b"\0\5\26\7")
    (folder / "AudioData/Info.txt").write_text("four male speakers\n")
    (folder / "AudioVisualClip/DC").mkdir(parents=True)
    (folder / "AudioVisualClip/DC/a01.avi").touch()
    return folder
