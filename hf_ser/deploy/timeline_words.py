"""A segment of a time line in words."""

from hf_ser.deploy.stream_windows import Segment
from hf_ser.normal_form import printable

NO_SPEECH_LABEL, UNSURE = "no speech", "unsure"


def segment_text(segment: Segment) -> str:
    """A segment in words: `left: angry 83 %, unsure`."""
    if not segment.speech:
        said = NO_SPEECH_LABEL
    else:
        said = f"{segment.emotion} {100 * segment.probability:.0f} %{f', {UNSURE}' * segment.unsure}"
    return printable(f"{segment.speaker}: {said}" if segment.speaker else said)


def clock(seconds: float) -> str:
    """Seconds as `01:02:03.450`."""
    thousandths = round(1000 * seconds)
    hours, rest = divmod(thousandths, 3_600_000)
    minutes, rest = divmod(rest, 60_000)
    return f"{hours:02d}:{minutes:02d}:{rest // 1000:02d}.{rest % 1000:03d}"
