"""A speech emotion model as ONNX behind one call: audio, and text where it is known, to labels with scores.

    from onnx_ser import OnnxSer

    classify = OnnxSer("OUT")
    classify("call.wav", text="where is my parcel")

Works alone beside the `model.onnx` and `onnx_ser.json` that `hf-ser export` writes: neither torch nor hf_ser is needed.
It needs onnxruntime, numpy and soundfile; soxr for audio at another rate than the model's, tokenizers for text.
"""

import json
import sys
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
import onnxruntime
import soundfile

SETTINGS, WEIGHTS, TOKENIZER = "onnx_ser.json", "model.onnx", "tokenizer.json"
FORMAT = 1
CHANNELS = ("mix", "left", "right")
MIN_SECONDS, SILENT_DBFS = 0.1, -90.0
FULL_SCALE = 2**23
"""Samples lie on a 24-bit grid, as in training."""
CANCELLED = 0.01
"""Share of the channels' power under which their mean is no use."""
TRIM_FRAME_SECONDS, TRIM_DB, LEAST_SECONDS = 0.010, 60.0, 0.25


class OnnxSer:
    """A model of audio, or of audio and text, that `hf-ser export` wrote.

    Args:
        folder: The folder of the export; default: that of this file.
        providers: Of onnxruntime, such as `("CUDAExecutionProvider",)`.
        threads: Threads of one answer; None is onnxruntime's choice.

    Attributes:
        labels: Classes, in the order of the model's outputs.
        abstain_threshold: Confidence below which an answer is not to be relied on; None where the model has none.

    Raises:
        FileNotFoundError, ValueError: the folder is no such export, or one of another version.
    """

    def __init__(
        self,
        folder: str | Path | None = None,
        providers: Sequence[str] = ("CPUExecutionProvider",),
        threads: int | None = None,
    ):
        folder = Path(folder) if folder else Path(__file__).parent
        if not (folder / SETTINGS).is_file():
            raise FileNotFoundError(f"{folder}: found no {SETTINGS}, expected a folder that `hf-ser export` wrote.")
        settings = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
        if settings.get("format") != FORMAT:
            raise ValueError(
                f"{folder / SETTINGS}: found format {settings.get('format')}, expected {FORMAT}: use the onnx_ser.py "
                "that was written beside it, or export the model again."
            )
        self.labels, self.modalities, self.rate = (settings[key] for key in ("labels", "modalities", "sampling_rate"))
        self.temperature, self.abstain_threshold = settings["temperature"], settings["abstain_threshold"]
        self.audio, self.text = settings["audio"], settings["text"]
        self.tokenizer = self._load_tokenizer(folder / TOKENIZER) if self.text else None
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        if threads:
            options.intra_op_num_threads = threads
        self.session = onnxruntime.InferenceSession(str(folder / WEIGHTS), options, providers=list(providers))

    def __call__(self, inputs, text=None, channel: str = "mix", batch_size: int = 8) -> list:
        """Classify a clip, or several.

        Args:
            inputs: A path, bytes, a binary file object, samples at the model's rate, or a dictionary of `array` and
                `sampling_rate`; of a model of audio and text also None. Several as a list.
            text: The transcript, where it is known; of several clips a list of texts and None.
            channel: `mix` (the mean of all channels), `left` or `right`.
            batch_size: Clips a run of the model; no effect on the answers beyond rounding.

        Returns:
            A list of `{"label", "score"}` with falling scores; for a list of clips, a list of such lists.

        Raises:
            FileNotFoundError, ValueError: a clip that cannot be read or holds no audio, or texts that do not fit.
        """
        single = not isinstance(inputs, list | tuple)
        items = [inputs] if single else list(inputs)
        texts = [text] if single else ([None] * len(items) if text is None else list(text))
        if len(items) != len(texts) or not all(one is None or isinstance(one, str) for one in texts):
            raise ValueError(
                f"{len(items)} clips, text {text!r}: expected one text a clip, None where it is not known."
            )
        answers = []
        for start in range(0, len(items), batch_size):
            part = slice(start, start + batch_size)
            clips = [None if item is None else self.read(item, channel) for item in items[part]]
            for scores in self.probabilities(clips, texts[part]):
                order = np.argsort(-scores, kind="stable")
                answers.append([{"label": self.labels[i], "score": float(scores[i])} for i in order])
        return answers[0] if single else answers

    def probabilities(self, clips: Sequence[np.ndarray | None], texts: Sequence[str | None]) -> np.ndarray:
        """Calibrated probabilities of a batch.

        Shapes: each clip `(samples,)` at the model's rate; the result `(clips, classes)`.

        Raises:
            ValueError: a row has nothing that the model takes, or the model answers no numbers.
        """
        texts = [(one or "").strip() for one in texts]
        if any(texts) and self.tokenizer is None:
            raise ValueError("Found a text for a model of audio alone: leave out `text`.")
        if any(clip is None and not one for clip, one in zip(clips, texts, strict=True)):
            raise ValueError(f"A row has no {' and no '.join(self.modalities)}: leave it out.")
        inputs = self._waveforms(clips)
        if self.tokenizer is not None:
            inputs |= self._tokens(texts, [clip is not None for clip in clips])
        logits = self.session.run(None, inputs)[0].astype(np.float64)
        if not np.isfinite(logits).all():
            raise ValueError("Found logits that are NaN or infinite, expected numbers: export the model again.")
        powers = np.exp((logits - logits.max(1, keepdims=True)) / self.temperature)
        return powers / powers.sum(1, keepdims=True)

    def read(self, source, channel: str = "mix") -> np.ndarray:
        """Decode one clip as in training.

        Shapes: the result `(samples,)` float32 at the model's rate.

        Raises:
            FileNotFoundError, ValueError: it cannot be read, or holds no audio that a model could judge.
        """
        samples, rate, named = _decoded(source, self.rate)
        samples = _one_channel(samples, rate, channel, named)
        scale = _scale_of(float(np.abs(samples[np.isfinite(samples)]).max(initial=0.0)), named)
        samples = _on_grid(_resampled(samples, rate, self.rate) / np.float32(scale))
        if not self.audio["trim_silence"]:
            samples = samples[: self._longest(max(self.audio["speeds"] or [1.0]))]
        _check_audio(samples, self.rate, named)
        return samples

    def _longest(self, speed: float = 1.0) -> int | None:
        limits = [one for one in (self.audio["max_samples"], self.audio["padded_samples"]) if one]
        return int(min(limits) * speed) if limits else None

    def _waveforms(self, clips: Sequence[np.ndarray | None]) -> dict[str, np.ndarray]:
        """The clips as rows of one array, with their lengths; of several speeds one row a speed."""
        speeds = self.audio["speeds"]
        views = [[self._view(clip, speed) for speed in speeds or [1.0]] for clip in clips]
        longest = max(len(view) for of_clip in views for view in of_clip)
        waveform = np.zeros((len(clips), len(views[0]), self.audio["padded_samples"] or longest), dtype=np.float32)
        samples = np.zeros(waveform.shape[:2], dtype=np.int64)
        for row, of_clip in enumerate(views):
            for column, view in enumerate(of_clip):
                waveform[row, column, : len(view)] = view
                samples[row, column] = 0 if clips[row] is None else len(view)
        if not speeds:
            waveform, samples = waveform[:, 0], samples[:, 0]
        return {"waveform": waveform, "samples": samples}

    def _view(self, clip: np.ndarray | None, speed: float) -> np.ndarray:
        if clip is None:
            return np.zeros(self.audio["min_samples"], dtype=np.float32)
        trims = self.audio["trim_silence"]
        view = _resampled(_trimmed(clip, self.rate) if trims else clip, speed * self.rate, self.rate)[: self._longest()]
        view = np.pad(view, (0, max(0, self.audio["min_samples"] - len(view))))
        return _trimmed(view, self.rate) if trims else view

    def _load_tokenizer(self, file: Path):
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_file(str(file))
        tokenizer.no_padding()
        tokenizer.no_truncation()
        if self.text["max_tokens"]:
            tokenizer.enable_truncation(self.text["max_tokens"])
        return tokenizer

    def _tokens(self, texts: Sequence[str], has_audio: Sequence[bool]) -> dict[str, np.ndarray]:
        """Tokens and their mask; a text of which no word is known counts as missing where there is audio."""
        ids = [self.tokenizer.encode(text).ids if text else [] for text in texts]
        unknown = self.text["unknown_id"]
        ids = [
            [] if audio and all(one == unknown for one in row) else row
            for row, audio in zip(ids, has_audio, strict=True)
        ]
        input_ids = np.full((len(ids), max(1, *map(len, ids))), self.text["pad_id"], dtype=np.int64)
        mask = np.zeros_like(input_ids)
        for row, tokens in enumerate(ids):
            input_ids[row, : len(tokens)] = tokens
            mask[row, : len(tokens)] = 1
        return {"input_ids": input_ids, "text_mask": mask}


def _decoded(source, rate: int) -> tuple[np.ndarray, float, str]:
    """Any form of a clip as `(samples, channels)` float32, with its rate and its name in messages."""
    if isinstance(source, dict):
        if source.get("array") is not None:
            array, given = np.asarray(source["array"]), source.get("sampling_rate")
            if not given:
                raise ValueError("An array was given without sampling_rate: expected samples a second.")
            return _columns(array), float(given), "an array given"
        source = source.get("bytes") or source.get("path")
    if isinstance(source, np.ndarray):
        return _columns(source), float(rate), "an array given"
    named = str(source) if isinstance(source, str | Path) else f"a clip given as {type(source).__name__}"
    if isinstance(source, str | Path) and not Path(source).is_file():
        raise FileNotFoundError(f"{named}: no such file. Expected an audio file (WAV, FLAC, OGG or MP3).")
    try:
        samples, given = soundfile.read(
            BytesIO(source) if isinstance(source, bytes) else source, dtype="float32", always_2d=True
        )
    except (soundfile.SoundFileError, TypeError) as error:
        why = getattr(error, "error_string", error)
        raise ValueError(f"{named}: not readable as audio ({why}). Expected WAV, FLAC, OGG or MP3.") from error
    return samples, float(given), named


def _columns(array: np.ndarray) -> np.ndarray:
    if array.dtype.kind == "f":
        array = array.astype(np.float32)
    elif array.dtype in (np.int8, np.int16, np.int32):
        array = (array.astype(np.float64) / -float(np.iinfo(array.dtype).min)).astype(np.float32)
    else:
        raise ValueError(f"Audio is given as {array.dtype}: expected floats from -1 to 1, or int16 or int32.")
    if array.ndim == 1:
        return array[:, None]
    if array.ndim != 2 or array.shape[1] > array.shape[0]:
        raise ValueError(f"Audio has shape {array.shape}: expected (samples,) or (samples, channels).")
    return array


def _one_channel(samples: np.ndarray, rate: float, channel: str, named: str) -> np.ndarray:
    if channel not in CHANNELS:
        raise ValueError(f"channel is {channel!r}: expected one of {', '.join(CHANNELS)}.")
    count = samples.shape[1]
    if channel != "mix":
        if (column := CHANNELS.index(channel) - 1) >= count:
            raise ValueError(f"{named}: the {channel} channel was requested and it has {count}: ask for left or mix.")
        return samples[:, column]
    mixed = samples[:, 0].copy()
    for other in samples.T[1:]:
        mixed += other
    mixed /= np.float32(count)
    stretch = max(1, round(rate))
    for start in range(0, len(mixed) if count > 1 else 0, stretch):
        part, mean = samples[start : start + stretch].astype(np.float64), mixed[start : start + stretch]
        power = float(np.square(part).mean()) if len(part) else 0.0
        if power > 10 ** (SILENT_DBFS / 10) and float(np.square(mean, dtype=np.float64).mean()) < CANCELLED * power:
            raise ValueError(
                f"{named}: its channels cancel each other from {start / rate:g} s on, as of one inverted microphone. "
                "Expected channels whose mean can be judged: ask for one, channel='left' or 'right'."
            )
    return mixed


def _scale_of(peak: float, named: str) -> float:
    """What floats of this peak are divided by; slight overs are held at full scale."""
    if peak <= 2.0:
        return 1.0
    if peak <= 64.0:
        return peak
    if peak <= 2.0**16:
        return 2.0**15
    raise ValueError(f"{named}: float samples reach {peak:g}: expected -1 to 1; divide them by their full scale.")


def _resampled(samples: np.ndarray, rate: float, new_rate: float) -> np.ndarray:
    if rate == new_rate or not len(samples):
        return samples
    import soxr

    stream = soxr.ResampleStream(rate, new_rate, 1, dtype="float64", quality="VHQ")
    return stream.resample_chunk(np.asarray(samples, dtype=np.float64), last=True).astype(np.float32)


def _on_grid(samples: np.ndarray) -> np.ndarray:
    steps = np.rint(samples * np.float32(FULL_SCALE))
    return (np.clip(steps, -FULL_SCALE, FULL_SCALE - 1) / np.float32(FULL_SCALE)).astype(np.float32)


def _check_audio(samples: np.ndarray, rate: int, named: str) -> None:
    if not np.isfinite(samples).all():
        raise ValueError(f"{named}: not finite; found NaN or infinity, expected numbers: export the recording again.")
    if len(samples) < MIN_SECONDS * rate:
        raise ValueError(f"{named}: too short; {len(samples) / rate:.3f} s, expected {MIN_SECONDS} s or more.")
    wide = samples.astype(np.float64)
    power, floor = float(np.square(wide).mean()), 10 ** (SILENT_DBFS / 10)
    if power < floor or power - float(wide.mean()) ** 2 < floor:
        raise ValueError(f"{named}: silent; expected a voice: check which file this is, or leave it out.")


def _trimmed(clip: np.ndarray, rate: int) -> np.ndarray:
    """Without the silence at both ends; a clip that is silent all over stays as it is."""
    frame, least = round(TRIM_FRAME_SECONDS * rate), int(LEAST_SECONDS * rate)
    if len(clip) <= least:
        return clip
    frames = np.pad(clip, (0, -len(clip) % frame)).reshape(-1, frame)
    energy = np.square(frames, dtype=np.float64).sum(1)
    loud = np.flatnonzero(energy > energy.max() * 10 ** (-TRIM_DB / 10))
    if len(loud) == 0:
        return clip
    stop = min(len(clip), max((loud[-1] + 1) * frame, loud[0] * frame + least))
    return clip[min(loud[0] * frame, stop - least) : stop]


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit("usage: python onnx_ser.py AUDIO [TEXT]")
    print(json.dumps(OnnxSer()(*sys.argv[1:]), indent=2, ensure_ascii=False))
