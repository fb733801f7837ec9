"""A Whisper to be fine-tuned: its settings, how it is built, its batches, its trainer and its metric."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn
from transformers import (
    EarlyStoppingCallback,
    EvalPrediction,
    PrinterCallback,
    ProgressCallback,
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
    WhisperProcessor,
)
from transformers.utils.logging import log_levels

from hf_ser.data.schema import SAMPLING_RATE
from hf_ser.models.decoding import decode_audio
from hf_ser.models.encoders import SPEECH_PROJECTIONS
from hf_ser.settings import setting
from hf_ser.training.adaptation import LORA_SCALE
from hf_ser.training.arguments import AsrArguments, AsrCommonArguments
from hf_ser.training.building import Candidate, of_fold
from hf_ser.training.trainer_arguments import BasicTrainingArguments
from hf_ser.training.training_progress import OneLineProgress
from hf_ser.transcripts.recogniser import POSITIONS_A_SECOND
from hf_ser.transcripts.transcriber import WITHOUT_BLANKS
from hf_ser.transcripts.transformers_whisper import load_whole
from hf_ser.transcripts.wer import error_rate

LEVELS = (*log_levels, "passive")


@dataclass
class AsrTrainingArguments(AsrCommonArguments, BasicTrainingArguments, Seq2SeqTrainingArguments):
    """BasicTrainingArguments and Seq2SeqTrainingArguments: the checkpoint is chosen by word error rate."""

    metrics: ClassVar = {"wer": False, "loss": False}
    search: ClassVar = 0

    predict_with_generate: bool = setting(True, "must stay on: the word error rate is of what it writes by itself")
    generation_max_length: int | None = setting(225, "longest answer, in tokens, where a checkpoint is chosen")
    load_best_model_at_end: bool = setting(True, "keep the checkpoint with the best validation word error rate")
    metric_for_best_model: str | None = setting("wer", "what chooses the checkpoint: wer or loss")
    greater_is_better: bool | None = setting(False, "whether more of it is better")
    # Trainer would warn of tied weights that a checkpoint does not repeat, and of padding that Whisper never reads.
    log_level: str = setting("error", "what transformers tells on the main process", LEVELS)
    log_level_replica: str = setting("error", "what it tells on the others", LEVELS)

    def __post_init__(self):
        super().__post_init__()
        if self.label_smoothing_factor:
            raise ValueError(
                f"--label_smoothing_factor is {self.label_smoothing_factor}: Trainer then takes the labels away from "
                "the model, which has no start token without them. Expected 0: leave it out."
            )


@dataclass
class AsrCollator:
    """Rows to batches: decoding and extraction happen here, in the loader's workers; no spectrogram is stored.

    Args:
        processor: The model's, set to the language.
        texts: Reference transcripts by id.
        positions: Positions of the encoder, 50 for a second of its window.
    """

    processor: WhisperProcessor
    texts: dict[str, str | None]
    positions: int

    def __call__(self, rows: list[dict]) -> dict[str, torch.Tensor]:
        """Shapes: input_features `(batch, mels, 2 * positions)`; labels `(batch, tokens)` int64, padded with -100."""
        extractor = self.processor.feature_extractor
        clips = [decode_audio(row["audio"]) for row in rows]
        window = self.positions * SAMPLING_RATE // POSITIONS_A_SECOND
        features = extractor(clips, sampling_rate=SAMPLING_RATE, max_length=window, return_tensors="pt")
        tokens = [torch.tensor(label_tokens(self.processor.tokenizer, self.texts[row["id"]])) for row in rows]
        labels = nn.utils.rnn.pad_sequence(tokens, batch_first=True, padding_value=-100)
        return {"input_features": features["input_features"], "labels": labels}


def label_tokens(tokenizer, text: str) -> list[int]:
    """Tokens of a text as the model has to write them: language, task, no time stamps, the text, the end.

    The start token is not among them: the model adds it when it shifts its labels.
    """
    # Whisper's own transcripts begin with a space in languages that separate words by spaces.
    blank = "" if tokenizer.language in WITHOUT_BLANKS else " "
    return tokenizer(blank + text.strip()).input_ids[1:]


class AsrTrainer(Seq2SeqTrainer):
    """transformers' Seq2SeqTrainer over a `Candidate` of `build_asr`, in a language.

    Attributes:
        generation: How the model decodes. A copy: Seq2SeqTrainer writes every default into the model's own.
    """

    def __init__(self, candidate: Candidate, language: str, **kwargs):
        self.generation = deepcopy(candidate.model.generation_config)
        super().__init__(
            model=candidate.model,
            data_collator=candidate.collator,
            compute_metrics=wer_over(candidate.processor.tokenizer, language),
            **kwargs,
        )
        # Whisper takes the mean over the tokens of a batch itself; Trainer sees the `**kwargs` of its forward and takes
        # it for a model that divides by the items of all accumulated steps: the loss is then n-fold.
        self.model_accepts_loss_kwargs = False
        if self.is_fsdp_enabled and isinstance(candidate.model, PeftModel):
            raise ValueError("--lora under FSDP is not tested here: use multi_gpu.yaml, or leave out --lora.")
        for callback in (ProgressCallback, PrinterCallback):
            self.remove_callback(callback)
        self.add_callback(OneLineProgress)
        if patience := self.args.early_stopping_patience:
            self.add_callback(EarlyStoppingCallback(patience))

    def evaluation_loop(self, *args, **kwargs):
        """As Trainer's; Seq2SeqTrainer's would count twice the clips that fill the last step of several processes."""
        self.gather_function = self.accelerator.gather_for_metrics
        return super().evaluation_loop(*args, **kwargs)


def wer_over(tokenizer, language: str) -> Callable[[EvalPrediction], dict[str, float]]:
    """`compute_metrics` with the word error rate of tokens against their labels."""

    def texts(tokens: np.ndarray) -> list[str]:
        tokens = np.where(tokens < 0, tokenizer.eos_token_id, tokens)
        return tokenizer.batch_decode(tokens, skip_special_tokens=True)

    def compute(evaluated: EvalPrediction) -> dict[str, float]:
        written, true = texts(evaluated.predictions), texts(evaluated.label_ids)
        # Rounded, so that no rounding error of a sum chooses between two equal checkpoints.
        return {"wer": round(error_rate(true, written, [language] * len(true)), 10)}

    return compute


def build_asr(asr: AsrArguments, fold: str, language: str, texts: dict[str, str | None]) -> Candidate:
    """The Whisper of a fold, set to a language, with LoRA where that is wanted; `texts` as of `AsrCollator`.

    Raises:
        ValueError: the model does not know the language.
    """
    source = of_fold(asr.asr_model, fold)
    model, processor = load_whole(source)
    generation = model.generation_config
    languages = getattr(generation, "lang_to_id", None) or {}
    if languages and getattr(generation, "is_multilingual", True):
        if f"<|{language}|>" not in languages:
            known = " ".join(sorted(token.strip("<|>") for token in languages))
            raise ValueError(f"--language {language}: {source} does not know it. Expected one of {known}.")
        generation.language, generation.task = language, "transcribe"
        processor.tokenizer.set_prefix_tokens(language=language, task="transcribe", predict_timestamps=False)
    elif language != "en":
        raise ValueError(f"--language {language}: {source} knows English alone. Expected en, or another Whisper.")
    generation.forced_decoder_ids = None
    if asr.lora:
        targets = rf"model\.(encoder|decoder)\..*\.({SPEECH_PROJECTIONS})"
        model = get_peft_model(
            model, LoraConfig(r=asr.lora_rank, lora_alpha=LORA_SCALE * asr.lora_rank, target_modules=targets)
        )
    collator = AsrCollator(processor, texts, model.config.max_source_positions)
    return Candidate(model, processor, collator, {"audio": model.get_encoder()}, {"asr": source})
