"""RAVDESS speech: 24 actors, 8 emotions, two sentences, all in the file name.

The text says nothing about the emotion, since both sentences are spoken in all emotions.
"""

import re
from pathlib import Path

from hf_ser.data.corpora.named_files import audio_files
from hf_ser.data.download import Download
from hf_ser.data.schema import REFERENCE, Finding, Listing, Utterance

LICENCE = "CC BY-NC-SA 4.0"
MAY_BE_SHARED = True
SOURCE = "Livingstone & Russo 2018, The Ryerson Audio-Visual Database of Emotional Speech and Song, PLoS ONE 13(5)"
LANGUAGE = "en"

PAGE = "https://zenodo.org/records/1188976"
DOWNLOADS = [
    Download(
        "https://zenodo.org/api/records/1188976/files/Audio_Speech_Actors_01-24.zip/content",
        "Audio_Speech_Actors_01-24.zip",
        size_bytes=208_468_073,
        checksum="md5:bc696df654c87fed845eb13823edef8a",
    )
]

LABELS = ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised")
SENTENCES = {"01": "Kids are talking by the door", "02": "Dogs are sitting by the door"}
AUDIO_ONLY, SPEECH, SONG = "03", "01", "02"
NAME = re.compile(r"(0[123])-(0[12])-(0[1-8])-(0[12])-(0[12])-(0[12])-(0[1-9]|1\d|2[0-4])$")


def list_utterances(data_dir: str | Path) -> Listing:
    """List the speech clips below a folder at any depth.

    If a clip is stored twice (a folder unzipped twice, .wav and .flac), the first is kept. Songs are skipped. A clip of
    the video modality is skipped if the audio-only clip, which has the same audio, exists.

    Raises:
        FileNotFoundError: no such folder, or no RAVDESS file in it.
    """
    root = Path(data_dir)
    files, findings = audio_files(root)
    chosen = {}
    for file in sorted(files, key=lambda file: file.stem[:2] != AUDIO_ONLY):  # audio-only files first
        name = NAME.match(file.stem)
        relative = str(file.relative_to(root))
        if name is None:
            findings.append(Finding("not_ravdess", relative, "file name is not that of a RAVDESS clip", skipped=True))
        elif name[2] == SONG:
            findings.append(Finding("song", relative, "vocal channel 02 is song, this corpus is speech", skipped=True))
        elif (first := chosen.get(file.stem[3:])) is None:
            chosen[file.stem[3:]] = file
        elif first.stem == file.stem:
            findings.append(Finding("doubled_file", relative, f"same name as {first.relative_to(root)}", skipped=True))
        else:
            findings.append(Finding("video_twin", relative, f"same audio as {first.relative_to(root)}", skipped=True))
    if not chosen:
        raise FileNotFoundError(
            f"{root}: found {len(files)} .wav or .flac files, none with a RAVDESS speech name. Expected files such as "
            "Actor_01/03-01-05-01-02-01-01.wav: point --data_dir at the unpacked Audio_Speech_Actors_01-24."
        )
    return Listing(LABELS, [_utterance(file) for file in chosen.values()], findings)


def _utterance(file: Path) -> Utterance:
    _, _, emotion, _, statement, _, actor = NAME.match(file.stem).groups()
    return Utterance(
        id=f"ravdess/{file.stem}",
        audio=file,
        label=LABELS[int(emotion) - 1],
        corpus="ravdess",
        speaker=f"ravdess/{actor}",
        sex="male" if int(actor) % 2 else "female",
        sentence=statement,
        transcript=SENTENCES[statement],
        transcript_source=REFERENCE,
    )
