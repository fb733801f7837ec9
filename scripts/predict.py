"""Emotion of audio files, with a trained model.

python scripts/predict.py runs/quickstart/fold_1 a.wav b.mp3 --text "what was said in a" "and in b"
python scripts/predict.py runs/quickstart/fold_1 calls/*.flac --json > labels.jsonl
python scripts/predict.py runs/calls/final calls/*.flac --asr openai-whisper:base --language en
python scripts/predict.py runs/by_speaker/final anna_9.wav --enrolment anna_1.wav anna_2.wav
"""

import argparse
import json
import sys
import warnings
from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from tqdm import tqdm

from hf_ser.audio import pcm_sha256, read_clip
from hf_ser.cli import run
from hf_ser.inference import TEXT, Classifier
from hf_ser.integrity import clip_findings
from hf_ser.models import SerAudioPipeline, SerPipeline
from hf_ser.models.decoding import CHANNELS, MIX, SAMPLING_RATE
from hf_ser.transcripts.cache import transcript_key
from hf_ser.transcripts.loading import default_precision, load_recogniser
from hf_ser.transcripts.recogniser import DecodeOptions
from hf_ser.transcripts.transcriber import Request, transcribe


def main() -> None:
    """Model, files, table or JSON lines; files that cannot be read are named, and the exit status is then 1."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "model", help="model folder, such as runs/quickstart/fold_1, or a Hub id, with or without @REVISION"
    )
    parser.add_argument("files", nargs="+", help="audio files: WAV, FLAC, OGG or MP3, any rate")
    parser.add_argument("--text", nargs="+", help="what is said in each file, in the same order ('' where unknown)")
    parser.add_argument("--asr", help="Whisper that hears the words, as transcribe.py takes it; then without --text")
    parser.add_argument("--language", help="code of the language that --asr is told; default: detected")
    parser.add_argument(
        "--enrolment",
        nargs="+",
        metavar="FILE",
        help="other clips of the one speaker of all files, for a model trained with --normalisation speaker",
    )
    parser.add_argument("--channel", choices=CHANNELS, default=MIX, help="of several channels: their mean, or one")
    parser.add_argument("--json", action="store_true", help="one JSON object a line instead of a table")
    parser.add_argument("--abstain", action="store_true", help="'unsure' (JSON: no label) below the model's threshold")
    parser.add_argument("--device", default=None, help="such as cuda:0; default: a GPU where there is one")
    arguments = parser.parse_args()
    texts = arguments.text or [None] * len(arguments.files)
    if len(texts) != len(arguments.files):
        parser.error(f"{len(arguments.files)} files and {len(texts)} texts: expected one text a file")

    classify = load(arguments.model, arguments.device)
    if (arguments.text or arguments.asr) and isinstance(classify, SerAudioPipeline):
        parser.error(f"{arguments.model} was trained on sound alone: leave out --text and --asr, or name a fused model")
    if arguments.text and arguments.asr:
        parser.error("--text and --asr both give the words: leave out one")
    if arguments.language and not arguments.asr:
        parser.error("--language is for --asr: name a recogniser, or leave it out")
    if arguments.asr:
        texts = heard(arguments.files, arguments.asr, arguments.language, arguments.device, arguments.channel)
    threshold = least_confidence(classify, arguments.model) if arguments.abstain else 0.0
    warnings.filterwarnings("ignore", message=".*the model takes no more")  # told as a note of the file
    known, failed = of_speaker(classify, arguments.enrolment), 0
    for file, text in zip(tqdm(arguments.files, unit=" files", disable=None), texts, strict=True):
        try:
            samples, notes = read(classify, file, arguments.channel)
            answer = classify({"array": samples, "sampling_rate": SAMPLING_RATE}, text=text, speaker_statistics=known)
        except (ValueError, OSError) as error:
            failed += 1
            print(f"skipped: {error}", file=sys.stderr)
            continue
        unsure = answer[0]["score"] < threshold
        for note in notes:
            print(f"note: {file}: {note}", file=sys.stderr)
        told = line(file, answer, text, unsure, notes) if arguments.json else row(file, answer, text, unsure)
        print(told, flush=True)
    if failed:
        print(f"{failed} of {len(arguments.files)} files could not be read", file=sys.stderr)
        sys.exit(1)


def load(model: str, device: str | None) -> SerPipeline:
    """The pipeline of a model that hears."""
    classifier = Classifier(model, device)
    if classifier.kind == TEXT:
        raise ValueError(
            f"{model}: a model of words alone, which hears nothing. Expected a model of train_audio.py or "
            'train_fusion.py; for texts use pipeline("text-classification", model=...).'
        )
    return classifier.pipeline


NOTED = ("truncated", "cancelling_channels", "scaled", "over_full_scale", "quiet")
"""Findings that make an answer doubtful, though the file is read."""


def read(classify: SerPipeline, file: str, channel: str = MIX) -> tuple[np.ndarray, list[str]]:
    """What the model hears of a file, and what a person should know of it, by the rules of prepare_data.py.

    Raises:
        FileNotFoundError, ValueError: a data set would not have it: unreadable, silent, too short, or not finite.
    """
    clip = read_clip(file, None, None, channel, classify.seconds_to_read)
    findings = clip_findings(file, clip)
    for finding in findings:
        if finding.skipped:
            told = f"{file}: {finding.kind.replace('_', ' ')}, {finding.detail}"
            raise ValueError(f"{told}. Expected a voice of 0.1 s or more: record it again.")
    notes = [f"{found.kind.replace('_', ' ')}, {found.detail}" for found in findings if found.kind in NOTED]
    cut = classify.cut_note(clip.samples, clip.source_seconds, clip.complete)
    return clip.samples, notes + ([cut] if cut else [])


def of_speaker(classify: SerPipeline, enrolment: list[str] | None) -> torch.Tensor | None:
    """What the clips of a speaker tell of the voice; without them a note, where the model was tested with them."""
    if enrolment:
        for file in enrolment:
            for note in read(classify, file)[1]:
                print(f"note: {file}: {note}", file=sys.stderr)
        return classify.speaker_statistics(enrolment)
    if classify.speaker_front_end is not None:
        by = "the training speakers" if classify.speaker_front_end.is_whole else "itself"
        print(
            f"note: this model was trained and tested with clips scaled by their speaker; each is now scaled by {by}, "
            "which is less accurate: give other clips of the speaker with --enrolment",
            file=sys.stderr,
        )
    return None


def heard(files: list[str], asr: str, language: str | None, device: str | None, channel: str = MIX) -> list[str | None]:
    """The words of each file as `transcribe.py` would hear them; None where it cannot be read."""
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    options = DecodeOptions(precision=default_precision(device))
    recogniser, requests = load_recogniser(asr, device, options.precision), {}
    for file in files:
        try:
            clip = read_clip(file, None, None, channel)
        except (OSError, ValueError):
            continue  # told where its emotion is asked for
        # Under the name of its sound: what is drawn at a temperature must not depend on the spelling of a path.
        key = transcript_key(pcm_sha256(clip.samples), recogniser.revision, language, options)
        again = partial(read_clip, file, None, None, channel)
        requests[file] = Request(key, clip.duration_seconds, lambda again=again: again().samples, language)
    answers = transcribe(recogniser, list({one.key: one for one in requests.values()}.values()), options)
    bar = tqdm(answers, total=len(requests), unit=" files", desc="transcribing", disable=None)
    words = {request.key: getattr(answer, "text", None) for request, answer in bar}
    return [words[requests[file].key] if file in requests else None for file in files]


def least_confidence(classify: SerPipeline, model: str) -> float:
    """The confidence below which a model would rather not answer."""
    threshold = getattr(classify.model.config, "abstain_threshold", None)
    if threshold is None:
        raise ValueError(
            f"{model}: --abstain found no abstain_threshold in its config.json, expected one as training fits it on "
            "the validation speakers: train it again, or leave out --abstain."
        )
    return threshold


def line(file: str, answer: list[dict], text: str | None, unsure: bool, notes: Sequence[str] = ()) -> str:
    """One file's answer as a JSON line, with the words it was read with; no label where the model abstains.

    `notes` is there where something makes the answer doubtful, as that only the beginning of the file counts.
    """
    probabilities = {a["label"]: a["score"] for a in answer}
    label = None if unsure else answer[0]["label"]
    told = {"file": file, "label": label, "probabilities": probabilities, "text": text}
    if notes:
        told["notes"] = list(notes)
    return json.dumps(told, ensure_ascii=False)


def row(file: str, answer: list[dict], text: str | None, unsure: bool) -> str:
    """One file's answer as a line of the table, most probable first, then the words it was read with."""
    scores = "  ".join(f"{a['label']} {100 * a['score']:.1f} %" for a in answer)
    return f"{file}  {'unsure: ' if unsure else ''}{scores}" + (f'  "{text}"' if text else "")


if __name__ == "__main__":
    run(main)
