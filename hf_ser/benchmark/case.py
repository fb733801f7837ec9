"""What is measured on: clips with their table, models of transformers and one of ours, at one of several sizes."""

import csv
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import soundfile
import torch
from transformers import (
    AutoConfig,
    AutoFeatureExtractor,
    AutoModelForAudioClassification,
    Wav2Vec2Config,
    Wav2Vec2FeatureExtractor,
    WhisperConfig,
    WhisperFeatureExtractor,
)

from hf_ser.data.corpora import CORPORA
from hf_ser.data.schema import Utterance
from hf_ser.models.decoding import decode_audio
from hf_ser.models.samples import SAMPLING_RATE, resample

LEAST_SPEAKERS = 6
"""For five folds of speakers, each with speakers to test and to validate on."""

RECORDED_RATE = 48_000
"""Of the generated clips, as most corpora are recorded."""

WAV2VEC2 = {
    "tiny": {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 48,
        "conv_dim": (16, 16, 16),
        "conv_kernel": (10, 3, 3),
        "conv_stride": (5, 4, 4),
        "num_conv_pos_embeddings": 16,
        "num_conv_pos_embedding_groups": 4,
    },
    "base": {},
}


@dataclass(frozen=True)
class Size:
    """How much is measured.

    Args:
        clips: Of the corpus; 0: all.
        epochs: Of the plain training that encodes every clip in each.
        steps, batch: Steps of fine-tuning, and clips of each.
        minutes: Of the long recording.
        rows: Of the tables whose preparing shows how time and memory grow.
        width, layers: Of the generated Whisper encoder.
        wav2vec2: One of `WAV2VEC2`.
        asr_clips: Clips that are transcribed, since that takes the longest.
        asr_size: One of `hf_ser.transcripts.random_whisper.SIZES`.
    """

    clips: int
    epochs: int
    steps: int
    batch: int
    minutes: float
    rows: tuple[int, ...]
    width: int
    layers: int
    wav2vec2: str
    asr_clips: int
    asr_size: str


SIZES = {
    "tiny": Size(24, 2, 2, 4, 0.3, (16, 32), 32, 2, "tiny", 3, "mini"),
    "small": Size(48, 2, 2, 4, 20.0, (1000, 10_000), 384, 4, "base", 12, "tiny"),
    "full": Size(0, 10, 4, 8, 120.0, (1000, 10_000, 100_000), 512, 6, "base", 72, "tiny"),
}


@dataclass(frozen=True)
class Case:
    """Files that all ways share; each is made when it is first needed.

    Args:
        size: How much.
        folder: Folder of all files.
        data_dir: Folder of RAVDESS; None: generated clips.
        audio_model: Folder of a Whisper encoder as a classifier of transformers; None: random weights.
        whisper: Folder with `whisper-base.pt` and, for faster-whisper, `ct2-base`; None: random weights.
    """

    size: Size
    folder: Path
    data_dir: Path | None = None
    audio_model: Path | None = None
    whisper: Path | None = None

    @contextmanager
    def new_folder(self) -> Iterator[Path]:
        """A folder that is removed at the end."""
        with TemporaryDirectory(dir=self.folder) as folder:
            yield Path(folder)

    def rows(self) -> list[dict[str, str]]:
        """The rows of the table of clips: `path`, `label`, `speaker`, `transcript`."""
        with open(self.table(), encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))

    def files(self) -> list[str]:
        """Paths of the clips."""
        return [row["path"] for row in self.rows()]

    def labels(self) -> list[str]:
        """The classes, in their order."""
        return sorted({row["label"] for row in self.rows()})

    def table(self) -> Path:
        """A table of clips of the corpus."""
        table = self.folder / "clips.csv"
        if not table.is_file():
            listing = CORPORA["synthetic" if self.data_dir is None else "ravdess"].list_utterances(self.data_dir)
            chosen = chosen_utterances(listing.utterances, self.size.clips)
            write_table(table, [self._row(number, one) for number, one in enumerate(chosen)])
        return table

    def _row(self, number: int, utterance) -> dict[str, str]:
        file = utterance.audio
        if isinstance(file, bytes):
            samples = resample(decode_audio(file), SAMPLING_RATE, RECORDED_RATE)
            file = self.folder / "clips" / f"{number:05d}.wav"
            file.parent.mkdir(exist_ok=True)
            soundfile.write(file, samples, RECORDED_RATE)
        text = {"label": utterance.label, "speaker": utterance.speaker, "transcript": utterance.transcript or ""}
        return {"path": str(Path(file).absolute()), **text}

    def dataset(self) -> Path:
        """The clips as a data set of prepare_data.py."""
        from hf_ser.data.prepare import prepare

        folder = self.folder / "dataset"
        if not folder.is_dir():
            prepare("table", str(self.table()), folder)
        return folder

    def stock(self) -> Path:
        """A Whisper encoder as transformers saves it, with a classifier on it that is not trained."""
        folder = self.folder / "stock"
        if not folder.is_dir():
            names = {"id2label": dict(enumerate(self.labels()))}
            if self.audio_model is not None:
                model = AutoModelForAudioClassification.from_pretrained(self.audio_model, **names)
                extractor = AutoFeatureExtractor.from_pretrained(self.audio_model)
            else:
                torch.manual_seed(0)
                width = self.size.width
                shape = {"d_model": width, "encoder_ffn_dim": 4 * width, "encoder_attention_heads": max(2, width // 64)}
                config = WhisperConfig(encoder_layers=self.size.layers, **shape)
                config.update(names)
                model, extractor = AutoModelForAudioClassification.from_config(config), WhisperFeatureExtractor()
            extractor.save_pretrained(folder)
            model.save_pretrained(folder)
        return folder

    def layers(self) -> str:
        """Layers that are read, as of `--audio_layers`: those of the recommended recipe, if there are so many."""
        highest = AutoConfig.from_pretrained(self.stock()).encoder_layers
        return ",".join(str(layer) for layer in (2, 3, 4) if layer <= highest)

    def recipe(self) -> dict:
        """Settings of the recommended recipe, at one speed."""
        return {
            "audio_model": str(self.stock()),
            "audio_layers": self.layers(),
            "max_seconds": 5.0,
            "head": "ridge",
            "report_to": "none",
        }

    def model(self) -> Path:
        """A model of ours on the same encoder, trained by the recommended recipe on all clips."""
        from hf_ser.api import train

        folder = self.folder / "ours"
        if not folder.is_dir():
            train(str(self.dataset()), fold="final", output_dir=str(folder), **self.recipe())
        return folder / "final"

    def wav2vec2(self) -> Path:
        """A wav2vec2 encoder with random weights."""
        folder = self.folder / "wav2vec2"
        if not folder.is_dir():
            torch.manual_seed(0)
            # Without random masks, which a short clip may be too short for.
            config = Wav2Vec2Config(**WAV2VEC2[self.size.wav2vec2], mask_time_prob=0.0, layerdrop=0.0)
            config.update({"id2label": dict(enumerate(self.labels()))})
            AutoModelForAudioClassification.from_config(config).save_pretrained(folder)
            Wav2Vec2FeatureExtractor().save_pretrained(folder)
        return folder

    def recording(self) -> Path:
        """A long recording: the clips one after another, with pauses of one second."""
        file = self.folder / "recording.flac"
        if not file.is_file():
            clips = [np.append(decode_audio(one), np.zeros(SAMPLING_RATE, np.float32)) for one in self.files()[:240]]
            wanted = int(60 * self.size.minutes * SAMPLING_RATE)
            with soundfile.SoundFile(file, "w", SAMPLING_RATE, 1) as written:
                for clip in cycle(clips):
                    written.write(clip[:wanted])
                    wanted -= len(clip)
                    if wanted <= 0:
                        break
        return file

    def many(self) -> list[Path]:
        """Tables of so many generated clips as `size.rows` says: distinct noise of half a second."""
        tables = [self.folder / f"many_{rows}.csv" for rows in self.size.rows]
        if not tables[-1].is_file():
            rows = [self._noise(number) for number in range(max(self.size.rows))]
            for table, count in zip(tables, self.size.rows, strict=True):
                write_table(table, rows[:count])
        return tables

    def _noise(self, number: int) -> dict[str, str]:
        file = self.folder / "many" / f"{number // 1000:04d}" / f"{number:07d}.wav"
        file.parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(number).normal(0, 3000, SAMPLING_RATE // 2).astype(np.int16)
        soundfile.write(file, noise, SAMPLING_RATE)
        return {"path": str(file), "label": "ab"[number % 2], "speaker": f"s{number % 100}"}

    def checkpoint(self) -> str:
        """A Whisper of openai-whisper: real, or with random weights, which do not transcribe."""
        from hf_ser.transcripts.random_whisper import write_random_whisper

        if self.whisper is not None:
            return str(self.whisper / "whisper-base.pt")
        file = self.folder / f"random-{self.size.asr_size}.pt"
        if not file.is_file():
            write_random_whisper(self.folder, self.size.asr_size)
        return str(file)


def chosen_utterances(utterances: Sequence[Utterance], clips: int) -> list[Utterance]:
    """So many clips of a few speakers, of each all classes, so that folds of speakers can be made; all where 0."""
    if not clips:
        return list(utterances)
    speakers, labels = ({getattr(one, name): None for one in utterances} for name in ("speaker", "label"))
    few = list(speakers)[: max(LEAST_SPEAKERS, clips // len(labels))]
    of_pair, ranked = Counter(), []
    for one in utterances:
        if one.speaker in few:
            ranked.append((of_pair[one.speaker, one.label], one.id, one))
            of_pair[one.speaker, one.label] += 1
    return [one for _, _, one in sorted(ranked, key=lambda each: each[:2])[:clips]]


def write_table(file: Path, rows: list[dict[str, str]]) -> None:
    """Write a CSV."""
    with open(file, "w", newline="", encoding="utf-8") as out:
        writer = csv.DictWriter(out, rows[0])
        writer.writeheader()
        writer.writerows(rows)
