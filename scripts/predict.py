"""Predict the emotion of audio files with a trained model.

python scripts/predict.py runs/quickstart/fold_1 a.wav b.mp3 --text "transcript of a" "transcript of b"
python scripts/predict.py runs/quickstart/fold_1 calls "more/*.flac" --json > labels.jsonl
python scripts/predict.py runs/quickstart/fold_1 calls.csv --batch_size 32 --output answers.csv
python scripts/predict.py runs/calls/final calls --embeddings vectors.parquet
python scripts/predict.py runs/calls/final calls/*.flac --asr openai-whisper:base --language en
python scripts/predict.py runs/by_speaker/final anna_9.wav --enrolment anna_1.wav anna_2.wav
python scripts/predict.py runs/calls/final call.wav --timeline --output call.html --output call.json
python scripts/predict.py runs/calls/final call.wav --timeline --asr openai-whisper:base --output call.html
python scripts/predict.py runs/calls/final --input calls.parquet --output labels --shard 3/16
"""

from hf_ser.cli import parse_early, run

import argparse
import sys
import warnings
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

from hf_ser.settings import names_in


def command_line() -> tuple[argparse.ArgumentParser, argparse.Namespace]:
    """The parser, and the arguments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("model", help="model folder, such as runs/quickstart/fold_1, or a Hub id, with or without @REVISION")
    add(
        "files",
        nargs="*",
        help="audio files (WAV, FLAC, OGG or MP3, any rate), folders of them, wild cards, or tables (.csv, .tsv, "
        ".jsonl, .parquet) with a column path, where known with transcript or text, start, end and channel",
    )
    add("--input", nargs="+", default=[], help="the same as files, behind a flag")
    add("--text", nargs="+", help="what is said in each file, in the same order ('' where unknown)")
    add("--asr", help="Whisper that transcribes the audio, as transcribe.py takes it; then without --text")
    add("--language", help="code of the spoken language, for --asr; default: detected")
    add(
        "--enrolment",
        nargs="+",
        metavar="FILE",
        help="other clips of the one speaker of all files, for a model trained with --normalisation speaker",
    )
    add(
        "--channel",
        choices=names_in("models/streams.py", "CHANNELS"),
        default="mix",
        help="of several channels: their mean, or one",
    )
    add("--columns", help="names of a table's columns, as path=FILE,transcript=WORDS")
    add("--audio_dir", help="folder where the relative paths of tables begin; default: that of the table")
    add("--batch_size", type=positive, default=8, help="clips a forward pass; no effect on the answers beyond rounding")
    add("--json", action="store_true", help="one JSON object a line instead of a table")
    add(
        "--output",
        type=Path,
        action="append",
        help="file that gets all answers too, .csv or .jsonl; or a folder for Parquet files of a thousand answers, in "
        "which a killed run goes on; with --timeline .json, .csv, .rttm, .vtt, .txt (Audacity), .png or .html, also "
        "several times",
    )
    add("--embeddings", type=Path, help="Parquet file that gets what the model's last layer is given for each clip")
    add("--shard", help="label only this share of the files into the folder --output, such as 3/16: from 1 to 16")
    add("--abstain", action="store_true", help="'unsure' (JSON: no label) below the model's threshold")
    add("--device", default=None, help="such as cuda:0; default: a GPU where there is one")
    of_time = parser.add_argument_group("long recordings")
    of_time.add_argument("--timeline", action="store_true", help="emotion over the time of a recording of any length")
    of_time.add_argument(
        "--window", type=float, help="seconds classified at a time; default: what the model takes, to 5"
    )
    of_time.add_argument("--channels", action="store_true", help="the two channels are two speakers")
    of_time.add_argument("--speakers", type=Path, help="RTTM file that says who speaks when")
    of_time.add_argument(
        "--vad",
        choices=names_in("deploy/stream_speech.py", "DETECTORS"),
        help="what finds speech; default: silero where it is installed (pip install hf_ser[vad]), else energy",
    )
    if dashed := [one for one in sys.argv[1:] if one.startswith("-") and Path(one).is_file()]:
        parser.error(f"{dashed[0]} is a file here, but was read as an option: give it as ./{dashed[0]}")
    return parser, parser.parse_args()


def positive(text: str) -> int:
    """A number from 1 on."""
    if (number := int(text)) < 1:
        raise ValueError
    return number


if __name__ == "__main__":
    parse_early(command_line)

import numpy as np
import torch
from tqdm import tqdm

from hf_ser.data.audio import pcm_sha256, read_clip
from hf_ser.data.given_clips import Given, GivenClip, given_clips, with_texts
from hf_ser.data.listing import column_names
from hf_ser.models import SerPipeline
from hf_ser.models.streams import MIX
from hf_ser.normal_form import printable
from hf_ser.progress import Progress
from hf_ser.runs.answers import (
    OUTPUTS,
    Answer,
    ClipPredictor,
    answers_file,
    check_output,
    embeddings_file,
    json_line,
    reuse_memory,
    text_row,
)
from hf_ser.runs.classifier import FUSION, TEXT, Classifier
from hf_ser.runs.record import read_record
from hf_ser.transcripts.cache import transcript_key
from hf_ser.transcripts.loading import default_precision, load_recogniser
from hf_ser.transcripts.recogniser import DecodeOptions
from hf_ser.transcripts.transcriber import Request, transcribe

SYNTHETIC = "this model was trained on the synthetic corpus (generated voices), not on real speech"
NO_TEXT = "no text is given, and this model was trained on audio and text: it uses the audio alone"


def main() -> None:
    """Model, clips, table or JSON lines; files that cannot be read are named, and the exit status is then 1."""
    parser, arguments = command_line()
    if not (inputs := [*arguments.files, *arguments.input]):
        parser.error("no files are given: name some behind the model, or with --input")
    check_timeline_options(parser, arguments)
    columns = column_names(arguments.columns) if arguments.columns else None
    given = given_clips(inputs, columns, arguments.audio_dir)
    if arguments.text and len(arguments.text) != len(given.clips):
        parser.error(f"{len(given.clips)} files and {len(arguments.text)} texts: expected one text a file")
    if arguments.timeline:
        show_timelines(arguments, given.clips)
        return
    if len(arguments.output or ()) > 1:
        parser.error("--output is given several times, which is for --timeline: leave one")
    output = arguments.output[0] if arguments.output else None
    if is_into_folder(arguments):
        label_files(parser, arguments, given, output)
        return
    check_output(output, given.tables)
    if arguments.embeddings and arguments.embeddings.suffix != ".parquet":
        parser.error(f"--embeddings {arguments.embeddings}: expected a file that ends in .parquet: rename it")

    classifier = load_classifier(arguments.model, arguments.device)
    classify = classifier.pipeline
    check_text_options(parser, arguments, classify)
    if arguments.abstain:
        check_has_threshold(classify, arguments.model)
    say(f"note: {note}" for note in given.notes)
    clips = texts_of(given, arguments, TEXT not in classify.modalities)
    about_model = [SYNTHETIC] if is_synthetic(arguments.model) else []
    text_note = partial(missing_text_note, classifier.kind == FUSION)
    say(f"note: {note}" for note in about_model)
    if without := [clip for clip in clips if text_note(clip)]:
        say([f"note: {len(without)} of {len(clips)} files: {NO_TEXT}"])
    statistics = enrolled_statistics(classify, arguments.enrolment)
    answering = ClipPredictor(
        classify,
        arguments.batch_size,
        arguments.channel,
        statistics,
        lambda clip: [*about_model, *text_note(clip)],
        embeddings=bool(arguments.embeddings),
    )
    failed = unlike = 0
    vectors = embeddings_file(arguments.embeddings)
    answers = answers_file(output, classifier.labels, arguments.abstain, classifier.dimensions)
    with answers as write, vectors as keep, Progress(len(clips), "predicting", "files") as bar:
        for answer in answering.answers(clips):
            write(answer)
            keep(answer)
            failed += answer.error is not None
            unlike += answer.is_unlike_training
            show(answer, arguments.json, arguments.abstain, {*about_model, NO_TEXT})
            bar.update()
    if unlike:
        say([f"{unlike} of {len(clips)} files are unlike the training data: do not rely on their answers"])
    if written := [str(file) for file in (output, arguments.embeddings) if file is not None]:
        say([f"wrote {', '.join(written)}"])
    if failed:
        say([f"{failed} of {len(clips)} files could not be read"])
        sys.exit(1)


def is_into_folder(arguments: argparse.Namespace) -> bool:
    """Whether the answers go into a folder of Parquet files, in which the same command goes on."""
    output = None if arguments.timeline or not arguments.output else arguments.output[0]
    return bool(arguments.shard) or (output is not None and not output.suffix)


def check_timeline_options(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> None:
    """Check that the options on time lines and on clips are not mixed."""
    of_clips = ("text", "enrolment", "abstain", "embeddings")
    of_time = ("window", "channels", "speakers", "vad")
    wrong = [name for name in (of_clips if arguments.timeline else of_time) if getattr(arguments, name)]
    if wrong:
        parser.error(f"--{wrong[0]} does not go {'with' if arguments.timeline else 'without'} --timeline")
    if arguments.language and not arguments.asr:
        parser.error("--language is for --asr: name a recogniser, or leave it out")


def show_timelines(arguments: argparse.Namespace, clips: Sequence[GivenClip]) -> None:
    """Print the segments of each recording and write its files; exit status 1 where one could not be read."""
    from hf_ser.deploy.timeline_command import print_timelines  # imports matplotlib
    from hf_ser.deploy.timeline_transcript import timing_recogniser

    settings = {"window_seconds": arguments.window, "channels": arguments.channels, "turns": arguments.speakers}
    settings |= {"voice_activity": arguments.vad, "channel": arguments.channel}
    classifier = load_classifier(arguments.model, arguments.device)
    if arguments.asr:
        settings |= {"recogniser": timing_recogniser(arguments.asr, arguments.device), "language": arguments.language}
    if is_synthetic(arguments.model):
        say([f"note: {SYNTHETIC}"])
    if classifier.kind == FUSION:
        say([f"note: {NO_TEXT}"])
    if not print_timelines(classifier, clips, arguments.output or [], arguments.json, settings):
        sys.exit(1)


def label_files(parser: argparse.ArgumentParser, arguments: argparse.Namespace, given: Given, output: Path) -> None:
    """Label very many files into a folder of Parquet files; exit status 1 where one could not be read."""
    from hf_ser.deploy.labeller_shards import Shard, label_shard  # imports pyarrow

    if output is None or output.suffix.lower() in OUTPUTS:
        parser.error("--shard is for a folder of labels: give --output FOLDER")
    of_clips = ("text", "asr", "language", "enrolment", "abstain", "json", "embeddings")
    wrong = [name for name in of_clips if getattr(arguments, name)]
    if wrong:
        parser.error(
            f"--{wrong[0]} does not go with a folder of labels, {output}: give --output FILE.jsonl, or leave it"
        )
    shard = Shard.parsed(arguments.shard or "1/1")
    classifier = load_classifier(arguments.model, arguments.device)
    say(f"note: {note}" for note in [*([SYNTHETIC] if is_synthetic(arguments.model) else []), *given.notes])
    clips = texts_of(given, arguments, TEXT not in classifier.pipeline.modalities)
    labelled = None
    for labelled in label_shard(classifier, clips, output, shard, arguments.batch_size, arguments.channel):
        say([f"shard {shard}: {labelled}"])
    if labelled.failed:
        say([f"the reasons of failures are in {output / shard.folder / 'errors.jsonl'}"])
        sys.exit(1)


def check_text_options(parser: argparse.ArgumentParser, arguments: argparse.Namespace, classify: SerPipeline) -> None:
    """Check that the options on text go together and with the model."""
    if (arguments.text or arguments.asr) and TEXT not in classify.modalities:
        parser.error(f"{arguments.model} is an audio-only model: leave out --text and --asr, or name a fused model")
    if arguments.text and arguments.asr:
        parser.error("--text and --asr both give the transcripts: leave out one")


def load_classifier(model: str, device: str | None) -> Classifier:
    """Load a model that takes audio."""
    reuse_memory()
    classifier = Classifier(model, device)
    if classifier.kind == TEXT:
        raise ValueError(
            f"{model}: found a text-only model. Expected a model of train_audio.py or "
            'train_fusion.py; for texts use pipeline("text-classification", model=...).'
        )
    return classifier


def is_synthetic(model: str) -> bool:
    """Whether a model was trained on generated voices, by its record."""
    try:
        record = read_record(model)
    except ValueError:  # the Hub cannot be reached
        return False
    return record is not None and "synthetic" in record.corpora


def missing_text_note(is_fused: bool, clip: GivenClip) -> list[str]:
    """The note on a clip without text, for a model of audio and text."""
    return [NO_TEXT] if is_fused and clip.error is None and not (clip.text or "").strip() else []


def texts_of(given: Given, arguments: argparse.Namespace, is_audio_only: bool) -> list[GivenClip]:
    """The clips with texts from the command line, the recogniser or their tables."""
    if arguments.text:
        return with_texts(given.clips, arguments.text)
    if arguments.asr:
        texts = transcribed(given.clips, arguments.asr, arguments.language, arguments.device, arguments.channel)
        return with_texts(given.clips, texts)
    if is_audio_only and any(clip.text for clip in given.clips):
        say(["note: an audio-only model: the transcripts of the table are not used"])
        return with_texts(given.clips, [None] * len(given.clips))
    return given.clips


def read(classify: SerPipeline, file: str, channel: str = MIX) -> tuple[np.ndarray, list[str]]:
    """Read a file as input of the model, with notes on it; raises as the pipeline's `read`."""
    samples, notes = classify.read(file, channel)
    return samples, list(notes.values())


def enrolled_statistics(classify: SerPipeline, enrolment: list[str] | None) -> torch.Tensor | None:
    """Statistics of a speaker's clips; without clips a note, for a model with per-speaker normalisation."""
    if enrolment:
        for file in enrolment:
            say(f"note: {file}: {note}" for note in read(classify, file)[1])
        with warnings.catch_warnings(action="ignore", category=UserWarning):  # the same notes again
            return classify.speaker_statistics(enrolment)
    if classify.speaker_front_end is not None:
        by = "the training speakers" if classify.speaker_front_end.is_whole else "itself"
        note = "this model was trained and tested with clips scaled by their speaker; each is now scaled by"
        say([f"note: {note} {by}, which is less accurate: give other clips of the speaker with --enrolment"])
    return None


def transcribed(
    clips: Sequence[GivenClip], asr: str, language: str | None, device: str | None, channel: str = MIX
) -> list[str | None]:
    """Transcribe each clip as `transcribe.py` does; None where it cannot be read."""
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    options = DecodeOptions(precision=default_precision(device, asr))
    recogniser, requests = load_recogniser(asr, device, options.precision), {}
    for clip in clips:
        again = partial(read_clip, clip.path, clip.start_seconds, clip.end_seconds, clip.channel or channel)
        try:
            decoded = again() if clip.error is None else None
        except (OSError, ValueError):
            decoded = None  # reported when its emotion is predicted
        if decoded is not None:
            # The key is of the audio: draws at a temperature must not depend on the path.
            key = transcript_key(pcm_sha256(decoded.samples), recogniser.revision, language, options)
            requests[clip] = Request(key, decoded.duration_seconds, lambda again=again: again().samples, language)
    answers = transcribe(recogniser, list({one.key: one for one in requests.values()}.values()), options)
    bar = tqdm(answers, total=len(requests), unit=" files", desc="transcribing", disable=None)
    texts = {request.key: getattr(answer, "text", None) for request, answer in bar}
    return [texts[requests[clip].key] if clip in requests else None for clip in clips]


def check_has_threshold(classify: SerPipeline, model: str) -> None:
    """Check that a model has an abstain threshold."""
    if getattr(classify.model.config, "abstain_threshold", None) is None:
        raise ValueError(
            f"{model}: --abstain found no abstain_threshold in its config.json, expected one as training fits it on "
            "the validation speakers: train it again, or leave out --abstain."
        )


def show(answer: Answer, as_json: bool, abstains: bool, known: set[str]) -> None:
    """Print an answer, and on the standard error its notes except known ones."""
    if answer.error is not None:
        say([f"skipped: {answer.error}"])
    say(f"note: {answer.clip.name}: {note}" for note in answer.notes if note not in known)
    if as_json:
        tqdm.write(json_line(answer.as_row(abstains), sys.stdout.encoding or "utf-8"), file=sys.stdout)
    elif answer.error is None:
        unsure = answer.unsure and (abstains or not answer.is_speech)
        row = text_row(answer.clip.name, answer.scores, answer.clip.text, unsure, answer.dimensions)
        tqdm.write(row, file=sys.stdout)
    sys.stdout.flush()


def say(lines: Iterable[str]) -> None:
    """Print lines on the standard error, beside a progress bar."""
    for line in lines:
        tqdm.write(printable(line), file=sys.stderr)


if __name__ == "__main__":
    run(main, continues=is_into_folder(command_line()[1]))
