"""Words with their times in the segments of a time line."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from hf_ser.deploy.stream_windows import Segment
from hf_ser.models.decoding import read_audio
from hf_ser.models.samples import SAMPLING_RATE
from hf_ser.models.streams import MIX
from hf_ser.transcripts.loading import FASTER, OPENAI, load_recogniser
from hf_ser.transcripts.recogniser import TimingRecogniser, Word

MARGIN_SECONDS = 0.2
"""What is transcribed around speech, for the beginnings of words that are softer than what counts as speech."""
LONGEST_SECONDS = 300.0
"""What is transcribed at a time, as far as it can be cut between segments, so that memory does not grow."""


@dataclass(frozen=True)
class Part:
    """Segments of one speaker that follow each other, and what is read for them: begin and end in seconds."""

    segments: tuple[Segment, ...]
    before: float
    behind: float


def timing_recogniser(name: str, device: str | None = None) -> TimingRecogniser:
    """Load a recogniser that gives the times of words.

    Args:
        name: As `load_recogniser` takes it.
        device: As torch names it; None is a GPU where there is one.

    Raises:
        ValueError: it does not give them, or as `load_recogniser`.
    """
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    recogniser = load_recogniser(name, device, "float16" if device.startswith("cuda") else "float32")
    if not hasattr(recogniser, "words"):
        raise ValueError(
            f"--asr {name}: found a recogniser that gives no times of words. Expected {OPENAI}NAME or {FASTER}NAME "
            "for a time line: name one of these."
        )
    return recogniser


def with_words(
    segments: Sequence[Segment],
    recogniser: TimingRecogniser,
    file: str,
    language: str | None = None,
    channel: str = MIX,
    channels: bool = False,
) -> list[Segment]:
    """Transcribe the speech of a recording; each word is given to the segment of its middle.

    Args:
        segments: Of a time line.
        recogniser: As of `timing_recogniser`.
        file: The recording.
        language: Its code; None is detected, for each stretch of speech anew.
        channel: Of several channels, `mix`, `left` or `right`.
        channels: Whether the speakers are channels.

    Returns:
        The segments in their order; those with speech have a text, which may be empty.
    """
    words: dict[int, list[Word]] = {id(one): [] for one in segments if one.speech}
    for part in parts_of(segments):
        own = part.segments[0].speaker if channels else channel
        samples = read_audio(file, SAMPLING_RATE, part.before, part.behind, own).samples
        for word in recogniser.words(samples, language):
            timed = Word(round(part.before + word.start, 3), round(part.before + word.end, 3), word.text)
            words[id(segment_at((timed.start + timed.end) / 2, part.segments))].append(timed)
    return [with_text(one, words[id(one)]) if one.speech else one for one in segments]


def with_text(segment: Segment, words: list[Word]) -> Segment:
    """A segment with its words."""
    return replace(segment, text="".join(word.text for word in words).strip(), words=words)


def parts_of(segments: Sequence[Segment]) -> list[Part]:
    """The speech of each speaker in parts: cut in pauses, and where a part would be longer than LONGEST_SECONDS."""
    found = []
    for speaker in dict.fromkeys(one.speaker for one in segments):
        run: list[Segment] = []
        before = None
        for one in [*(one for one in segments if one.speech and one.speaker == speaker), None]:
            pause = None if one is None or not run else one.start - run[-1].end
            is_long = pause is not None and one.end - run[0].start > LONGEST_SECONDS
            if run and (pause is None or pause > 2 * MARGIN_SECONDS or is_long):
                is_cut = is_long and pause is not None and pause <= 2 * MARGIN_SECONDS
                behind = run[-1].end + (pause / 2 if is_cut else MARGIN_SECONDS)
                start = max(0.0, run[0].start - MARGIN_SECONDS) if before is None else before
                found.append(Part(tuple(run), start, behind))
                run, before = [], behind if is_cut else None
            if one is not None:
                run.append(one)
    return found


def segment_at(seconds: float, segments: Sequence[Segment]) -> Segment:
    """The segment at a time, or the nearest one."""
    return min(segments, key=lambda one: max(one.start - seconds, seconds - one.end, 0.0))
