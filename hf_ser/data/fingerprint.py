"""Which clips are the same recording, re-encoded, cut, filtered or with noise added: constellations of spectral peaks.

A clip is kept as the places in time and frequency where its spectrum is highest among its neighbours. Two clips become
candidates where triangles of three peaks agree in shape and in time, found by an index of all triangles; they are
judged by how many single peaks then lie on one another.

Measured on RAVDESS, 1,200 clips of 3 to 5 s. The constants were chosen on actors 1 to 10; the siblings are of actors 11
to 20, 120 of each kind (tests/real/test_near_duplicates.py prints them all):

- Found: 99.7 % of 2,400. All of MP3 and Vorbis at the lowest rate, mu-law telephone, resampling, 8 bits, gain,
  clipping, either end cut off, zeros before, white noise at 20 and 10 dB, babble at 10 dB, reverberation, high- and
  low-pass; 95 % with white noise at 5 dB and 99 % of cut, noise at 15 dB, gain and MP3 together.
- Taken for a pair by mistake: none of 719,399 pairs of clips, among them 599 where an actor says a sentence a second
  time in the same emotion, and none of 3,740,880 pairs of a changed clip and an unrelated one. Not wholly unseen: the
  triangles, `MATCHES` and `EVIDENCE` were settled after looking at false pairs among these and in the generated corpus.
- Half a second of speech alone is found in 98 %; shorter was not measured, nor two siblings that are both changed.
- Not found: another speed (0 % at 0.9 and 1.1) or pitch (0 % at a semitone). Often missed: what holds little but
  silence (47 % found where the middle third, most of the speech, was cut out).
- Of 780 pairs of generated calls of 4 to 60 s: none with hiss of their own at -60 to -10 dB, the same hum, the same
  DTMF digits, beeps or ring tone, through a telephone or not, or with the same music 10 dB below the voice.
- Clips that truly share a sound, such as one recording of noise mixed into both, are pairs as well: of the same calls
  487 pairs with the same music as loud as the voice, 79 where all begin with the same 15 s of music, 23 with one
  announcement of 4 s. A stretch that two clips share is not told from a copy; a person clears such pairs by name.
- 4 ms for a clip of 4 s on one core. 100,000 clips (real peaks, stretched and moved at random) take `similar_pairs`
  181 s of processor time and 1.5 GB, 1,200 clips 0.3 s.

Source: Wang 2003, An Industrial-Strength Audio Search Algorithm, ISMIR (peaks, an index of their constellations,
time-consistent votes). Triangles in place of pairs, and the count of single peaks as judge, were chosen here on speech.
"""

from collections.abc import Sequence

import numpy as np
from scipy.fft import rfft
from scipy.ndimage import maximum_filter
from tqdm import tqdm

WINDOW, HOP = 1024, 256
"""Samples at 16 kHz: 64 ms, which sets the harmonics of a low voice apart, every 16 ms."""

HANN = np.hanning(WINDOW).astype(np.float32)

LOWEST, HIGHEST = 16, 224
"""Bins of 15.6 Hz, so 250 Hz (hum stays outside) to 3.5 kHz (what a telephone lets through)."""

REACH_FRAMES, REACH_BINS = 4, 6
"""A peak is the highest point within so many frames and bins on each side."""

FLOOR, NOTHING = 1e-5, 1e-10
"""Peaks lie at most 50 dB under the highest of the clip, and 100 dB under the highest of all frequencies."""

MOST_FRAMES = 2**16
"""Of a clip longer than 17 minutes the first 17 are looked at."""

PEAK = np.dtype([("frame", "<u2"), ("bin", "u1")])

MOST_CLIPS = 2**20

FOLLOWERS, LONGEST = 5, 31
"""A triangle is a peak and two of its next so many, at most so many frames apart."""

NEIGHBOURS = 64
"""Of the clips that share a triangle, each is held against so many of the next: hum cannot fill the memory, and of a
hundred copies each is still tied to others."""

VOTES, MATCHES = 2, 16
"""Triangles that agree on one shift make a candidate; fewer single peaks than this never make a pair."""

EVIDENCE = 3.3
"""Matching peaks over the square root of those that could match: of few peaks, more must lie on one another, for by
chance their share wanders further. It binds below 175 peaks, some five seconds of speech; without it nine pairs of the
generated corpus, whose clips last about a second, were taken for siblings."""

THRESHOLD = 0.25
"""Share of peaks that must lie on one another, of the clip that has fewer of them in the time both have.

Chosen on actors 1 to 10 of RAVDESS: of unrelated clips with as many `MATCHES` the highest pair has 0.23 (with one match
fewer 0.28), the lowest sibling of those that candidates were found for, with white noise at 5 dB, 0.31.
"""

BLOCK, SCANNED = 1000, 2**22
"""Clips held against all others at a time, and entries of the index read at a time: both only bound the memory."""


def fingerprint(samples: np.ndarray) -> bytes:
    """The spectral peaks of a clip, some 95 bytes a second of speech; empty for a clip with nothing in it.

    Shapes:
        samples: `(samples,)`, mono, 16 kHz.
    """
    samples = np.asarray(samples[: MOST_FRAMES * HOP], dtype=np.float32)
    samples = np.pad(np.nan_to_num(samples, posinf=0.0, neginf=0.0), (0, WINDOW))
    frames = np.lib.stride_tricks.sliding_window_view(samples, WINDOW)[:-1:HOP]
    power = np.empty((len(frames), HIGHEST), dtype=np.float32)
    for start in range(0, len(frames), 64):  # a second at a time: short arrays stay in the processor's cache
        spectrum = rfft(frames[start : start + 64] * HANN, axis=1)[:, :HIGHEST]
        power[start : start + 64] = spectrum.real**2 + spectrum.imag**2
    band = power[:, LOWEST:]
    highest = maximum_filter(band, size=(2 * REACH_FRAMES + 1, 2 * REACH_BINS + 1), mode="constant")
    floor = max(FLOOR * band.max(initial=0), NOTHING * power.max(initial=0))
    places = np.flatnonzero((band == highest) & (band > floor))
    peaks = np.empty(len(places), PEAK)
    peaks["frame"], peaks["bin"] = np.divmod(places, HIGHEST - LOWEST)
    return peaks.tobytes()


def similar_pairs(fingerprints: Sequence[bytes], parts: Sequence[int] | None = None) -> list[tuple[int, int, float]]:
    """Pairs of clips that are judged to be one recording, in order, with the share of peaks that agree (0 to 1).

    Args:
        fingerprints: Of `fingerprint`, at most 2**20 of them.
        parts: Number of the part of the split that each clip is in; pairs within a part are then left out.

    Raises:
        ValueError: there are too many clips, or `parts` is of another length.
    """
    if len(fingerprints) > MOST_CLIPS:
        raise ValueError(f"{len(fingerprints)} fingerprints, at most {MOST_CLIPS} expected: compare fewer at a time.")
    if parts is not None and len(parts) != len(fingerprints):
        raise ValueError(f"{len(parts)} parts for {len(fingerprints)} fingerprints: expected one part for each clip.")
    peaks, edges = _joined(fingerprints)
    index = _triangles(peaks)
    found = []
    few = len(fingerprints) <= 10 * BLOCK  # a matter of seconds
    bar = tqdm(total=len(fingerprints), unit=" clips", desc="comparing", disable=True if few else None)
    for start in range(0, len(fingerprints), BLOCK):
        first, second, shift = _collisions(index, start)
        if parts is not None:
            across = np.asarray(parts)[first] != np.asarray(parts)[second]
            first, second, shift = first[across], second[across], shift[across]
        first, second, shift = _most_voted(first, second, shift)
        score = _agreement(peaks, edges, first, second, shift)
        same = score >= THRESHOLD
        found += zip(first[same].tolist(), second[same].tolist(), score[same].tolist(), strict=True)
        bar.update(min(BLOCK, len(fingerprints) - start))
    bar.close()
    return sorted(found)


def _joined(fingerprints: Sequence[bytes]) -> tuple[np.ndarray, np.ndarray]:
    """Peaks of all clips as ascending integers (clip, 16 bits of frame, 8 of bin), and where each clip's begin."""
    peaks = np.frombuffer(b"".join(fingerprints), PEAK)
    counts = np.array([len(each) // PEAK.itemsize for each in fingerprints], dtype=np.int64)
    clip = np.repeat(np.arange(len(counts)), counts)
    return clip << 24 | peaks["frame"].astype(np.int64) << 8 | peaks["bin"], np.append(0, np.cumsum(counts))


def _triangles(peaks: np.ndarray) -> np.ndarray:
    """All triangles in order: 28 bits that hash the shape, 20 of the clip, 16 of the first peak's frame.

    Three peaks of one frame are none: a burst of speech has them in every clip.
    """
    # Room for the most there can be; what is not filled takes no memory.
    index, size = np.empty(len(peaks) * FOLLOWERS * (FOLLOWERS - 1) // 2, np.uint64), 0
    for far in range(2, FOLLOWERS + 1):
        for near in range(1, far):
            a, b, c = peaks[:-far], peaks[near : near - far], peaks[far:]
            to_b, to_c = (b >> 8) - (a >> 8), (c >> 8) - (a >> 8)
            kept = np.flatnonzero((to_c > 0) & (to_c <= LONGEST) & (a >> 24 == c >> 24))
            shape = (a[kept] & 255) | (b[kept] & 255) << 8 | (c[kept] & 255) << 16 | to_b[kept] << 24 | to_c[kept] << 29
            # The golden ratio's multiple spreads the 34 bits of the shape over the highest 28.
            shape = shape.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) & ~np.uint64(2**36 - 1)
            index[size : size + len(kept)] = shape | (a[kept] >> 8).astype(np.uint64)
            size += len(kept)
    index = index[:size]
    index.sort()
    return index


def _clip_of(entries: np.ndarray) -> np.ndarray:
    return (entries >> np.uint64(16) & np.uint64(MOST_CLIPS - 1)).astype(np.int64)


def _collisions(index: np.ndarray, start: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where a clip of the block from `start` shares a triangle with a later clip: both, and the frames between."""
    scanned = ((at, _clip_of(index[at : at + SCANNED])) for at in range(0, len(index), SCANNED))
    mine = [at + np.flatnonzero((clip >= start) & (clip < start + BLOCK)) for at, clip in scanned]
    mine = np.concatenate([np.empty(0, np.int64), *mine])
    # Within one shape the clips ascend: what follows an entry, up to the end of its shape, are the later clips.
    ends = np.searchsorted(index, index[mine] | np.uint64(2**36 - 1), side="right")
    of, places = _runs(mine + 1, np.minimum(ends - mine - 1, NEIGHBOURS))
    ours, others = index[mine[of]], index[places]
    first, second = _clip_of(ours), _clip_of(others)
    shift = (others & np.uint64(65535)).astype(np.int64) - (ours & np.uint64(65535)).astype(np.int64)
    return first[first != second], second[first != second], shift[first != second]


def _runs(begins: np.ndarray, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of the runs `begins[i]`, `begins[i] + 1`, ... of given sizes, one after another, and whose each is."""
    of = np.repeat(np.arange(len(begins)), sizes)
    return of, np.arange(len(of)) - (np.cumsum(sizes) - sizes - begins)[of]


def _most_voted(first, second, shift) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each pair of clips the shift with the most votes, where those are enough."""
    first_shift, second_shift = 20 + 17, 17  # bits
    votes = first << first_shift | second << second_shift | (shift + MOST_FRAMES)
    votes, counts = np.unique(votes, return_counts=True)
    # The frames of two clips are not in step, so that votes fall on two shifts side by side.
    beside = np.flatnonzero(np.diff(votes) == 1)
    total = 2 * counts
    total[beside] += counts[beside + 1]
    total[beside + 1] += counts[beside]
    votes, total = votes[total >= 2 * VOTES], total[total >= 2 * VOTES]
    order = np.lexsort((-total, votes >> second_shift))
    best = order[np.unique(votes[order] >> second_shift, return_index=True)[1]]
    votes = votes[best]
    return votes >> first_shift, votes >> second_shift & (MOST_CLIPS - 1), (votes & (2**17 - 1)) - MOST_FRAMES


def _agreement(peaks, edges, first, second, shift) -> np.ndarray:
    """Share of peaks that lie on one another when the first clip is moved by `shift` frames; 0 where they are few.

    Only what both clips cover counts: a peak that the move takes out of the second clip lies on none of its peaks.

    Shapes:
        peaks: `(peaks,)`; edges: `(clips + 1,)`; first, second, shift and what is returned: `(pairs,)`.
    """
    of, places = _runs(edges[first], edges[first + 1] - edges[first])
    frame = (peaks[places] >> 8 & 65535) + shift[of]
    matches = _matches(peaks, of, frame, peaks[places] & 255, second)

    def opening_and_closing(clip):
        return peaks[edges[clip]] >> 8 & 65535, peaks[edges[clip + 1] - 1] >> 8 & 65535

    (first_opens, first_closes), (opens, closes) = opening_and_closing(first), opening_and_closing(second)
    shared = (frame >= opens[of] - 1) & (frame <= closes[of] + 1)
    begin, end = np.clip((first_opens + shift - 1, first_closes + shift + 2), 0, MOST_FRAMES)
    of_second = np.searchsorted(peaks, (second << 24) + (end << 8)) - np.searchsorted(
        peaks, (second << 24) + (begin << 8)
    )
    fewer = np.maximum(np.minimum(np.bincount(of[shared], minlength=len(first)), of_second), 1)
    enough = (matches >= MATCHES) & (matches >= EVIDENCE * np.sqrt(fewer))
    return np.where(enough, matches / fewer, 0.0)


def _matches(peaks, of, frame, bin_, second) -> np.ndarray:
    """Number of peaks of each pair that lie on one another, at most a frame apart.

    A peak counts once: where several of one clip lie on one of the other, as along a steady tone, that is one match.

    Shapes:
        of, frame, bin_: `(peaks of the first clips,)`, whose pair each is of and where it was moved to; second and what
        is returned: `(pairs,)`.
    """
    hit, met = np.zeros(len(of), bool), []
    for late in (-1, 0, 1):
        at = frame + late
        # Frames outside of what a clip can have: as keys they would name peaks of its first or last frame, or of
        # another clip.
        inside = np.flatnonzero((at >= 0) & (at < MOST_FRAMES))
        sought = second[of[inside]] << 24 | at[inside] << 8 | bin_[inside]
        places = np.minimum(np.searchsorted(peaks, sought), len(peaks) - 1)
        found = peaks[places] == sought
        hit[inside[found]] = True
        met.append(of[inside[found]] * len(peaks) + places[found])
    ours = np.bincount(of[hit], minlength=len(second))
    theirs = np.bincount(np.unique(np.concatenate(met)) // max(len(peaks), 1), minlength=len(second))
    return np.minimum(ours, theirs)
