"""Contents of `transcripts.json`: how a data set was transcribed, and how well."""

from dataclasses import dataclass
from typing import Any, ClassVar

from hf_ser.json_record import Record
from hf_ser.transcripts.wer_figures import WordErrors


@dataclass(frozen=True, kw_only=True)
class WindowEffect(Record):
    """The effect of encoding clips without padding to 30 s.

    Args:
        clips: Clips that were transcribed in both ways.
        same_text: Share of them with the same text.
        suspicious: Clips whose transcript was suspicious, so that they were decoded again in 30 s.
        word_error_rates: Word error rates against each other, and against the corpus's own transcripts.
        seconds: Seconds that each way took.
    """

    clips: int
    same_text: float
    suspicious: int
    word_error_rates: dict[str, float]
    seconds: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class TranscriptionSummary(Record):
    """How a data set was transcribed, and how well.

    Args:
        asr: The recogniser, `<id>@<revision>`.
        options: Its settings for decoding.
        language: Language that was set; `detect`, or None for that of the corpus.
        rows: Clips of the data set.
        transcribed: Clips with a transcript, which may be empty.
        without_sound: Clips without audio.
        without_words: Clips with an empty transcript.
        failed: Why clips could not be transcribed, by id.
        decoded: Clips that were not in the cache.
        decode_seconds, decoded_audio_seconds: Seconds of decoding, and of the audio that was decoded.
        languages: Clips by language.
        temperatures: Clips by the temperature of their transcript.
        suspicious: Clips that were decoded again in 30 s.
        confidence: 5th, 50th and 95th percentile of each measure of confidence.
        word_errors: Word errors against the corpus's own transcripts; None where it has none.
        clips_of_met_speakers: Clips of speakers that the recogniser was trained on.
        word_errors_of_unmet_speakers: Word errors on the other clips; None where they are all clips or none.
        check_window: The effect of encoding clips alone; None where it was not measured.
    """

    WHAT: ClassVar[str] = "a summary of a transcription"
    REMEDY: ClassVar[str] = "Make it again with python scripts/transcribe.py."

    asr: str
    options: dict[str, Any]
    language: str | None
    rows: int
    transcribed: int
    without_sound: int
    without_words: int
    failed: dict[str, str]
    decoded: int
    decode_seconds: float
    decoded_audio_seconds: float
    hardware: str
    languages: dict[str, int]
    temperatures: dict[str, int]
    suspicious: int
    confidence: dict[str, list[float]]
    word_errors: WordErrors | None
    clips_of_met_speakers: int
    word_errors_of_unmet_speakers: WordErrors | None
    check_window: WindowEffect | None
