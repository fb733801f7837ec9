"""Find copies of a recording, also re-encoded, cut, filtered or with noise, by constellations of spectral peaks.

A fingerprint is the list of local maxima of the spectrogram. Two clips are candidates if triangles of three peaks agree
in shape and time shift, found by an index of all triangles. The score is the share of single peaks that then coincide.

The constants were chosen on RAVDESS actors 1 to 10. scripts/recipes/README.md has what is found and missed. Clips that
share a passage, such as one recording of music, are pairs as well; a person clears such pairs by name.

Source: Wang 2003, An Industrial-Strength Audio Search Algorithm, ISMIR (peaks, an index of their constellations,
time-consistent votes). Triangles in place of pairs, and the score by single peaks, were chosen here on speech.
"""

from collections.abc import Sequence

import numpy as np
from scipy.fft import rfft
from tqdm import tqdm

WINDOW, HOP = 1024, 256
"""Samples at 16 kHz: 64 ms, which resolves the harmonics of a low voice, and 16 ms."""

HANN = np.hanning(WINDOW).astype(np.float32)

LOWEST, HIGHEST = 16, 224
"""Bins of 15.6 Hz: 250 Hz (above hum) to 3.5 kHz (telephone band)."""

REACH_FRAMES, REACH_BINS = 4, 6
"""A peak is the maximum within so many frames and bins on each side."""

FLOOR, SILENCE_FLOOR = 1e-5, 1e-10
"""Peaks are at most 50 dB below the highest in the band, and 100 dB below the highest of all frequencies."""

MAX_FRAMES = 2**16
"""Only the first 17 minutes of a clip are used."""

PEAK = np.dtype([("frame", "<u2"), ("bin", "u1")])

MAX_CLIPS = 2**20

FOLLOWERS, MAX_SPAN = 5, 31
"""A triangle is a peak and two of its next 5, at most 31 frames apart."""

MAX_COLLISIONS = 64
"""Each clip is compared with so many of the next that share a triangle, which bounds the memory for hum; of a hundred
copies each is still paired with others."""

VOTES, MATCHES = 2, 16
"""Least triangles that agree on one shift, and least coinciding peaks."""

EVIDENCE = 3.3
"""Least ratio of coinciding peaks to the square root of those that could coincide, since the share of few peaks varies
more by chance. It matters below 175 peaks, about five seconds of speech."""

THRESHOLD = 0.25
"""Least share of coinciding peaks, of the clip with fewer peaks in the common time.

On actors 1 to 10 of RAVDESS unrelated clips reach 0.23, and copies are above 0.31.
"""

BLOCK_CLIPS, SCANNED_ENTRIES = 1000, 2**22
"""Clips compared at a time, and entries of the index read at a time; both only bound the memory."""


def fingerprint(samples: np.ndarray) -> bytes:
    """Spectral peaks of a clip, about 95 bytes a second of speech; empty for silence.

    Shapes:
        samples: `(samples,)`, mono, 16 kHz.
    """
    samples = np.asarray(samples[: MAX_FRAMES * HOP], dtype=np.float32)
    samples = np.pad(np.nan_to_num(samples, posinf=0.0, neginf=0.0), (0, WINDOW))
    frames = np.lib.stride_tricks.sliding_window_view(samples, WINDOW)[:-1:HOP]
    power = np.empty((len(frames), HIGHEST), dtype=np.float32)
    for start in range(0, len(frames), 64):  # a second at a time fits into the processor's cache
        spectrum = rfft(frames[start : start + 64] * HANN, axis=1)[:, :HIGHEST]
        power[start : start + 64] = spectrum.real**2 + spectrum.imag**2
    band = power[:, LOWEST:]
    highest = _highest_around(_highest_around(band, REACH_FRAMES), REACH_BINS, axis=1)
    floor = max(FLOOR * band.max(initial=0), SILENCE_FLOOR * power.max(initial=0))
    places = np.flatnonzero((band == highest) & (band > floor))
    peaks = np.empty(len(places), PEAK)
    peaks["frame"], peaks["bin"] = np.divmod(places, HIGHEST - LOWEST)
    return peaks.tobytes()


def _highest_around(values: np.ndarray, reach: int, axis: int = 0) -> np.ndarray:
    """The highest value up to `reach` places away along an axis, 0 outside; four times as fast as scipy's filter.

    The maxima of windows are made of those of windows half as wide.

    Shapes:
        `(frames, bins)`, not negative, in and out.
    """
    windows = np.pad(values, [(reach, reach) if one == axis else (0, 0) for one in range(values.ndim)])
    windows, width, size = np.moveaxis(windows, axis, 0), 1, 2 * reach + 1
    while width < size:
        step = min(width, size - width)
        windows, width = np.maximum(windows[:-step], windows[step:]), width + step
    return np.moveaxis(windows, 0, axis)


def similar_pairs(fingerprints: Sequence[bytes], parts: Sequence[int] | None = None) -> list[tuple[int, int, float]]:
    """Sorted pairs of clips of one recording, with the share of peaks that agree (0 to 1).

    Args:
        fingerprints: From `fingerprint`, at most 2**20.
        parts: Part of the split of each clip; pairs within a part are left out.

    Raises:
        ValueError: too many clips, or `parts` of another length.
    """
    if len(fingerprints) > MAX_CLIPS:
        raise ValueError(f"{len(fingerprints)} fingerprints, at most {MAX_CLIPS} expected: compare fewer at a time.")
    if parts is not None and len(parts) != len(fingerprints):
        raise ValueError(f"{len(parts)} parts for {len(fingerprints)} fingerprints: expected one part for each clip.")
    peaks, edges = _joined(fingerprints)
    index = _triangles(peaks)
    found = []
    few = len(fingerprints) <= 10 * BLOCK_CLIPS  # takes seconds
    bar = tqdm(total=len(fingerprints), unit=" clips", desc="comparing", disable=True if few else None)
    for start in range(0, len(fingerprints), BLOCK_CLIPS):
        first, second, shift = _collisions(index, start)
        if parts is not None:
            across = np.asarray(parts)[first] != np.asarray(parts)[second]
            first, second, shift = first[across], second[across], shift[across]
        first, second, shift = _most_voted(first, second, shift)
        score = _agreement(peaks, edges, first, second, shift)
        same = score >= THRESHOLD
        found += zip(first[same].tolist(), second[same].tolist(), score[same].tolist(), strict=True)
        bar.update(min(BLOCK_CLIPS, len(fingerprints) - start))
    bar.close()
    return sorted(found)


def _joined(fingerprints: Sequence[bytes]) -> tuple[np.ndarray, np.ndarray]:
    """Peaks of all clips as ascending integers (clip, 16 bits of frame, 8 of bin), and the first index of each clip."""
    peaks = np.frombuffer(b"".join(fingerprints), PEAK)
    counts = np.array([len(each) // PEAK.itemsize for each in fingerprints], dtype=np.int64)
    clip = np.repeat(np.arange(len(counts)), counts)
    return clip << 24 | peaks["frame"].astype(np.int64) << 8 | peaks["bin"], np.append(0, np.cumsum(counts))


def _triangles(peaks: np.ndarray) -> np.ndarray:
    """Sorted triangles: 28 bits of a hash of the shape, 20 of the clip, 16 of the first peak's frame.

    Three peaks of one frame are not used, since every clip has them.
    """
    # Space for all possible triangles; unused pages take no memory.
    index, size = np.empty(len(peaks) * FOLLOWERS * (FOLLOWERS - 1) // 2, np.uint64), 0
    for far in range(2, FOLLOWERS + 1):
        for near in range(1, far):
            a, b, c = peaks[:-far], peaks[near : near - far], peaks[far:]
            to_b, to_c = (b >> 8) - (a >> 8), (c >> 8) - (a >> 8)
            kept = np.flatnonzero((to_c > 0) & (to_c <= MAX_SPAN) & (a >> 24 == c >> 24))
            shape = (a[kept] & 255) | (b[kept] & 255) << 8 | (c[kept] & 255) << 16 | to_b[kept] << 24 | to_c[kept] << 29
            # Multiplication by the golden ratio hashes the 34 bits of the shape into the highest 28.
            shape = shape.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) & ~np.uint64(2**36 - 1)
            index[size : size + len(kept)] = shape | (a[kept] >> 8).astype(np.uint64)
            size += len(kept)
    index = index[:size]
    index.sort()
    return index


def _clip_of(entries: np.ndarray) -> np.ndarray:
    return (entries >> np.uint64(16) & np.uint64(MAX_CLIPS - 1)).astype(np.int64)


def _collisions(index: np.ndarray, start: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pairs of a clip of the block from `start` and a later clip that share a triangle, with their shift in frames."""
    scanned = ((at, _clip_of(index[at : at + SCANNED_ENTRIES])) for at in range(0, len(index), SCANNED_ENTRIES))
    mine = [at + np.flatnonzero((clip >= start) & (clip < start + BLOCK_CLIPS)) for at, clip in scanned]
    mine = np.concatenate([np.empty(0, np.int64), *mine])
    # Clips ascend within one shape, so the entries after one, up to the end of its shape, are of later clips.
    ends = np.searchsorted(index, index[mine] | np.uint64(2**36 - 1), side="right")
    of, places = _runs(mine + 1, np.minimum(ends - mine - 1, MAX_COLLISIONS))
    ours, others = index[mine[of]], index[places]
    first, second = _clip_of(ours), _clip_of(others)
    shift = (others & np.uint64(65535)).astype(np.int64) - (ours & np.uint64(65535)).astype(np.int64)
    return first[first != second], second[first != second], shift[first != second]


def _runs(begins: np.ndarray, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Index `i` and value of each element of the concatenated ranges from `begins[i]`, of length `sizes[i]`."""
    of = np.repeat(np.arange(len(begins)), sizes)
    return of, np.arange(len(of)) - (np.cumsum(sizes) - sizes - begins)[of]


def _most_voted(first, second, shift) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Shift with the most votes of each pair of clips that has enough votes."""
    first_shift, second_shift = 20 + 17, 17  # bits
    votes = first << first_shift | second << second_shift | (shift + MAX_FRAMES)
    votes, counts = np.unique(votes, return_counts=True)
    # Frames of two clips are not aligned, so votes are split between two neighbouring shifts.
    neighbours = np.flatnonzero(np.diff(votes) == 1)
    total = 2 * counts
    total[neighbours] += counts[neighbours + 1]
    total[neighbours + 1] += counts[neighbours]
    votes, total = votes[total >= 2 * VOTES], total[total >= 2 * VOTES]
    order = np.lexsort((-total, votes >> second_shift))
    best = order[np.unique(votes[order] >> second_shift, return_index=True)[1]]
    votes = votes[best]
    return votes >> first_shift, votes >> second_shift & (MAX_CLIPS - 1), (votes & (2**17 - 1)) - MAX_FRAMES


def _agreement(peaks, edges, first, second, shift) -> np.ndarray:
    """Share of coinciding peaks when the first clip is moved by `shift` frames; 0 if they are few.

    Only the time that both clips share counts.

    Shapes:
        peaks: `(peaks,)`; edges: `(clips + 1,)`; first, second, shift and the result: `(pairs,)`.
    """
    of, places = _runs(edges[first], edges[first + 1] - edges[first])
    frame = (peaks[places] >> 8 & 65535) + shift[of]
    matches = _matches(peaks, of, frame, peaks[places] & 255, second)

    def opening_and_closing(clip):
        return peaks[edges[clip]] >> 8 & 65535, peaks[edges[clip + 1] - 1] >> 8 & 65535

    (first_opens, first_closes), (opens, closes) = opening_and_closing(first), opening_and_closing(second)
    shared = (frame >= opens[of] - 1) & (frame <= closes[of] + 1)
    begin, end = np.clip((first_opens + shift - 1, first_closes + shift + 2), 0, MAX_FRAMES)
    of_second = np.searchsorted(peaks, (second << 24) + (end << 8)) - np.searchsorted(
        peaks, (second << 24) + (begin << 8)
    )
    fewer = np.maximum(np.minimum(np.bincount(of[shared], minlength=len(first)), of_second), 1)
    enough = (matches >= MATCHES) & (matches >= EVIDENCE * np.sqrt(fewer))
    return np.where(enough, matches / fewer, 0.0)


def _matches(peaks, of, frame, bin_, second) -> np.ndarray:
    """Number of coinciding peaks of each pair, at most a frame apart.

    Several peaks of one clip that coincide with one of the other, such as a steady tone, count once.

    Shapes:
        of, frame, bin_: `(peaks of the first clips,)`, the pair and moved position of each; second and the
        result: `(pairs,)`.
    """
    hit, met = np.zeros(len(of), bool), []
    for late in (-1, 0, 1):
        at = frame + late
        # Other frames would be keys of peaks of another frame or clip.
        inside = np.flatnonzero((at >= 0) & (at < MAX_FRAMES))
        sought = second[of[inside]] << 24 | at[inside] << 8 | bin_[inside]
        places = np.minimum(np.searchsorted(peaks, sought), len(peaks) - 1)
        found = peaks[places] == sought
        hit[inside[found]] = True
        met.append(of[inside[found]] * len(peaks) + places[found])
    ours = np.bincount(of[hit], minlength=len(second))
    theirs = np.bincount(np.unique(np.concatenate(met)) // max(len(peaks), 1), minlength=len(second))
    return np.minimum(ours, theirs)
