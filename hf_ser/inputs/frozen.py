"""Frozen features: the outputs of the frozen parts of a model, computed once, kept on disk and read in training.

    CACHE/frozen/DIGEST/    the features of one encoder under one setting (`hf_ser.inputs.feature_store`)

`hf_ser.training.frozen_pass` computes what is missing, in one pass before the training.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import transformers
from torch import nn

from hf_ser.inputs.feature_store import FeatureStore
from hf_ser.models.modeling_ser import is_frozen
from hf_ser.stable import text_digest

CACHED = "3"
"""Version of what is stored. Raise it when the frozen parts come to put out something else, or statistics are fitted
otherwise (they are known by the clips that they are fitted to): all is computed again."""

VOLATILE = ("_name_or_path", "transformers_version", "id2label", "label2id", "custom_pipelines", "dtype")
"""Settings of a configuration that do not decide the features."""

FITTED = ("corpus_mean", "corpus_deviation", "speaker_mean", "speaker_variance")
"""Buffers of a front end that are fitted anew at each start, and may then differ in their last bit."""

KEY_COLUMNS = ("id", "pcm_sha256", "transcript", "duration_seconds")
"""Columns of a data set from which the keys of its rows are made; reading them decodes no audio."""


@dataclass
class FrozenFeatures:
    """The frozen features of rows. Loader workers get its stores, not the model.

    Attributes:
        stores: By modality, of those whose features are kept.
        fused: Whether the model reads audio and text.
        views: Number of augmented views of a clip that the rows' `view` tells apart.
        changes: Digests of what changes the clips, which take turns from view to view.
    """

    stores: dict[str, FeatureStore]
    fused: bool = False
    views: int = 0
    changes: tuple[str, ...] = ()

    def key(self, modality: str, row: Mapping[str, Any]) -> str | None:
        """The key of a row's features; None where the row lacks the modality.

        Raises:
            ValueError: the row has audio, and no digest of it.
        """
        has_audio = row["duration_seconds"] is not None
        if modality == "text":
            text = (row["transcript"] or "").strip()
            if not self.fused:  # an empty text is read as an unknown word
                return text_digest(text)
            # Unknown words are no text beside audio, and all that there is without.
            return text_digest(text) + "#alone" * (not has_audio) if text else None
        if not has_audio:
            return None
        if not row.get("pcm_sha256"):
            raise ValueError(
                f"{row['id']}: found no digest of its audio (column pcm_sha256), by which features are kept. "
                "Expected a data set that prepare_data.py wrote: prepare it again."
            )
        parts = [row["pcm_sha256"]]
        if self.views and row.get("view") is not None:
            changes = self.changes[row["view"] % len(self.changes)]
            parts += [row["id"], str(row["view"]), changes]  # by which its changes are drawn
        if row.get("speaker_clips") is not None:
            parts.append(row["speaker_clips"])  # what its speaker's statistics are made of; they are measured anew
        return "#".join(parts)

    def batch(self, rows: Iterable[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        """The features of rows as a padded batch.

        Shapes:
            audio_hidden, text_hidden: `(batch, positions, *tail)` float32; audio_mask, text_mask: `(batch, positions)`
            bool. A modality that no row has is left out.

        Raises:
            ValueError: the features of a row are missing.
        """
        batch = {}
        rows = list(rows)
        for modality, store in self.stores.items():
            keys = [self.key(modality, row) for row in rows]
            found = store.get(key for key in keys if key is not None)
            if lost := {key for key in keys if key is not None} - found.keys():
                raise ValueError(
                    f"{store.folder}: found no {modality} features of {len(lost)} clips, which were there when the "
                    "training began. Expected the folder to stay as it is: give the same command again, and they are "
                    "computed again."
                )
            arrays = [None if key is None else found[key] for key in keys]
            if modality == "text":
                arrays = self._with_context(arrays, rows)
            batch |= padded(modality, arrays)
        return batch

    def _with_context(self, arrays: list[np.ndarray | None], rows: list[Mapping[str, Any]]) -> list[np.ndarray | None]:
        """The features of texts, with those of the previous turns of their dialogues behind them, where rows have some.

        A turn is a row itself, so its features are kept: with audio, or without.

        Shapes: of a row `(1, size)`, out `(1 + turns, size)`.
        """
        keys = [[text_digest(turn.strip()) for turn in row.get("context") or ()] for row in rows]
        kinds = ("", "#alone") if self.fused else ("",)
        found = self.stores["text"].get(key + kind for one in keys for key in one for kind in kinds)
        turns = [[found.get(key, found.get(f"{key}#alone")) for key in one] for one in keys]
        return [
            None if own is None else np.concatenate([own, *(turn for turn in one if turn is not None)])
            for own, one in zip(arrays, turns, strict=True)
        ]

    def summary(self) -> str:
        """What is stored, in one line."""
        kept = [
            f"{modality} of {len(store)} clips, {store.size_mb():.1f} MB in {store.folder}"
            for modality, store in self.stores.items()
        ]
        return f"frozen features: {'; '.join(kept)}"


def padded(modality: str, arrays: list[np.ndarray | None]) -> dict[str, torch.Tensor]:
    """Arrays `(positions, *tail)` as one padded batch and its mask; nothing where no row has the modality."""
    tails = [array.shape[1:] for array in arrays if array is not None]
    if not tails:
        return {}
    positions = [0 if array is None else len(array) for array in arrays]
    hidden = torch.empty(len(arrays), max(1, *positions), *tails[0])
    for row, array in enumerate(arrays):
        if array is not None:
            hidden[row, : len(array)] = torch.from_numpy(array)
        hidden[row, positions[row] :] = 0
    mask = torch.arange(hidden.shape[1])[None] < torch.tensor(positions)[:, None]
    return {f"{modality}_hidden": hidden, f"{modality}_mask": mask}


def frozen_module(encoder: nn.Module) -> nn.Module | None:
    """What of an encoder is fixed from its inputs on: all of it, its front end, or None."""
    if is_frozen(encoder):
        return encoder
    front_end = getattr(encoder, "front_end", None)
    return front_end if front_end is not None and is_frozen(front_end) else None


def features_digest(module: nn.Module, config, reader, settings: Mapping[str, Any], fitted: str | None = None) -> str:
    """SHA-256 of all that decides what a frozen module puts out, but for the clip or the text itself.

    Args:
        module: An encoder or a front end; its weights and buffers are hashed.
        config: The encoder's configuration; of one with a front end, only what describes that.
        reader: Feature extractor or tokenizer.
        settings: What else decides it.
        fitted: What the statistics of a front end were fitted to at this start (`FoldData.fitted`), hashed in their
            place; None where they are as they were loaded.
    """
    front_end = getattr(config, "front_end", None)
    whole = front_end is None or hasattr(module, "config")
    described = {key: value for key, value in config.to_dict().items() if key not in VOLATILE} if whole else front_end
    parts = {
        "version": [CACHED, transformers.__version__],
        "module": type(module).__name__,
        "config": described,
        "reader": _described(reader),
        "settings": dict(settings),
    }
    weights = module.state_dict()
    if fitted and (measured := [name for name in weights if name.rpartition(".")[2] in FITTED]):
        weights = {name: tensor for name, tensor in weights.items() if name not in measured}
        parts["fitted"] = fitted
    digest = hashlib.sha256(json.dumps(parts, sort_keys=True, default=_plain).encode())
    for name, tensor in sorted(weights.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def _described(reader) -> Any:
    """All settings of a feature extractor, or a tokenizer with its vocabulary."""
    if hasattr(reader, "to_dict"):
        return {key: value for key, value in reader.to_dict().items() if key not in VOLATILE}
    if not hasattr(reader, "backend_tokenizer"):
        return [type(reader).__name__, reader.get_vocab(), reader.model_max_length]
    # How the last batch was padded and cut is kept in the tokenizer too.
    backend = {**json.loads(reader.backend_tokenizer.to_str()), "padding": None, "truncation": None}
    return [backend, reader.model_max_length]


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic | torch.Tensor):
        return value.tolist()
    return sorted(value) if isinstance(value, set | frozenset) else str(value)
