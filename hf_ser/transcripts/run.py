"""A data set transcribed: what the cache lacks is decoded, by as many processes as there are."""

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
from hf_ser.transcripts.cache import TranscriptCache, transcript_key
from hf_ser.transcripts.recogniser import DecodeOptions, Recogniser, Transcript
from hf_ser.transcripts.transcriber import Request, transcribe

STORE_SECONDS = 5.0
"""What is decoded goes into the cache this often: a killed run loses no more."""

DETECT = "detect"


def known_language(corpus: str) -> str | None:
    """Code of a corpus's language; None where it is not one, or not known."""
    return CORPORA[corpus].LANGUAGE if corpus in CORPORA else None


@dataclass(frozen=True)
class Job:
    """How a data set is transcribed.

    Args:
        recogniser: The model.
        options: How it decodes.
        language: Code of the language of all clips; `detect` to have it found clip by clip; None for the corpus's own
            where it has one, else found.
        batch_size: Windows that are decoded together; the words do not depend on it beyond rounding.
        cache: File of the transcript cache.
        folder: Where the recogniser lies, if it is a folder that may tell whom it was trained on.
    """

    recogniser: Recogniser
    options: DecodeOptions
    language: str | None
    batch_size: int
    cache: Path
    folder: str | None = None

    @property
    def source(self) -> str:
        """What `transcript_source` says of the words."""
        return f"{self.recogniser.name}@{self.recogniser.revision}"

    def spoken(self, corpus: str) -> str | None:
        """Code that the recogniser is told for a corpus; None to have it detected, or where it knows one only."""
        if not self.recogniser.multilingual or self.language == DETECT:
            return None
        return self.language or known_language(corpus)

    def written(self, corpus: str) -> str | None:
        """Code of the language that a corpus's own words are in, whatever the recogniser is told; None if unknown."""
        told = None if self.language == DETECT else self.language
        return told or known_language(corpus) or (None if self.recogniser.multilingual else "en")

    def check(self, corpora: Iterable[str]) -> None:
        """Make sure that the recogniser can do what is asked, with clips of some corpora.

        Raises:
            ValueError: it knows English alone, and they are in another language, or another is asked for; it has no
                room for answers of `max_tokens`.
        """
        if (self.options.max_tokens or 1) > self.recogniser.max_tokens:
            raise ValueError(
                f"--max_tokens {self.options.max_tokens}: expected at most {self.recogniser.max_tokens}, which is what "
                f"{self.recogniser.name} has room for."
            )
        others = {self.written(corpus) for corpus in corpora} - {"en", None}
        if others and not self.recogniser.multilingual:
            raise ValueError(
                f"{self.recogniser.name} knows English alone, found clips in {', '.join(sorted(others))}. Expected a "
                "multilingual Whisper (one without .en in its name), or --language en."
            )


@dataclass(frozen=True)
class Transcribed:
    """What came of it.

    Args:
        transcripts: Of each row of the data set, in its order; None where there is no sound, or it failed.
        failed: Why, by id.
        decoded: Sounds that were not in the cache.
        seconds: How long decoding them took.
        audio_seconds: How long they are.
    """

    transcripts: list[Transcript | None]
    failed: dict[str, str]
    decoded: int
    seconds: float
    audio_seconds: float


def transcribe_dataset(dataset: Dataset, job: Job) -> Transcribed:
    """Transcripts of all rows; all processes call it, and all get the same.

    Rows of equal sound and language are decoded once. The processes meet in the cache, which must lie on a disk that
    they share: each decodes its part of what is missing there, then all read everything.
    """
    keys, requests = requests_of(dataset, job)
    state = PartialState()
    with TranscriptCache(job.cache) as cache:
        # From one process for all: while the others still look, one may have begun to add to the cache.
        holder = [_missing(requests, cache) if state.is_main_process else None]
        (missing,) = broadcast_object_list(holder)
        started = time.time()
        failed = _decode([requests[key] for key in missing[state.process_index :: state.num_processes]], job, cache)
        state.wait_for_everyone()
        seconds = time.time() - started
        failed = dict(gather_object(list(failed.items())))
        found = cache.get({key for key in keys if key})
    # Such as one whose entry was damaged in the meantime: it must not pass for a clip without sound.
    lost = {key for key in keys if key} - {*found, *failed}
    failed |= dict.fromkeys(lost, "not in the cache after it was decoded: run again")
    return Transcribed(
        transcripts=[found.get(key) for key in keys],
        failed={name: failed[key] for name, key in zip(dataset["id"][:], keys, strict=True) if key in failed},
        decoded=len(set(missing) - set(failed)),
        seconds=seconds,
        audio_seconds=sum(requests[key].seconds for key in missing if key not in failed),
    )


def check_short_window(dataset: Dataset, job: Job, clips: int) -> list[dict]:
    """Decode some clips twice, in windows of 30 s and of their own length; nothing is cached.

    Returns:
        For each clip its position `row`, what was said by `full` and by `short` windows; and the seconds that all of
        them took, in each row the same.
    """
    keys, requests = requests_of(dataset, job)
    sample = [requests[key] for key in sorted(requests)[:clips]]  # keys are hashes: as good as drawn by lot
    rows = {key: row for row, key in reversed(list(enumerate(keys))) if key}
    found = {request.key: {"row": rows[request.key]} for request in sample}
    for name, short in (("full", False), ("short", True)):
        started = time.time()
        answers = transcribe(job.recogniser, sample, replace(job.options, short_window=short), job.batch_size)
        bar = tqdm(answers, total=len(sample), unit=" clips", desc=f"checking {name} windows", disable=None)
        for request, answer in bar:
            found[request.key][name] = getattr(answer, "text", None)
        seconds = time.time() - started
        for one in found.values():
            one[f"{name}_seconds"] = seconds
    return list(found.values())


def requests_of(dataset: Dataset, job: Job) -> tuple[list[str | None], dict[str, Request]]:
    """The cache's key of each row, None without sound, and the first clip of each key."""
    keys, requests = [], {}
    columns = [dataset[name][:] for name in ("pcm_sha256", "corpus", "duration_seconds")]
    for row, (pcm, corpus, seconds) in enumerate(zip(*columns, strict=True)):
        if pcm is None:
            keys.append(None)
            continue
        language = job.spoken(corpus)
        key = transcript_key(pcm, job.recogniser.revision, language, job.options)
        keys.append(key)
        if key not in requests:
            requests[key] = Request(key, seconds, lambda row=row: decode_audio(dataset[row]["audio"]), language)
    return keys, requests


def _missing(requests: dict[str, Request], cache: TranscriptCache) -> list[str]:
    """Keys that are to be decoded, longest clips first, so that processes get equal parts."""
    known = cache.get(requests)
    missing = [key for key in requests if key not in known]
    return sorted(missing, key=lambda key: (-requests[key].seconds, key))


def _decode(requests: Sequence[Request], job: Job, cache: TranscriptCache) -> dict[str, str]:
    """Decode clips into the cache; returns what failed, by key."""
    failed, done, stored, heard = {}, {}, time.time(), 0.0
    # Of several processes the first shows its own part, which is as large as the others'.
    hidden = None if PartialState().is_main_process else True
    with tqdm(total=len(requests), unit=" clips", desc="transcribing", disable=hidden) as bar:
        try:
            for request, answer in transcribe(job.recogniser, requests, job.options, job.batch_size):
                if isinstance(answer, Transcript):
                    done[request.key] = answer
                else:
                    failed[request.key] = str(answer)
                heard += request.seconds
                bar.update()
                bar.set_postfix_str(f"{heard / max(bar.format_dict['elapsed'], 1e-9):.1f} s of sound a second")
                if time.time() - stored > STORE_SECONDS:
                    cache.put(done)
                    done, stored = {}, time.time()
        finally:
            cache.put(done)
    return failed
