"""A time line as it is stored: the segments of a recording and what they were made with."""

from dataclasses import dataclass

from hf_ser.deploy.stream_windows import Segment
from hf_ser.json_record import Record


@dataclass(frozen=True)
class TimelineRecord(Record):
    """The emotions of a recording over its time.

    Args:
        file: The recording.
        seconds: Its length.
        model: Name of the model.
        labels: Its emotions.
        voice_activity: What decided where speech is: `silero`, `energy`, or `rttm` for given turns.
        window_seconds: What was classified at a time, every half of it.
        segments: In order of their beginnings; those of different speakers may overlap.
        threshold: Probability below which a segment is unsure; None where the model has none.
        unlike_share: Of the windows with speech, how many are unlike the training data; None where the model does not
            know.
        transcript_source: Recogniser of the texts and hash of its weights; None where nothing is transcribed.
    """

    WHAT = "a time line of hf_ser"

    file: str
    seconds: float
    model: str
    labels: list[str]
    voice_activity: str
    window_seconds: float
    segments: list[Segment]
    threshold: float | None = None
    unlike_share: float | None = None
    transcript_source: str | None = None

    @property
    def speakers(self) -> list[str | None]:
        """The speakers in order of their first segment."""
        return list(dict.fromkeys(one.speaker for one in self.segments))
