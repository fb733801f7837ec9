"""Emotion over the time of a long recording: who speaks when, with which emotion, and where there is no speech."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from time import perf_counter
from typing import IO

import numpy as np
from tqdm import tqdm

from hf_ser.deploy.stream import SerStream
from hf_ser.deploy.stream_speech import speech_detector
from hf_ser.deploy.stream_windows import (
    Segment,
    Stretch,
    cell_segments,
    checked_window,
    classify,
    joined,
    window_samples,
)
from hf_ser.deploy.timeline_files import save_timeline
from hf_ser.deploy.timeline_record import TimelineRecord
from hf_ser.deploy.timeline_transcript import with_words
from hf_ser.deploy.timeline_turns import Turn, read_turns
from hf_ser.models.audio_notes import problem_message
from hf_ser.models.decoding import audio_blocks, read_audio, source_form
from hf_ser.models.familiarity import UNFAMILIAR
from hf_ser.models.samples import MIN_SECONDS, SAMPLING_RATE, audio_problem
from hf_ser.models.streams import LEFT, MIX, RIGHT
from hf_ser.revisions import public_name
from hf_ser.runs.classifier import Classifier
from hf_ser.transcripts.recogniser import TimingRecogniser

FEED_SECONDS = 30.0
"""What a stream is fed at a time, so that its windows are classified in batches."""

MARKED = "rttm"
"""What says where speech is, where turns are given."""


class Timeline(TimelineRecord):
    """`TimelineRecord` that writes itself."""

    def save(self, path: str | Path) -> Path:
        """Write it in the form that the name ends in, one of `timeline_files.FORMS`, such as `.html`.

        Raises:
            ValueError: another ending.
        """
        return save_timeline(self, path)


def make_timeline(
    model: Classifier,
    file: str | Path,
    window_seconds: float | None = None,
    voice_activity: str | None = None,
    channels: bool = False,
    turns: str | Path | Sequence[Turn] | None = None,
    channel: str = MIX,
    progress: IO | None = None,
    recogniser: TimingRecogniser | None = None,
    language: str | None = None,
) -> Timeline:
    """Classify a recording of any length over its time; it is read in blocks, so memory does not grow with it.

    Speech is found by voice activity. Each stretch of it, with up to 1 s of the silence around it, is read in windows
    every half window, the last one aligned to its end; log-probabilities are averaged where windows overlap.

    Args:
        model: A model that takes audio.
        file: WAV, FLAC, OGG or MP3, of any rate.
        window_seconds, voice_activity: As `SerStream` takes them, the latter as its `detector`.
        channels: Take the two channels for two speakers, `left` and `right`.
        turns: An RTTM file, or its turns, which say who speaks when; then without voice activity.
        channel: Of several channels, `mix`, `left` or `right`.
        progress: Stream that a progress bar is written to; None: there is none.
        recogniser, language: What transcribes the speech, with the times of words, and the language, by default
            detected; the text decides nothing of the emotion.

    Raises:
        FileNotFoundError, ValueError: the file cannot be read, has one channel where two are wanted, or settings that
            do not go together.
    """
    if channels and (turns is not None or channel != MIX):
        raise ValueError("Channels as speakers go neither with turns nor with one channel: leave one of them out.")
    seconds, n_channels = source_form(str(file))
    if channels and n_channels != 2:
        raise ValueError(
            f"{file}: found {n_channels} channel{'s' * (n_channels > 1)}. Expected 2, one a speaker: leave channels "
            "out, or give an RTTM file of the speakers."
        )
    window = checked_window(model, window_seconds)
    with tqdm(
        total=seconds and int(seconds) * (1 + channels), unit=" s", file=progress, disable=progress is None
    ) as bar:
        if turns is not None:
            given = read_turns(turns, Path(file).stem) if isinstance(turns, str | Path) else list(turns)
            _check_in_recording(given, seconds, str(file), turns if isinstance(turns, str | Path) else "the turns")
            segments, alike = _of_turns(model, str(file), given, window, channel, bar)
            activity, length = MARKED, seconds
        else:
            activity = speech_detector(voice_activity).name
            segments, alike, length = [], [], 0.0
            for speaker in (LEFT, RIGHT) if channels else (None,):
                stream = SerStream(model, window_seconds=window, detector=activity, speaker=speaker)
                found, length = _of_stream(stream, str(file), speaker or channel, bar)
                segments += joined(model, found)
                alike += stream.familiarity
    segments.sort(key=lambda one: (one.start, one.speaker or ""))
    if recogniser is not None:
        segments = with_words(segments, recogniser, str(file), language, channel, channels)
    return Timeline(
        file=str(file),
        seconds=round(length if length is not None else max((one.end for one in segments), default=0.0), 3),
        model=public_name(model.name),
        labels=model.labels,
        voice_activity=activity,
        window_seconds=window,
        threshold=model.abstain_threshold,
        segments=segments,
        unlike_share=sum(one < UNFAMILIAR for one in alike) / len(alike) if alike else None,
        transcript_source=f"{recogniser.name}@{recogniser.revision}" if recogniser is not None else None,
    )


def _of_stream(stream: SerStream, file: str, channel: str, bar: tqdm) -> tuple[list[Segment], float]:
    """Segments of one channel, and the seconds that were read."""
    found, samples = [], 0
    for block in _gathered(audio_blocks(file, SAMPLING_RATE, channel)):
        if wrong := len(block) - int(np.isfinite(block).sum()):
            at = f"near {samples / SAMPLING_RATE:.0f} s"
            raise ValueError(
                f"{file}: found {wrong} samples that are NaN or infinite {at}. Expected numbers: export it again, as "
                "16-bit integers say."
            )
        found += stream.feed(block)
        samples += len(block)
        bar.update(round(samples / SAMPLING_RATE) - round((samples - len(block)) / SAMPLING_RATE))
    if samples < MIN_SECONDS * SAMPLING_RATE:
        kind, detail = audio_problem(np.zeros(samples, np.float32))
        raise ValueError(problem_message(file, kind, detail, channel))
    return found + stream.close(), samples / SAMPLING_RATE


def _check_in_recording(turns: list[Turn], seconds: float | None, file: str, named: str | Path) -> None:
    """Raises ValueError where a turn begins after the end of the recording."""
    behind = [one for one in turns if seconds is not None and one.start >= seconds]
    if behind:
        raise ValueError(
            f"{named}: found a turn of {behind[0].speaker} from {behind[0].start:g} s on, and {file} ends after "
            f"{seconds:g} s. Expected turns of this recording: check that both belong together."
        )


def _gathered(blocks: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    """The same samples in blocks of FEED_SECONDS or more."""
    waiting, count = [], 0
    for block in blocks:
        waiting.append(block)
        count += len(block)
        if count >= FEED_SECONDS * SAMPLING_RATE:
            yield np.concatenate(waiting)
            waiting, count = [], 0
    if waiting:
        yield np.concatenate(waiting)


def _of_turns(
    model: Classifier, file: str, turns: list[Turn], window_seconds: float, channel: str, bar: tqdm
) -> tuple[list[Segment], list[float]]:
    """Segments of the turns, each classified by itself, with the silence between it and other turns; familiarities."""
    window, context = window_samples(window_seconds)
    segments, alike = [], []
    for turn in turns:
        ends = [one.end for one in turns if one.start < turn.start and one.end <= turn.start]
        starts = [one.start for one in turns if one.start >= turn.end]
        before = max([0.0, turn.start - context / SAMPLING_RATE, *ends])
        behind = min([turn.end + context / SAMPLING_RATE, *starts])
        samples = read_audio(file, SAMPLING_RATE, before, behind, channel).samples
        first = round(before * SAMPLING_RATE)
        last, start = first + len(samples), round(turn.start * SAMPLING_RATE)
        end = min(last, round(turn.end * SAMPLING_RATE))
        stretch = Stretch(True, start, end, window, before=first, behind=last)
        alike += classify(model, [stretch], samples, first)
        segments += joined(model, cell_segments(model, stretch, turn.speaker))
        bar.update(max(0, round(turn.end) - bar.n))
    return segments, alike


def timed_timeline(model: Classifier, file: str | Path, **settings) -> tuple[Timeline, float]:
    """`make_timeline`, and its real-time factor: seconds of computing by those of the recording."""
    began = perf_counter()
    timeline = make_timeline(model, file, **settings)
    return timeline, (perf_counter() - began) / max(timeline.seconds, 1e-9)
