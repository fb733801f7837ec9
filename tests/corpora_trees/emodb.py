"""EmoDB as its archive unpacks: the clips in wav/, and beside them folders of labels whose files share their names."""

from pathlib import Path

from corpora_trees.clips import write_clip

CLIPS = ("03a01Fa", "03a01Nc", "08a02Wb", "08b10Td", "14b03Lb", "16a07Ec", "16b09Ab")


def build(folder: Path) -> Path:
    for name in CLIPS:
        write_clip(folder / f"wav/{name}.wav")
    write_clip(folder / "copy/wav/03a01Fa.wav")
    write_clip(folder / "wav/03a03Fa.wav")  # there is no sentence a03
    (folder / "wav/._03a01Fa.wav").write_bytes(b"\0\5\26\7")
    (folder / "lablaut").mkdir()
    (folder / "lablaut/03a01Fa.lablaut").write_text("signal 03a01Fa\n")
    (folder / "erkennung.txt").write_text("Satz\terkannt\tnatuerlich\n03a01Fa.wav\t90,00\t100,00\n", encoding="latin-1")
    return folder
