"""Transcribe a data set: clips that are not cached are decoded, in one or several processes."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from accelerate import PartialState
from accelerate.utils import broadcast_object_list, gather_object
from datasets import Dataset
from tqdm import tqdm

from hf_ser.data.corpora import CORPORA
from hf_ser.models.decoding import decode_audio
from hf_ser.progress import Progress
from hf_ser.transcripts.cache import TranscriptCache, transcript_key
from hf_ser.transcripts.recogniser import DecodeOptions, Recogniser, Transcript
from hf_ser.transcripts.transcriber import Request, transcribe

STORE_SECONDS = 5.0
"""Interval of writes to the cache: a killed run loses no more."""

DETECT = "detect"


def known_language(corpus: str) -> str | None:
    """Language code of a corpus; None if it has several or it is unknown."""
    return CORPORA[corpus].LANGUAGE if corpus in CORPORA else None


@dataclass(frozen=True)
class Job:
    """Settings of transcribing a data set.

    Args:
        recogniser: The model.
        options: Decoding options.
        language: Language code of all clips; `detect` to detect it for each clip; None for that of the corpus if known,
            else detected.
        batch_size: Windows decoded together; transcripts do not depend on it beyond rounding.
        cache: File of the transcript cache.
        folder: Folder of the recogniser, if it is one; it may record the training speakers.
    """

    recogniser: Recogniser
    options: DecodeOptions
    language: str | None
    batch_size: int
    cache: Path
    folder: str | None = None

    @property
    def source(self) -> str:
        """Value of `transcript_source`."""
        return f"{self.recogniser.name}@{self.recogniser.revision}"

    def decoding_language(self, corpus: str) -> str | None:
        """Language code given to the recogniser; None to detect it, or if the recogniser knows one language."""
        if not self.recogniser.multilingual or self.language == DETECT:
            return None
        return self.language or known_language(corpus)

    def reference_language(self, corpus: str) -> str | None:
        """Language code of a corpus's reference transcripts; None if unknown."""
        given = None if self.language == DETECT else self.language
        return given or known_language(corpus) or (None if self.recogniser.multilingual else "en")

    def check(self, corpora: Iterable[str]) -> None:
        """Check that the recogniser supports the languages of some corpora and `max_tokens`.

        Raises:
            ValueError: an English-only recogniser with another language; too many `max_tokens`.
        """
        if (self.options.max_tokens or 1) > self.recogniser.max_tokens:
            raise ValueError(
                f"--max_tokens {self.options.max_tokens}: expected at most {self.recogniser.max_tokens}, which is what "
                f"{self.recogniser.name} has room for."
            )
        others = {self.reference_language(corpus) for corpus in corpora} - {"en", None}
        if others and not self.recogniser.multilingual:
            raise ValueError(
                f"{self.recogniser.name} knows English alone, found clips in {', '.join(sorted(others))}. Expected a "
                "multilingual Whisper (one without .en in its name), or --language en."
            )


@dataclass(frozen=True)
class Transcribed:
    """Result of transcribing a data set.

    Args:
        transcripts: One per row, in order; None without audio, or if it failed.
        failed: Reasons of failures by id.
        decoded: Number of clips that were not cached.
        seconds: Time of decoding them.
        audio_seconds: Their total length.
    """

    transcripts: list[Transcript | None]
    failed: dict[str, str]
    decoded: int
    seconds: float
    audio_seconds: float


def transcribe_dataset(dataset: Dataset, job: Job) -> Transcribed:
    """Transcribe all rows; all processes call it, and all get the same result.

    Rows with equal audio and language are decoded once. Each process decodes its part of the missing clips into the
    cache, which must be on a shared disk, then all read everything.
    """
    keys, requests = requests_of(dataset, job)
    state = PartialState()
    with TranscriptCache(job.cache) as cache:
        # One process decides for all, since another could add to the cache meanwhile.
        holder = [_missing(requests, cache) if state.is_main_process else None]
        (missing,) = broadcast_object_list(holder)
        started = time.time()
        failed = _decode([requests[key] for key in missing[state.process_index :: state.num_processes]], job, cache)
        state.wait_for_everyone()
        seconds = time.time() - started
        failed = dict(gather_object(list(failed.items())))
        found = cache.get({key for key in keys if key})
    # Such as one whose entry was damaged meanwhile: it must not count as a clip without audio.
    lost = {key for key in keys if key} - {*found, *failed}
    failed |= dict.fromkeys(lost, "not in the cache after it was decoded: run again")
    return Transcribed(
        transcripts=[found.get(key) for key in keys],
        failed={name: failed[key] for name, key in zip(dataset["id"][:], keys, strict=True) if key in failed},
        decoded=len(set(missing) - set(failed)),
        seconds=seconds,
        audio_seconds=sum(requests[key].seconds for key in missing if key not in failed),
    )


def check_window(dataset: Dataset, job: Job, clips: int) -> list[dict]:
    """Decode some clips twice, each in 30 s (`whole`) and alone, without the cache.

    Returns:
        For each clip its position `row`, both texts, whether the answer to it alone was `suspicious`, and the
        seconds of both ways for all clips together.
    """
    keys, requests = requests_of(dataset, job)
    sample = [requests[key] for key in sorted(requests)[:clips]]  # keys are hashes, so this is a random sample
    rows = {key: row for row, key in reversed(list(enumerate(keys))) if key}
    found = {request.key: {"row": rows[request.key]} for request in sample}
    for name in ("whole", "alone"):
        started = time.time()
        options = replace(job.options, whole_window=name == "whole")
        answers = transcribe(job.recogniser, sample, options, job.batch_size)
        for request, answer in tqdm(answers, total=len(sample), unit=" clips", desc="checking windows", disable=None):
            found[request.key][name] = getattr(answer, "text", None)
            found[request.key]["suspicious"] = getattr(answer, "suspicious", False)
        seconds = time.time() - started
        for one in found.values():
            one[f"{name}_seconds"] = seconds
    return list(found.values())


def requests_of(dataset: Dataset, job: Job) -> tuple[list[str | None], dict[str, Request]]:
    """Cache key of each row (None without audio), and the request of each key."""
    keys, requests = [], {}
    columns = [dataset[name][:] for name in ("pcm_sha256", "corpus", "duration_seconds")]
    for row, (pcm, corpus, seconds) in enumerate(zip(*columns, strict=True)):
        if pcm is None:
            keys.append(None)
            continue
        language = job.decoding_language(corpus)
        key = transcript_key(pcm, job.recogniser.revision, language, job.options)
        keys.append(key)
        if key not in requests:
            requests[key] = Request(key, seconds, lambda row=row: decode_audio(dataset[row]["audio"]), language)
    return keys, requests


def _missing(requests: dict[str, Request], cache: TranscriptCache) -> list[str]:
    """Keys that are not cached, longest clips first, so that processes get equal parts."""
    known = cache.get(requests)
    missing = [key for key in requests if key not in known]
    return sorted(missing, key=lambda key: (-requests[key].seconds, key))


def _decode(requests: Sequence[Request], job: Job, cache: TranscriptCache) -> dict[str, str]:
    """Decode clips into the cache; return the reasons of failures by key."""
    failed, done, stored, audio_seconds = {}, {}, time.time(), 0.0
    # The first process shows its own progress; its part is as large as the others'.
    with Progress(len(requests), "transcribing", "clips", not PartialState().is_main_process) as bar:
        try:
            for request, answer in transcribe(job.recogniser, requests, job.options, job.batch_size):
                if isinstance(answer, Transcript):
                    done[request.key] = answer
                else:
                    failed[request.key] = str(answer)
                audio_seconds += request.seconds
                bar.update()
                bar.set_postfix_str(f"{audio_seconds / max(bar.format_dict['elapsed'], 1e-9):.1f} s of audio a second")
                if time.time() - stored > STORE_SECONDS:
                    cache.put(done)
                    done, stored = {}, time.time()
        finally:
            cache.put(done)
    return failed
