"""Show and play an augmentation of clips of a data set, before training with it.

python scripts/augment_preview.py --dataset DS --augment pink:0.5@5-20,speed --output_dir preview
python scripts/augment_preview.py --dataset DS --augment noise_folder --noise_dir NOISES --clips 8 --output_dir preview

Writes preview.html (one file that loads nothing from anywhere), and each clip and view as WAV and PNG beside it.
"""

from hf_ser.cli import parse_early, run

import argparse
import base64
import hashlib
import re
from io import BytesIO
from pathlib import Path

from hf_ser.settings import names_in


def command_line() -> tuple[argparse.ArgumentParser, argparse.Namespace]:
    """The parser, and the arguments."""
    names = ", ".join(names_in("augment/specification.py", "CHANGES"))
    parser = argparse.ArgumentParser(
        description=f"{__doc__}\nchanges, in the order in which they are applied: {names}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--dataset", required=True, help="folder written by prepare_data.py or transcribe.py")
    parser.add_argument("--augment", required=True, help="such as pink:0.5@5-20,speed: name:probability@low-high")
    parser.add_argument("--noise_dir", help="folder with the audio files of the change noise_folder")
    parser.add_argument("--clips", type=int, default=4, help="clips shown, of all classes alike; default: %(default)s")
    parser.add_argument("--views", type=int, default=3, help="views of each; default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="of the clips and of all draws")
    parser.add_argument("--output_dir", type=Path, required=True)
    parser.add_argument(
        "--embed_audio", action="store_true", help="put the clips of a table of yours into the page: you may share them"
    )
    return parser, parser.parse_args()


if __name__ == "__main__":
    parse_early(command_line)

import numpy as np
import soundfile as sf
import torch
from datasets import Dataset
from matplotlib.figure import Figure

from hf_ser.augment.augmenter import Augmenter
from hf_ser.checks.stress.run import balanced_sample
from hf_ser.data.audio import encode_flac, on_grid
from hf_ser.data.corpora import CORPORA
from hf_ser.data.prepared import load_prepared
from hf_ser.data.schema import SAMPLING_RATE
from hf_ser.files import atomic_write, package_file
from hf_ser.glyphs import replace_missing_glyphs
from hf_ser.inputs.collate import clips
from hf_ser.markup import page_environment
from hf_ser.models.libraries import audio_transforms
from hf_ser.plotting import BLUE, emotion_colours
from hf_ser.training.arguments import AugmentArguments

PAGE = "preview.html"
TEMPLATE = "augment_preview.html"
SHOWN_DB = 80
MEL = {"n_fft": 512, "win_length": 400, "hop_length": 160, "n_mels": 64}


def main() -> None:
    """Clips, their views, the page."""
    parser, arguments = command_line()
    for name in ("clips", "views"):
        if getattr(arguments, name) < 1:
            parser.error(f"--{name} {getattr(arguments, name)}: expected 1 or more")
    AugmentArguments(arguments.augment, arguments.noise_dir)  # a wrong one is refused before the data is read

    dataset = load_prepared(arguments.dataset)
    with_audio = [row for row, seconds in enumerate(dataset["duration_seconds"][:]) if seconds]
    augmenter = Augmenter(arguments.augment, dataset, with_audio, arguments.noise_dir, arguments.seed)
    rows = dataset.select(balanced_sample(dataset, with_audio, arguments.clips, arguments.seed))
    shown = [shown_clip(row, rows, augmenter, arguments) for row in rows]
    notes = [*augmenter.notices, *(clip["note"] for clip in shown if clip["note"])]
    with atomic_write(arguments.output_dir / PAGE) as file:
        file.write(page(shown, list(dict.fromkeys(notes)), arguments))
    print(*augmenter.notices, f"preview: {arguments.output_dir / PAGE}", sep="\n")


def shown_clip(row: dict, dataset: Dataset, augmenter: Augmenter, arguments: argparse.Namespace) -> dict:
    """Write one clip and its views as files, and return them for the page."""
    original = clips([row])[0]
    views = [("original", original, "")]
    for view in range(arguments.views):
        description = ", ".join(augmenter.describe(row["id"], view)) or "no change is drawn for it"
        views.append((f"epoch {view}", augmenter(original, row["id"], view), description))
    longest, peak = max(len(one) for _, one, _ in views), max(float(np.abs(one).max()) for _, one, _ in views)
    loudest, note = float(log_mel(original).max()), not_embedded(row["corpus"], arguments.embed_audio)
    cells = []
    for title, samples, description in views:
        stem = arguments.output_dir / re.sub(r"\W+", "_", f"{row['id']} {title}")
        picture = draw(samples, longest, peak, loudest)
        with atomic_write(stem.with_suffix(".png"), "wb") as file:
            file.write(picture)
        with atomic_write(stem.with_suffix(".wav"), "wb") as file:
            sf.write(file, samples, SAMPLING_RATE, format="WAV", subtype="PCM_16")
        audio = None if note else data_uri(encode_flac(on_grid(samples)), "audio/flac")
        about = {"title": title, "description": description, "seconds": f"{len(samples) / SAMPLING_RATE:.2f}"}
        cells.append({**about, "picture": data_uri(picture, "image/png"), "audio": audio})
    label = dataset.features["label"].names[row["label"]]
    colour = emotion_colours(dataset.features["label"].names)[label]
    return {"id": row["id"], "label": label, "colour": colour, "views": cells, "note": note}


def not_embedded(corpus: str, allowed: bool) -> str:
    """Why the clips of a corpus are not in the page; empty if they are."""
    shared = CORPORA[corpus].MAY_BE_SHARED if corpus in CORPORA else None
    if shared or (shared is None and allowed):
        return ""
    reason = "only you know whether they may be handed on; if so, add --embed_audio"
    reason = "its licence forbids to hand clips on" if shared is False else reason
    return f"No clips of {corpus} in this page: {reason}. They are WAV files beside it."


def log_mel(samples: np.ndarray) -> np.ndarray:
    """Log-mel power in dB; `(bands, frames)`."""
    power = audio_transforms.MelSpectrogram(SAMPLING_RATE, pad_mode="constant", **MEL)(torch.from_numpy(samples))
    return 10 * np.log10(power.numpy() + 1e-10)


def draw(samples: np.ndarray, longest: int, peak: float, loudest: float) -> bytes:
    """Waveform over spectrogram as a PNG, on axes that all views of a clip share."""
    figure = Figure(figsize=(4.2, 3.0), layout="constrained")
    wave, mel = figure.subplots(2, 1, sharex=True, height_ratios=(1, 1.6))
    seconds = len(samples) / SAMPLING_RATE
    wave.plot(np.arange(len(samples)) / SAMPLING_RATE, samples, linewidth=0.4, color=BLUE)
    wave.set(ylim=(-1.05 * peak, 1.05 * peak), xlim=(0, longest / SAMPLING_RATE), ylabel="amplitude")
    frames = log_mel(samples)
    extent = (0, seconds, 0, len(frames))
    mel.set_facecolor("0.85")  # beyond the end of a shorter view
    mel.imshow(
        frames, origin="lower", aspect="auto", extent=extent, vmin=loudest - SHOWN_DB, vmax=loudest, cmap="magma"
    )
    mel.set(xlabel="seconds", ylabel="mel band", xlim=(0, longest / SAMPLING_RATE))
    for axes in (wave, mel):
        axes.tick_params(labelsize=7)
        axes.xaxis.label.set_size(8)
        axes.yaxis.label.set_size(8)
    buffer = BytesIO()
    replace_missing_glyphs(figure)
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()


def page(shown: list[dict], notes: list[str], arguments: argparse.Namespace) -> str:
    """Render the page."""
    environment = page_environment().overlay()
    environment.filters["sha256"] = lambda style: base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    made = environment.from_string(package_file(f"cards/{TEMPLATE}").read_text(encoding="utf-8"))
    settings = {"spec": arguments.augment, "seed": arguments.seed, "n_views": arguments.views}
    return made.render(clips=shown, notes=notes, **settings)


def data_uri(content: bytes, kind: str) -> str:
    """Data URI of bytes."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


if __name__ == "__main__":
    run(main)
