"""Write a recogniser's transcripts as columns of the data set, with their word error rates.

DS/                        the data set, with the recogniser's transcripts in `transcript`
DS/transcripts.json, .png  settings, and the word error rate where the corpus has transcripts
DS/asr/                    the recogniser's training record, where there is one
"""

import json
import math
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from datasets import Dataset, Features, concatenate_datasets
from filelock import FileLock

from hf_ser.data.column_digests import DIGESTS, write_digests
from hf_ser.data.prepared import REPORT
from hf_ser.data.schema import ASR_COLUMNS, features
from hf_ser.data.shards import quiet_datasets
from hf_ser.files import atomic_write, hidden_sibling, replace_folder
from hf_ser.publish.dataset_card import CARD, write_dataset_report
from hf_ser.publish.transcription_summary import TranscriptionSummary, WindowEffect
from hf_ser.runs.record import ASR_RECORD, ancestry, hardware, hashed, read_record, write_record
from hf_ser.transcripts.fold_transcripts import references
from hf_ser.transcripts.recogniser import Transcript
from hf_ser.transcripts.run import Job, Transcribed
from hf_ser.transcripts.wer import error_rate, format_wer, normalised, plot_wer, wer_report
from hf_ser.transcripts.wer_figures import WordErrors

SUMMARY, PICTURE = "transcripts.json", "transcripts.png"
EARLIER_COLUMN = "no_speech_prob"
"""Name of `asr_no_speech_prob` in data sets that were transcribed before it had this one."""

OUTDATED_FILES = (SUMMARY, PICTURE, "audit.json", "state.json", "dataset_info.json", DIGESTS)
"""Files of a data set's folder that do not apply to the new one."""


def with_transcripts(dataset: Dataset, transcripts: Sequence[Transcript | None], source: str) -> Dataset:
    """The data set with a recogniser's transcripts in `transcript`, and the corpus's own in `reference_transcript`.

    Args:
        dataset: A prepared data set, transcribed before or not.
        transcripts: One transcript a row.
        source: The recogniser, `<id>@<revision>`.
    """
    columns = {
        "transcript": [one and one.text for one in transcripts],
        "transcript_source": [one and source for one in transcripts],
        "reference_transcript": references(dataset),
        "asr_avg_logprob": [one and one.avg_logprob for one in transcripts],
        "asr_no_speech_prob": [one and one.no_speech_prob for one in transcripts],
        "asr_compression_ratio": [one and one.compression_ratio for one in transcripts],
    }
    typed = features(tuple(dataset.features["label"].names)) | ASR_COLUMNS
    order = list(dict.fromkeys([*(name for name in dataset.column_names if name != EARLIER_COLUMN), *columns]))
    replaced = {*columns, EARLIER_COLUMN}
    kept = dataset.remove_columns([name for name in dataset.column_names if name in replaced])
    added = Dataset.from_dict(columns, features=Features({name: typed[name] for name in columns}))
    return concatenate_datasets([kept, added], axis=1).select_columns(order)


def write_transcribed(
    dataset: Dataset, job: Job, summary: TranscriptionSummary, folder: Path, output_dir: Path
) -> None:
    """Write the transcribed data set as a folder that appears only when it is complete.

    Args:
        dataset: The data set with its transcripts.
        job: The transcription; the training record of its recogniser is copied.
        summary: Result of `summarise`.
        folder: The prepared data set that was transcribed.
        output_dir: The same folder, which is then replaced, or a new one.
    """
    work, lock = hidden_sibling(output_dir, "transcribing"), hidden_sibling(output_dir, "lock")
    with FileLock(lock):
        shutil.rmtree(work, ignore_errors=True)
        with quiet_datasets():
            dataset.save_to_disk(work)
        write_digests(work)
        for entry in sorted(folder.iterdir()):
            if entry.is_dir() and entry.name != ASR_RECORD:
                shutil.copytree(entry, work / entry.name, symlinks=True)  # made by the user
            elif entry.is_file() and entry.suffix != ".arrow" and entry.name not in OUTDATED_FILES:
                shutil.copy2(entry, work)
        if record := read_record(job.folder) if job.folder else None:
            write_record(work / ASR_RECORD, record)
        with atomic_write(work / SUMMARY) as file:
            json.dump(summary.to_json(), file, indent=1)
        if summary.word_errors:
            plot_wer(summary.word_errors, work / PICTURE)
        if output_dir != folder:
            reject_existing(output_dir)  # it may have been made meanwhile
        replace_folder(work, output_dir)
        if (output_dir / CARD).is_file():
            write_dataset_report(dataset, json.loads((output_dir / REPORT).read_text()), output_dir)
        lock.unlink(missing_ok=True)


def reject_existing(output_dir: Path) -> None:
    """Check that a new folder does not exist.

    Raises:
        FileExistsError: it exists.
    """
    if output_dir.exists():
        raise FileExistsError(f"{output_dir} exists already: name another --output_dir.")


def summarise(dataset: Dataset, job: Job, done: Transcribed, checked: list[dict]) -> TranscriptionSummary:
    """Summarise a transcription.

    Args:
        dataset: The data set with its transcripts.
        job, done: The transcription and its result.
        checked: Result of `check_window`; empty without it.
    """
    transcribed = [one for one in done.transcripts if one is not None]
    rows = compared_rows(dataset, job)
    trained_on = training_speakers(job)
    unseen = [row for row in rows if hashed(row["speaker"] or "") not in trained_on]
    return TranscriptionSummary(
        asr=job.source,
        options=asdict(job.options),
        language=job.language,
        rows=len(done.transcripts),
        transcribed=len(transcribed),
        without_sound=len(done.transcripts) - len(transcribed) - len(done.failed),
        without_words=sum(not one.text for one in transcribed),
        failed=done.failed,
        decoded=done.decoded,
        decode_seconds=round(done.seconds, 2),
        decoded_audio_seconds=round(done.audio_seconds, 2),
        hardware=hardware(),
        languages=dict(Counter(one.language or "unknown" for one in transcribed).most_common()),
        temperatures=dict(sorted(Counter(f"{one.temperature}" for one in transcribed).items())),
        suspicious=sum(one.suspicious for one in transcribed),
        confidence=confidence(transcribed),
        word_errors=word_errors_of(rows),
        clips_of_met_speakers=len(rows) - len(unseen),
        word_errors_of_unmet_speakers=word_errors_of(unseen) if len(unseen) < len(rows) else None,
        check_window=window_effect(dataset, job, checked) if checked else None,
    )


def compared_rows(dataset: Dataset, job: Job) -> list[dict]:
    """The rows with transcripts of both corpus and recogniser, as `wer_report` takes them."""
    columns = {name: dataset[name][:] for name in ("id", "speaker", "sex", "corpus")}
    columns["label"] = [dataset.features["label"].names[i] for i in dataset["label"][:]]
    columns["reference"] = dataset["reference_transcript"][:]
    columns["hypothesis"] = dataset["transcript"][:]
    columns["avg_logprob"] = dataset["asr_avg_logprob"][:]
    columns["language"] = [job.reference_language(corpus) for corpus in columns["corpus"]]
    rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    return [row for row in rows if row["reference"] and row["hypothesis"] is not None]


def training_speakers(job: Job) -> set[str]:
    """Hashes of the recogniser's training and validation speakers, if they are recorded."""
    splits = ancestry(job.folder) if job.folder else []
    return {who for split in splits for part in split.parts.values() for who in part.speakers}


def word_errors_of(rows: list[dict]) -> WordErrors | None:
    """The word errors of some rows; None where the references have no words, such as "..."."""
    spoken = normalised([row["reference"] for row in rows], None)
    return wer_report(rows) if any(spoken) else None


def window_effect(dataset: Dataset, job: Job, checked: list[dict]) -> WindowEffect:
    """Compute the effect of encoding clips without padding to 30 s: share of same texts, word error rates, seconds.

    Args:
        dataset: The data set with its transcripts.
        job: The transcription.
        checked: Result of `check_window`.
    """
    rows = [one["row"] for one in checked]
    own = dataset["reference_transcript"][:]
    true = [own[row] for row in rows]
    corpora = dataset["corpus"][:]
    languages = [job.reference_language(corpora[row]) for row in rows]
    hypotheses = {name: [one[name] or "" for one in checked] for name in ("whole", "alone")}
    pairs = {"alone_against_whole": (hypotheses["whole"], hypotheses["alone"])}
    pairs |= {f"{name}_against_reference": (true, texts) for name, texts in hypotheses.items()}
    rates = {name: error_rate(*pair, languages) for name, pair in pairs.items() if any(pair[0])}
    rates = {name: rate for name, rate in rates.items() if not math.isnan(rate)}  # of texts without words
    return WindowEffect(
        clips=len(checked),
        same_text=sum(one["whole"] == one["alone"] for one in checked) / len(checked),
        suspicious=sum(one["suspicious"] for one in checked),
        word_error_rates=rates,
        seconds={name: round(checked[0][f"{name}_seconds"], 2) for name in hypotheses},
    )


def confidence(transcripts: Sequence[Transcript]) -> dict[str, list[float]]:
    """The 5th, 50th and 95th percentile of each measure of confidence, over the clips that have it."""
    found = {}
    for name in ("avg_logprob", "no_speech_prob", "compression_ratio"):
        values = [value for one in transcripts if (value := getattr(one, name)) is not None and not math.isnan(value)]
        if values:
            found[f"asr_{name}"] = np.percentile(values, (5, 50, 95)).round(4).tolist()
    return found


def format_confidence(measure: tuple[str, list[float]]) -> str:
    """One measure of `confidence` as text."""
    name, values = measure
    return f"{name} " + " ".join(f"{value:.2f}" for value in values)


def format_summary(summary: TranscriptionSummary) -> str:
    """A summary as text."""
    decoded, seconds = summary.decoded, summary.decode_seconds
    cached = summary.transcribed - decoded
    lines = [f"{summary.asr}: {summary.transcribed} of {summary.rows} clips transcribed"]
    if decoded:
        rate, speed = decoded / seconds, summary.decoded_audio_seconds / seconds
        lines.append(f"  decoded {decoded} in {seconds:.1f} s: {rate:.2f} clips, {speed:.1f} s of audio a second")
    lines.append(f"  not decoded again: {cached} (in the cache, or equal recordings)")
    lines.append(f"  without text (silence, or no speech): {summary.without_words}")
    tried = {t: n for t, n in summary.temperatures.items() if t not in ("0.0", "None")}
    if tried:
        lines.append("  poor at temperature 0, accepted at " + ", ".join(f"{t}: {n}" for t, n in tried.items()))
    lines.append("  languages: " + ", ".join(f"{name} {clips}" for name, clips in summary.languages.items()))
    if summary.without_sound:
        lines.append(f"  without audio: {summary.without_sound}")
    if failed := summary.failed:
        lines.append(f"  failed: {len(failed)}, all in {SUMMARY}, the first:")
        lines += [f"    {name}: {why}" for name, why in list(failed.items())[:10]]
    if suspicious := summary.suspicious:
        lines.append(f"  decoded again in 30 s, because the transcript of the clip alone was suspicious: {suspicious}")
    if found := summary.confidence:
        lines.append(
            "  confidence, as 5th, 50th and 95th percentile: " + "; ".join(map(format_confidence, found.items()))
        )
    if effect := summary.check_window:
        rates = ", ".join(
            f"{name.replace('_', ' ')} {100 * rate:.1f} %" for name, rate in effect.word_error_rates.items()
        )
        times = effect.seconds
        lines.append(
            f"  clips alone, not in 30 s, on {effect.clips} clips: {100 * effect.same_text:.1f} % have the same "
            f"text, {effect.suspicious} were decoded again in 30 s; word error rates: {rates}; {times['whole']} s "
            f"became {times['alone']} s"
        )
    if summary.word_errors:
        lines.append(format_wer(summary.word_errors))
    if seen := summary.clips_of_met_speakers:
        unseen = summary.word_errors_of_unmet_speakers
        rate = f"on the others its word error rate is {100 * unseen.wer:.1f} %" if unseen else "there are no others"
        lines.append(f"NOTE: {seen} clips are of speakers that this recogniser was trained on; {rate}.")
    return "\n".join(lines)
