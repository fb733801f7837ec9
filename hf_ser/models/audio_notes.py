"""What a person should know of a clip that was read: one list for data sets, scripts/predict.py and the pipeline."""

import numpy as np

from .samples import PROBLEMS, SAMPLING_RATE, decibels, power_and_mean, trimmed
from .streams import MIX

QUIET_DBFS = -60.0

REMEDIES = {
    "empty": "the file ends before its first sample; copy it anew from where it comes from, or export it again",
    "not_finite": "the program that wrote it failed; export it again, as 16-bit integers say",
    "too_short": "give a longer clip or part, or leave it out",
    "silent": "if there is a voice in it, check which file and which part this is; else leave it out",
    "silent_channel": "choose another channel (left, right or mix), or leave it out",
}
"""What to do about each kind of `audio_problem`."""

NO_SPEECH = "no_speech"

FLOATS = ("FLOAT", "DOUBLE", "FLOAT16", "FLOAT32", "FLOAT64")

FRAME, HOP, SMOOTHED_FRAMES, FRAMES_AT_ONCE = 512, 256, 4, 512
BAND_EDGES_HZ = (
    *(100, 200, 300, 400, 510, 630, 770, 920, 1080, 1270, 1480),
    *(1720, 2000, 2320, 2700, 3150, 3700, 4400, 5300, 6400, 7700),
)
FLOOR_DECIBELS = 40.0
"""Levels so far below a clip's own count as silence."""
MIN_LEVELS = 20
"""0.4 s: a shorter vowel may be as steady as a tone."""

# Measured, as the largest difference of any band: generated white, pink, brown and band noise, tones and hum of 0.5 to
# 8 s at most 9.1 dB. The 1,200 clips of RAVDESS at least 36.6; over the telephone 34.2; as MP3 36.3; in white noise at
# 5 dB 20.5, at 0 dB 15.8, over the telephone 20.1; in pink noise at 5 dB 18.0; their loudest second alone 20.8, half
# second 15.4. Of the loudest seconds in white noise at 5 dB one of 1,200 has 6.3, all others more than 10.
STEADY_DECIBELS = 10.0

# Measured, as the time within 20 dB of the loudest 80 ms: generated clicks and knocks of 5 to 80 ms at most 0.13 s;
# 300 clips of RAVDESS at least 0.61 s, their loudest half second 0.21 s.
LOUD_SHARE, LEAST_LOUD_SECONDS = 100, 0.16
"""Share of the loudest power that counts as loud; a clip in which less time is loud holds no word."""


def problem_message(named: str, kind: str, detail: str, channel: str = MIX) -> str:
    """The refusal of a clip for what `audio_problem` found in it.

    Args:
        named: The file, or how the clip was given.
        kind, detail: As `audio_problem` returns them.
        channel: The requested channel.
    """
    one_channel = kind == "silent" and channel != MIX
    remedy = REMEDIES["silent_channel" if one_channel else kind]
    if one_channel:
        detail += f" in the {channel} channel"
    return (
        f"{named}: {kind.replace('_', ' ')}; expected speech, found {PROBLEMS[kind]} ({detail}). Expected a voice of "
        f"0.1 s or more: {remedy}."
    )


def scale_hint(kind: str, subtype: str, peak: float) -> str:
    """What to add to a silence that may be a voice in another scale; nothing where it is none.

    Args:
        kind: As `audio_problem` returns it.
        subtype, peak: Of the source, as `Audio` has them.
    """
    if kind != "silent":
        return ""
    if subtype == "int32":
        return "; int32 has its full scale at 2147483648: if these are 16-bit samples, give array.astype('int16')"
    if peak > 0 and subtype.upper() in FLOATS:
        unit = "if they have another unit, such as pascal, divide them by their full scale"
        return f"; float samples reach {peak:.2g}, where full scale is 1: {unit}"
    return ""


def source_notes(samples: np.ndarray, audio) -> dict[str, str]:
    """Notes on how a clip was stored, as kind and detail.

    Args:
        samples: The clip.
        audio: An `Audio` of `decoding`, or a clip of a data set: what has its `peak`, `scale`, `channel`,
            `header_note` and `cut_short`.
    """
    notes = {}
    if (level := decibels(power_and_mean(samples)[0])) < QUIET_DBFS:
        notes["quiet"] = f"level {level:.1f} dBFS"
    if audio.cut_short:
        seconds = len(samples) / SAMPLING_RATE
        notes["truncated"] = f"the file ends before its header says; {seconds:.2f} s are there"
    if audio.header_note:
        notes["wrong_header"] = f"{audio.header_note}; {len(samples) / SAMPLING_RATE:.2f} s were read"
    if audio.channel is not None:
        detail = f"the mean of the channels is next to silence, as of one inverted microphone: channel {audio.channel}"
        notes["cancelling_channels"] = f"{detail} alone is kept where it is"
    if audio.scale != 1.0:
        notes["scaled"] = f"float samples reach {audio.peak:g}, not 1: divided by {audio.scale:g}"
    elif audio.peak > 1.0:
        notes["over_full_scale"] = f"float samples reach {audio.peak:.3f}: held at full scale"
    return notes


def mixed(channels_equal: bool, wanted: str, kept: int | None) -> str:
    """What was made of several channels.

    Args:
        channels_equal: Whether all hold the same.
        wanted: `mix`, `left` or `right`.
        kept: The channel that was kept where all together cancel, counted from 1; None where they do not.
    """
    if channels_equal:
        return "all equal"
    if wanted != MIX:
        return f"different, {wanted} kept"
    return "different, averaged" if kept is None else f"different, channel {kept} kept"


def part_note(start_seconds: float | None, end_seconds: float | None, there: float) -> str | None:
    """A note on a part that ends beyond its file; None where it does not.

    Args:
        start_seconds, end_seconds: The requested part; None is the beginning or the end of the file.
        there: Seconds of it that the file has.
    """
    wanted = (end_seconds or 0.0) - (start_seconds or 0.0)
    if wanted - there <= 0.01:
        return None
    return f"the part is {wanted:.2f} s long, and the file ends after {there:.2f} s of it"


def as_text(kind: str, detail: str) -> str:
    """A note of `source_notes` as one text."""
    return f"{kind.replace('_', ' ')}, {detail}"


def no_speech(samples: np.ndarray, rate: int = SAMPLING_RATE) -> str | None:
    """A note on a clip in which nothing varies as a voice does; None of any other.

    In speech at least one band of frequencies is far louder at one time than at another, also in noise and over the
    telephone; steady noise and tones keep their level. A click or a knock is loud for less time than a word. The rules
    are for clips without any voice, and leave doubtful ones alone: tones that come and go, music and other sounds are
    not noticed.

    Shapes:
        samples: `(samples,)`.
    """
    # A steady tone with silence around it is one too.
    levels = band_levels(trimmed(samples, rate), rate)
    power = (10 ** (levels / 10)).sum(1)
    seconds = HOP / rate * float((power > power.max(initial=0.0) / LOUD_SHARE).sum())
    if len(levels) and len(samples) >= MIN_LEVELS * HOP and seconds < LEAST_LOUD_SECONDS:
        return f"no speech found: a short noise such as a click ({seconds:.2f} s are loud)"
    if len(levels) < MIN_LEVELS:
        return None
    quiet, loud = np.percentile(levels, (5, 95), axis=0)
    if (varies := float((loud - quiet).max())) >= STEADY_DECIBELS:
        return None
    return f"no speech found: a steady tone or noise (no band of frequencies varies by more than {varies:.1f} dB)"


def band_levels(samples: np.ndarray, rate: int = SAMPLING_RATE) -> np.ndarray:
    """Levels in dB of bands of a critical band's width (Zwicker 1961), over 80 ms, every 16 ms.

    Shapes:
        samples: `(samples,)`; the result `(frames, bands)`.
    """
    samples = np.asarray(samples, dtype=np.float32)
    edges = np.searchsorted(np.fft.rfftfreq(FRAME, 1 / rate), BAND_EDGES_HZ)
    window, powers = np.hanning(FRAME), []
    for start in range(0, len(samples) - FRAME + 1, HOP * FRAMES_AT_ONCE):
        block = samples[start : start + HOP * (FRAMES_AT_ONCE - 1) + FRAME].astype(np.float64)
        frames = np.lib.stride_tricks.sliding_window_view(block, FRAME)[::HOP]
        spectrum = np.fft.rfft((frames - block.mean()) * window)
        power = np.square(spectrum.real) + np.square(spectrum.imag)
        powers.append(np.add.reduceat(power, edges, axis=1)[:, :-1])
    if sum(map(len, powers)) < SMOOTHED_FRAMES:
        return np.zeros((0, len(edges) - 1))
    summed = np.cumsum(np.concatenate([np.zeros((1, len(edges) - 1)), *powers]), axis=0)
    smooth = (summed[SMOOTHED_FRAMES:] - summed[:-SMOOTHED_FRAMES]) / SMOOTHED_FRAMES
    floor = smooth.sum(axis=1).mean() * 10 ** (-FLOOR_DECIBELS / 10)
    return 10 * np.log10(np.maximum(smooth, 0) + floor + np.finfo(np.float64).tiny)
