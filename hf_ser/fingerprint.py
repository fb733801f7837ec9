"""Which clips are the same recording, re-encoded, cut, filtered or with noise added: constellations of spectral peaks.

A clip is kept as the places in time and frequency where its spectrum is highest among its neighbours. Two clips become
candidates where triangles of three peaks agree in shape and in time, found by an index of all triangles; they are
judged by how many single peaks then lie on one another.

FIGURES

Source: Wang 2003, An Industrial-Strength Audio Search Algorithm, ISMIR (peaks, time-consistent votes). Triangles in
place of pairs of peaks and the count of single peaks as the judgement were chosen here on clips of speech.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from scipy.fft import rfft
from scipy.ndimage import maximum_filter

WINDOW, HOP = 1024, 256
"""Samples at 16 kHz: 64 ms, which sets the harmonics of a low voice apart, every 16 ms."""

LOWEST, HIGHEST = 16, 224
"""Bins of 15.6 Hz, so 250 Hz (hum stays outside) to 3.5 kHz (what a telephone lets through)."""

REACH_FRAMES, REACH_BINS = 4, 6
"""A peak is the highest point within so many frames and bins."""

FLOOR, NOTHING = 1e-5, 1e-10
"""Peaks lie at most 50 dB under the clip's highest one, and 100 dB under what lies outside the band."""

MOST_FRAMES = 2**16
"""Of a clip longer than 17 minutes the first 17 are looked at."""

FOLLOWERS, LONGEST = 6, 31
"""A triangle is a peak and two of its next so many, at most so many frames apart."""

NEIGHBOURS = 64
"""Of a triangle that more clips share, each clip is held against so many of the next: hum does not fill the memory."""

VOTES, MATCHES = 3, 12
"""Triangles that agree on one shift make a candidate; fewer single peaks than this never make a pair."""

THRESHOLD = 0.25
"""Share of the peaks that must lie on one another, of the clip that has fewer in the time both have."""

BLOCK = 1000
"""Clips that are compared with all others at a time."""

PEAK = np.dtype([("frame", "<u2"), ("bin", "u1")])


def fingerprint(samples: np.ndarray) -> bytes:
    """The spectral peaks of a clip, some 90 bytes a second; empty for a clip with nothing in it.

    Shapes:
        samples: `(samples,)`, mono, 16 kHz.
    """
    samples = np.nan_to_num(np.asarray(samples, dtype=np.float32), posinf=0.0, neginf=0.0)
    samples = np.pad(samples[: MOST_FRAMES * HOP], (0, WINDOW))
    frames = np.lib.stride_tricks.sliding_window_view(samples, WINDOW)[:-1:HOP]
    spectrum = rfft(frames * np.hanning(WINDOW).astype(np.float32), axis=1)[:, :HIGHEST]
    power = spectrum.real**2 + spectrum.imag**2
    band = power[:, LOWEST:]
    highest = maximum_filter(band, size=(2 * REACH_FRAMES + 1, 2 * REACH_BINS + 1), mode="constant")
    floor = max(FLOOR * band.max(initial=0), NOTHING * power.max(initial=0))
    frame, bin_ = np.nonzero((band == highest) & (band > floor))
    peaks = np.empty(len(frame), PEAK)
    peaks["frame"], peaks["bin"] = frame, bin_
    return peaks.tobytes()


def similar_pairs(fingerprints: Sequence[bytes], parts: Sequence[int] | None = None) -> list[tuple[int, int, float]]:
    """Pairs of clips that are judged to be one recording, by index, with the share of peaks that agree (0 to 1).

    Args:
        fingerprints: Of `fingerprint`, at most 2**20.
        parts: The part of the split that each clip is in; where given, pairs within a part are left out.

    Raises:
        ValueError: there are too many clips, or `parts` is of another length.
    """
    if len(fingerprints) > 2**20:
        raise ValueError(f"{len(fingerprints)} fingerprints were given, at most {2**20} expected: compare part by part.")
    if parts is not None and len(parts) != len(fingerprints):
        raise ValueError(f"{len(parts)} parts were given for {len(fingerprints)} fingerprints: expected one for each.")
    # Peaks of all clips in one sorted array: clip, frame, bin from the highest bits down.
    peaks = np.frombuffer(b"".join(fingerprints), PEAK)
    counts = np.array([len(each) // PEAK.itemsize for each in fingerprints], dtype=np.int64)
    clip = np.repeat(np.arange(len(counts)), counts)
    peaks = (clip << 24) | (peaks["frame"].astype(np.int64) << 8) | peaks["bin"]
    del clip
    index = _triangles(peaks)
    edges = np.concatenate([[0], np.cumsum(counts)])
    found = []
    for first, second, shift in _candidates(index, None if parts is None else np.asarray(parts)):
        score = _agreement(peaks, edges, first, second, shift)
        same = score >= THRESHOLD
        found += zip(first[same].tolist(), second[same].tolist(), score[same].tolist(), strict=True)
    return sorted(found)


def _triangles(peaks: np.ndarray) -> np.ndarray:
    """All triangles, sorted by shape, then clip: 28 bits of the shape's hash, 20 of the clip, 16 of the first frame."""
    found = []
    for near in range(1, FOLLOWERS):
        for far in range(near + 1, FOLLOWERS + 1):
            a, b, c = peaks[:-far], peaks[near : len(peaks) - far + near], peaks[far:]
            # Clip and frame are one number here: a peak of the next clip is too far away, unless at a clip's very end.
            to_b, to_c = (b >> 8) - (a >> 8), (c >> 8) - (a >> 8)
            kept = np.flatnonzero((to_b > 0) & (to_c <= LONGEST) & (a >> 24 == c >> 24))
            shape = (a[kept] & 255) | (b[kept] & 255) << 8 | (c[kept] & 255) << 16
            shape |= to_b[kept] << 24 | to_c[kept] << 29
            shape = (shape.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(36)
            found.append((shape << np.uint64(36)) | (a[kept] >> 8).astype(np.uint64))
    index = np.concatenate(found) if found else np.empty(0, np.uint64)
    found.clear()
    index.sort()
    return index


def _candidates(index: np.ndarray, parts: np.ndarray | None) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Clips and the frames that the second is behind the first, a block of first clips at a time."""
    clip_bits = np.uint64(2**20 - 1)
    last = int(((index >> np.uint64(16)) & clip_bits).max(initial=0))
    for start in range(0, last + 1, BLOCK):
        clip = (index >> np.uint64(16)) & clip_bits
        mine = np.flatnonzero((clip >= start) & (clip < start + BLOCK))
        del clip
        # Within one shape the clips ascend, so that what follows an entry are the later clips.
        entries = index[mine]
        ends = np.searchsorted(index, entries | np.uint64(2**36 - 1), side="right")
        sizes = np.minimum(ends - mine - 1, NEIGHBOURS)
        steps = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        others = index[np.repeat(mine, sizes) + 1 + steps]
        ours = np.repeat(entries, sizes)
        first, second = (((each >> np.uint64(16)) & clip_bits).astype(np.int64) for each in (ours, others))
        shift = (others & np.uint64(65535)).astype(np.int64) - (ours & np.uint64(65535)).astype(np.int64)
        kept = first != second if parts is None else parts[first] != parts[second]
        votes = (first[kept] - start) << 37 | second[kept] << 17 | (shift[kept] + MOST_FRAMES)
        votes, counts = np.unique(votes, return_counts=True)
        # The frames of two clips are not in step, so that votes fall on two shifts side by side.
        beside = np.flatnonzero(np.diff(votes) == 1)
        total = 2 * counts
        total[beside] += counts[beside + 1]
        total[beside + 1] += counts[beside]
        votes, total = votes[total >= 2 * VOTES], total[total >= 2 * VOTES]
        best = np.lexsort((-total, votes >> 17))
        best = best[np.unique(votes[best] >> 17, return_index=True)[1]]
        votes = votes[best]
        yield (votes >> 37) + start, (votes >> 17) & (2**20 - 1), (votes & (2**17 - 1)) - MOST_FRAMES


def _agreement(peaks, edges, first, second, shift) -> np.ndarray:
    """Share of peaks that lie on one another when the first clip is moved by `shift` frames.

    Shapes:
        peaks: `(peaks,)` sorted; edges: `(clips + 1,)` where each clip's begin; first, second, shift: `(pairs,)`.
    """
    sizes = edges[first + 1] - edges[first]
    owner = np.repeat(np.arange(len(first)), sizes)
    steps = np.arange(len(owner)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    ours = peaks[edges[first][owner] + steps]
    frame = (ours >> 8 & 65535) + shift[owner]
    hit = np.zeros(len(ours), bool)
    for late in (-1, 0, 1):  # the frames of two clips are not in step
        key = second[owner] << 24 | (frame + late) << 8 | (ours & 255)
        place = np.searchsorted(peaks, key)
        hit |= (peaks[np.minimum(place, len(peaks) - 1)] == key) & (frame + late >= 0) & (frame + late < MOST_FRAMES)
    matches = np.bincount(owner[hit], minlength=len(first))
    # Only the time that both clips have counts.
    opening, closing = (peaks[edges[second]] >> 8 & 65535), (peaks[edges[second + 1] - 1] >> 8 & 65535)
    shared = (frame >= opening[owner] - 2) & (frame <= closing[owner] + 1)
    of_first = np.bincount(owner[shared], minlength=len(first))
    begin = np.maximum((peaks[edges[first]] >> 8 & 65535) + shift - 1, 0)
    end = np.clip((peaks[edges[first + 1] - 1] >> 8 & 65535) + shift + 2, 0, MOST_FRAMES - 1)
    of_second = np.searchsorted(peaks, second << 24 | (end << 8) | 255) - np.searchsorted(peaks, second << 24 | begin << 8)
    score = matches / np.maximum(np.minimum(of_first, of_second), 1)
    return np.where(matches >= MATCHES, np.minimum(score, 1.0), 0.0)
