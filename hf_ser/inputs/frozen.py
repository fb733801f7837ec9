"""What frozen parts of a model put out, computed once, kept on disk and read from then on.

    CACHE/frozen/DIGEST/    the outputs of one encoder under one setting (`hf_ser.inputs.output_store`)

The first epoch fills the cache while it trains: a batch of which an output is missing runs through the frozen part, all
others are read without decoding any sound. What is computed is rounded to float16 before it is used, so that the first
epoch computes with exactly what later ones read.

An output may differ in its last bit with the batch in which a clip was first met. A run that is killed and resumed
meets what it had stored, and differs from an unbroken one by rounding alone; one on a cache that another run has filled
may differ from that within rounding.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
import transformers
from accelerate import PartialState
from accelerate.utils import extract_model_from_parallel
from peft import PeftModel
from torch import nn

from hf_ser.files import cache_folder
from hf_ser.inputs.collate import labels
from hf_ser.inputs.output_store import OutputStore
from hf_ser.models.modeling_ser import is_frozen
from hf_ser.stable import text_digest

CACHED = "2"
"""Version of what is stored. Raise it when the frozen parts come to put out something else, or statistics are fitted
otherwise (they are known by the clips that they are fitted to): all is computed anew."""

VOLATILE = ("_name_or_path", "transformers_version", "id2label", "label2id", "custom_pipelines", "dtype")
"""Of a configuration: what does not decide the outputs."""

FITTED = ("corpus_mean", "corpus_deviation", "speaker_mean", "speaker_variance")
"""Buffers of a front end that are fitted anew at each start, and may then differ in their last bit."""


class FrozenCache:
    """The outputs of a candidate's frozen encoders, or of the fixed front end of our own spectrogram networks.

    The weights are hashed here: make the cache once they are as they stay (frozen, cropped, statistics fitted).

    Args:
        candidate: What is trained (`hf_ser.training.building.Candidate`).
        settings: What else decides the outputs, such as the layers that are read.
        augmentation: By what and with which seed training clips are changed before they are encoded; None: they are
            not. The clips as they are keep their outputs, whatever their changed views are.
        views: So many augmented views of a clip are told apart by the rows' `view`; 0: each is new, and not stored.
        fitted: What the statistics of the front end were fitted to at this start (`FoldData.fitted`); None where they
            are as they were loaded.
    """

    def __init__(
        self,
        candidate,
        settings: Mapping[str, Any] | None = None,
        augmentation: str | None = None,
        views: int = 0,
        fitted: str | None = None,
    ):
        self.views, self.encoders = views, candidate.encoders
        self.changes = text_digest(augmentation or "")
        self.frozen: dict[str, nn.Module] = {}
        self.stores: dict[str, OutputStore] = {}
        self._told_overflow = False
        for modality, encoder in candidate.encoders.items():
            if hindrance := _hindrance(encoder, modality == "audio" and augmentation and not views):
                PartialState().print(f"note: outputs of the {modality} encoder are not cached: {hindrance}")
                continue
            module = self.frozen[modality] = frozen_module(encoder)
            digest = outputs_digest(
                module, encoder.config, _reader(candidate.processor, modality), settings or {}, fitted
            )
            self.stores[modality] = OutputStore(cache_folder() / "frozen" / digest)
        self.others = tuple(modality for modality in candidate.encoders if modality not in self.stores)

    def fill(self, model: nn.Module, inputs: dict[str, Any]) -> dict[str, Any]:
        """Compute what a batch of `CachedCollator` lacks, store it, and give it as it will be read.

        Args:
            model: The model, also wrapped (DistributedDataParallel, PeftModel, compiled).
            inputs: The batch, on the model's device; without `cache_keys` it is given back as it is.

        Shapes:
            audio_hidden, text_hidden: `(batch, positions, *tail)` float32; audio_mask, text_mask: `(batch, positions)`.

        Raises:
            ValueError: something else is frozen than when the cache was made.
        """
        self._check_frozen()
        if "cache_keys" not in inputs:
            return inputs
        keys = inputs["cache_keys"]
        inputs = {name: value for name, value in inputs.items() if name != "cache_keys"}
        for module in self.frozen.values():
            module.eval()
        with torch.no_grad(), _random_state_kept():
            inputs = dict(unwrapped(model).frozen_part(**inputs))
        for modality, store in self.stores.items():
            hidden, mask = f"{modality}_hidden", f"{modality}_mask"
            if hidden in inputs:
                arrays = self._stored(store, [key[modality] for key in keys], inputs[hidden], inputs[mask])
                inputs |= _batch(modality, arrays, inputs[hidden].device)
        return inputs

    def summary(self) -> str:
        """What is stored, in one line."""
        told = [f"{name}: {len(store)} outputs, {store.size_mb():.1f} MB" for name, store in self.stores.items()]
        return f"cache of frozen outputs ({cache_folder() / 'frozen'}): {'; '.join(told) or 'nothing'}"

    def _stored(self, store: OutputStore, keys: list[str | None], hidden, mask) -> list[np.ndarray | None]:
        """Each row's array as it is in the store, put there where it was missing; None for rows without the modality.

        What float16 cannot hold is neither stored nor rounded.
        """
        held = store.get(key for key in keys if key is not None)
        rounded, mask = hidden.half().cpu().numpy(), mask.bool().cpu().numpy()
        fresh, beyond = {}, {}
        for row, key in enumerate(keys):
            if key is None or key in held or key in fresh:
                continue
            array = rounded[row][mask[row]]
            if np.isfinite(array).all():
                fresh[key] = array
            else:
                beyond[key] = hidden[row].float().cpu().numpy()[mask[row]]
        store.put(fresh)
        if beyond and not self._told_overflow:
            self._told_overflow = True
            PartialState().print(f"note: {len(beyond)} outputs are beyond what float16 holds (65504) and not cached")
        arrays = held | fresh | beyond
        return [None if key is None else arrays[key] for key in keys]

    def _check_frozen(self) -> None:
        for modality, module in self.frozen.items():
            if frozen_module(self.encoders[modality]) is not module:
                raise ValueError(
                    f"--cache_frozen: found another part of the {modality} encoder frozen than when the cache was "
                    "made, which its outputs would not follow. Expected the same to the end: leave out --cache_frozen, "
                    "or the stages (--stages) that freeze or train it."
                )


class CachedCollator:
    """A collator that reads what a `FrozenCache` holds in place of clips and words.

    A batch of which anything is missing is that of the collator beneath, with `cache_keys`: `FrozenCache.fill` makes
    of it what it would have been.

    Args:
        collator: The collator beneath, of `hf_ser.inputs.collate`.
        cache: The cache; loader workers get its stores, not its modules.
    """

    def __init__(self, collator, cache: FrozenCache):
        self.collator = collator
        self.stores, self.others, self.views = cache.stores, cache.others, cache.views
        self.changes = cache.changes

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        """Shapes: as `FrozenCache.fill`, and labels as `hf_ser.inputs.collate.labels`; or as the collator beneath."""
        keys = [{modality: self._key(modality, row) for modality in self.stores} for row in rows]
        wanted = {modality: [key[modality] for key in keys] for modality in self.stores}
        if not self.stores or any("" in told for told in wanted.values()):
            return self.collator(rows)
        held = {modality: store.get(filter(None, wanted[modality])) for modality, store in self.stores.items()}
        if any(key and key not in held[modality] for modality, told in wanted.items() for key in told):
            return {**self.collator(rows), "cache_keys": keys}
        batch = self._uncached(rows)
        for modality, told in wanted.items():
            batch |= _batch(modality, [held[modality].get(key) for key in told])
        return {**batch, "labels": labels(rows)}

    def _key(self, modality: str, row: dict[str, Any]) -> str | None:
        """Under which a row's output is stored; None where it lacks the modality, empty where it cannot be told."""
        if modality == "text":
            words = (row["transcript"] or "").strip()
            return hashlib.sha256(words.encode()).hexdigest() if words else None
        if row["audio"] is None:
            return None
        parts = [row.get("pcm_sha256") or ""]
        if self.views and row.get("view") is not None:
            parts += [row["id"], str(row["view"]), self.changes]  # by which its changes are drawn
        if row.get("speaker_statistics") is not None:
            parts.append(row["speaker_clips"])  # what they are made of, for they are measured anew at each start
        return "#".join(parts) if parts[0] else ""

    def _uncached(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        """The inputs of the modality that is trained beside a frozen one."""
        if self.others == ("text",):
            return dict(self.collator.processor.features(None, [row["transcript"] for row in rows]))
        if self.others == ("audio",):
            batch = self.collator([row | {"transcript": None} for row in rows])
            return {name: value for name, value in batch.items() if name not in ("input_ids", "text_mask", "labels")}
        return {}


def _batch(modality: str, arrays: list[np.ndarray | None], device="cpu") -> dict[str, torch.Tensor]:
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
    return {f"{modality}_hidden": hidden.to(device), f"{modality}_mask": mask.to(device)}


@contextmanager
def _random_state_kept() -> Iterator[None]:
    """Some encoders draw numbers although nothing is dropped: a batch must train the same whether computed or read."""
    numbers = np.random.get_state()
    with torch.random.fork_rng():
        yield
    np.random.set_state(numbers)


def frozen_module(encoder: nn.Module) -> nn.Module | None:
    """What of an encoder is fixed from its inputs on: all of it, its front end, or None."""
    if is_frozen(encoder):
        return encoder
    front_end = getattr(encoder, "front_end", None)
    return front_end if front_end is not None and is_frozen(front_end) else None


def outputs_digest(module: nn.Module, config, reader, settings: Mapping[str, Any], fitted: str | None = None) -> str:
    """SHA-256 of all that decides what a frozen module puts out, but for the clip or the words themselves.

    Args:
        module: An encoder or a front end; its weights and buffers are hashed.
        config: The encoder's configuration; of one with a front end, only what describes that.
        reader: Feature extractor or tokenizer.
        settings: What else decides it.
        fitted: As FrozenCache's; hashed in place of the statistics.
    """
    front_end = getattr(config, "front_end", None)
    whole = front_end is None or hasattr(module, "config")
    described = {key: value for key, value in config.to_dict().items() if key not in VOLATILE} if whole else front_end
    told = {
        "version": [CACHED, transformers.__version__],
        "module": type(module).__name__,
        "config": described,
        "reader": _described(reader),
        "settings": dict(settings),
    }
    weights = module.state_dict()
    if fitted and (measured := [name for name in weights if name.rpartition(".")[2] in FITTED]):
        weights = {name: tensor for name, tensor in weights.items() if name not in measured}
        told["fitted"] = fitted
    digest = hashlib.sha256(json.dumps(told, sort_keys=True, default=_plain).encode())
    for name, tensor in sorted(weights.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def unwrapped(model: nn.Module) -> nn.Module:
    """The model itself, without what distributed training, compilation or peft put around it."""
    model = extract_model_from_parallel(model, keep_torch_compile=False)
    return model.get_base_model() if isinstance(model, PeftModel) else model


def _hindrance(encoder: nn.Module, always_new: bool) -> str | None:
    """Why an encoder's outputs cannot be stored, and what to do about it; None where they can."""
    if frozen_module(encoder) is None:
        if any("lora_" in name for name, _ in encoder.named_parameters()):
            return "LoRA trains it. Leave out --lora and freeze it (--freeze) to have them cached"
        return "it is trained. Freeze it (--freeze) to have them cached"
    if always_new:
        return "every clip is augmented anew in every epoch. Limit the views (--cache_views 4) to have them cached"
    return None


def _reader(processor, modality: str):
    return {"audio": processor.feature_extractor, "text": processor.tokenizer}[modality]


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
