"""TESS as the widespread archive unpacks: everything twice, folders named at whim, one clip misspelt, one an AIFF."""

from pathlib import Path

import soundfile

from corpora_trees.clips import write_clip

ARCHIVE = "TESS Toronto emotional speech set data"
CLIPS = (
    "OAF_angry/OAF_back_angry.wav",
    "OAF_Fear/OAF_back_fear.wav",
    "OAF_neutral/OA_bite_neutral.wav",  # so in the published corpus
    "OAF_Pleasant_surprise/OAF_back_ps.wav",
    "OAF_Sad/OAF_back_sad.wav",
    "YAF_disgust/YAF_back_disgust.wav",
    "YAF_happy/YAF_bite_happy.wav",
    "YAF_neutral/YAF_bite_neutral.wav",
    "YAF_pleasant_surprised/YAF_back_ps.wav",
)
AIFF = "YAF_fear/YAF_neat_fear.wav"


def build(folder: Path) -> Path:
    root = folder / ARCHIVE
    for name in CLIPS:
        write_clip(root / name, rate=24_414)
        write_clip(root / ARCHIVE / name, rate=24_414)
    sound, rate = soundfile.read(write_clip(root / AIFF, rate=96_000))
    soundfile.write(root / AIFF, sound, rate, format="AIFF", subtype="PCM_16")
    (root / "OAF_angry/._OAF_back_angry.wav").write_bytes(b"\0\5\26\7")
    (root / "OAF_angry/.DS_Store").touch()
    return folder
