"""Fine-tuning Whisper on a corpus's own words, with its word error rate before and after on speakers it has not met.

    O/run.json              the settings that decide the result
    O/fold_K/ or O/final/   model, processor, training_record.json; of a fold transcripts.jsonl, wer.json too
    O/report.json           over all folds that are done, with wer_before.png and wer_after.png

The folds are those of the emotion models under the same settings, so that the recogniser of fold 1 may transcribe for
the emotion model of fold 1: neither has met its test speakers.
"""

import hashlib
import json
import math
import shutil
import textwrap
import time
from collections.abc import Callable, Sequence
from copy import copy, deepcopy
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from datasets import Dataset
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn
from transformers import (
    EarlyStoppingCallback,
    EvalPrediction,
    GenerationConfig,
    ProgressCallback,
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
    WhisperProcessor,
    set_seed,
)
from transformers.utils import logging

from hf_ser.audit.data import sound_findings
from hf_ser.audit.findings import LEAK, AuditFinding
from hf_ser.columns import SAMPLING_RATE
from hf_ser.corpora import CORPORA
from hf_ser.files import atomic_write
from hf_ser.models.decoding import decode_audio
from hf_ser.protocols import Fold, Rows, describe, fold_folder
from hf_ser.provenance import (
    RECORD,
    ancestry,
    hardware,
    is_finished,
    read_record,
    split_record,
    stage_leaks,
    write_record,
)
from hf_ser.training.arguments import OF_THE_WORDS, SerTrainingArguments, option, settings
from hf_ser.training.building import LORA_TARGETS, WHISPER
from hf_ser.training.run import claim, last_whole_checkpoint
from hf_ser.training.trainer import OneLineProgress, count_parameters
from hf_ser.transcripts.cache import cache_file
from hf_ser.transcripts.recogniser import MAX_WINDOW_SECONDS, DecodeOptions
from hf_ser.transcripts.results import references
from hf_ser.transcripts.run import Job, transcribe_dataset
from hf_ser.transcripts.transcriber import WITHOUT_BLANKS
from hf_ser.transcripts.transformers_whisper import POSITIONS_A_SECOND, load, load_whole
from hf_ser.transcripts.wer import error_rate, normalised, plot_wer, wer_report

TRANSCRIPTS, WER, REPORT = "transcripts.jsonl", "wer.json", "report.json"
TIMES = ("before", "after")

LEARNING_RATE, LORA_LEARNING_RATE = 1e-5, 1e-3
GREEDY = DecodeOptions(temperatures=(0.0,))

PACKAGES = ("hf_ser", "torch", "transformers", "peft", "datasets")
LINE = 100
"""Characters a line of the terminal table."""


@dataclass
class AsrArguments:
    """Which recogniser, and how much of it is trained."""

    asr_model: str = option("openai/whisper-small", "a whole Whisper: Hub id or folder; '{fold}' is replaced")
    language: str | None = option(None, "code of the language that is spoken, such as en; default: the corpus's")
    lora: bool = option(False, "train through LoRA alone; merged when saved")
    lora_rank: int = option(8, "rank of the LoRA matrices")
    lora_alpha: int = option(16, "scale of the LoRA update is alpha / rank")
    freeze_encoder: bool = option(False, "train the decoder alone")


@dataclass
class AsrTrainingArguments(SerTrainingArguments, Seq2SeqTrainingArguments):
    """SerTrainingArguments over transformers' Seq2SeqTrainingArguments: the checkpoint is chosen by word error rate."""

    output_dir: str = option("runs/asr", "folder of the results")
    num_train_epochs: float = option(10.0, "epochs, fewer when the validation word error rate stops falling")
    per_device_train_batch_size: int = option(8, "clips a device and step")
    learning_rate: float | None = option(
        None, f"of the optimizer; default: {LEARNING_RATE:g}, with --lora {LORA_LEARNING_RATE:g}"
    )
    predict_with_generate: bool = option(True, "must stay on: the word error rate is of what it writes by itself")
    generation_max_length: int | None = option(225, "longest answer, in tokens, where a checkpoint is chosen")
    load_best_model_at_end: bool = option(True, "keep the checkpoint with the best validation word error rate")
    metric_for_best_model: str | None = option("wer", "what chooses the checkpoint: wer or loss")
    greater_is_better: bool | None = option(False, "whether more of it is better")
    early_stopping_patience: int = option(3, "evaluations without a better one before training stops; 0 never stops")
    # Trainer would warn of tied weights that a checkpoint does not repeat, and of padding that Whisper never reads.
    log_level: str = option("error", "what transformers tells on the main process")
    log_level_replica: str = option("error", "what it tells on the others")
    head_learning_rate: float | None = field(default=None, init=False)  # emotion models have a head, Whisper has none


@dataclass
class AsrCandidate:
    """A Whisper ready to train.

    Args:
        model: The model; a PeftModel where LoRA is used.
        processor: Its feature extractor and tokenizer, which is told the language.
        language: Code of what it is told to hear.
        encoder: The part of it that hears.
        generation: How it decodes. Kept apart, for Seq2SeqTrainer writes every default into the model's own.
        source: Where it came from.
    """

    model: nn.Module
    processor: WhisperProcessor
    language: str
    encoder: nn.Module
    generation: GenerationConfig
    source: str


@dataclass
class AsrCollator:
    """Rows to batches: decoding and extraction happen here, in the loader's workers; no spectrogram is stored.

    Args:
        processor: Of the model, told the language.
        words: What is said, by id.
        positions: Of the encoder, 50 for a second: its window.
    """

    processor: WhisperProcessor
    words: dict[str, str]
    positions: int

    def __call__(self, rows: list[dict]) -> dict[str, torch.Tensor]:
        """Shapes: input_features `(batch, mels, 2 * positions)`; labels `(batch, tokens)` int64, padded with -100."""
        extractor = self.processor.feature_extractor
        clips = [decode_audio(row["audio"]) for row in rows]
        window = self.positions * SAMPLING_RATE // POSITIONS_A_SECOND
        features = extractor(clips, sampling_rate=SAMPLING_RATE, max_length=window, return_tensors="pt")
        said = [torch.tensor(label_tokens(self.processor.tokenizer, self.words[row["id"]])) for row in rows]
        labels = nn.utils.rnn.pad_sequence(said, batch_first=True, padding_value=-100)
        return {"input_features": features["input_features"], "labels": labels}


def label_tokens(tokenizer, words: str) -> list[int]:
    """Tokens of a text as the model is to write them: language, task, no time stamps, the words, the end.

    The start token is not among them: the model puts it there itself as it shifts its labels.
    """
    # Whisper's own answers begin with a blank wherever words are parted by blanks.
    blank = "" if tokenizer.language in WITHOUT_BLANKS else " "
    return tokenizer(blank + words.strip()).input_ids[1:]


class AsrTrainer(Seq2SeqTrainer):
    """transformers' Seq2SeqTrainer over an `AsrCandidate`."""

    def __init__(self, candidate: AsrCandidate, words: dict[str, str], **kwargs):
        if kwargs["args"].label_smoothing_factor:
            raise ValueError(
                f"--label_smoothing_factor is {kwargs['args'].label_smoothing_factor}: Trainer then takes the labels "
                "away from the model, which has no start token without them. Expected 0: leave it out."
            )
        self.encoder = candidate.encoder
        super().__init__(
            model=candidate.model,
            data_collator=AsrCollator(candidate.processor, words, candidate.model.config.max_source_positions),
            compute_metrics=wer_over(candidate.processor.tokenizer, candidate.language),
            **kwargs,
        )
        # Whisper takes the mean over the tokens of a batch itself; Trainer sees the `**kwargs` of its forward and takes
        # it for a model that divides by the items of all accumulated steps: the loss is then n-fold.
        self.model_accepts_loss_kwargs = False
        if self.is_fsdp_enabled and isinstance(candidate.model, PeftModel):
            raise ValueError("--lora under FSDP is not tested here: use multi_gpu.yaml, or leave out --lora.")
        self.remove_callback(ProgressCallback)
        if not self.args.disable_tqdm:
            self.add_callback(WerProgress)
        if patience := self.args.early_stopping_patience:
            self.add_callback(EarlyStoppingCallback(patience))

    def compute_loss(self, model, inputs, return_outputs=False, **kwargs):
        """As Trainer's; a frozen encoder is a fixed function, without dropout."""
        if not any(parameter.requires_grad for parameter in self.encoder.parameters()):
            self.encoder.eval()
        return super().compute_loss(model, inputs, return_outputs, **kwargs)

    def evaluation_loop(self, *args, **kwargs):
        """As Trainer's; Seq2SeqTrainer's would count twice the clips that fill the last step of several processes."""
        self.gather_function = self.accelerator.gather_for_metrics
        return super().evaluation_loop(*args, **kwargs)


class WerProgress(OneLineProgress):
    """OneLineProgress with the word error rate in place of the UAR."""

    def on_log(self, args, state, control, logs=None, **kwargs):
        """Write the epoch's figures above the bar."""
        if "eval_wer" not in logs:
            super().on_log(args, state, control, logs, **kwargs)
        elif state.is_world_process_zero and self.training_bar is not None:
            self.training_bar.write(
                f"epoch {logs['epoch']:5.1f}  validation WER {100 * logs['eval_wer']:5.1f} %  "
                f"loss {logs['eval_loss']:.3f}  ({logs['eval_samples_per_second']:.1f} clips/s)"
            )


def wer_over(tokenizer, language: str) -> Callable[[EvalPrediction], dict[str, float]]:
    """`compute_metrics` that reads tokens and their labels as words."""

    def texts(tokens: np.ndarray) -> list[str]:
        tokens = np.where(tokens < 0, tokenizer.eos_token_id, tokens)
        return tokenizer.batch_decode(tokens, skip_special_tokens=True)

    def compute(evaluated: EvalPrediction) -> dict[str, float]:
        said, true = texts(evaluated.predictions), texts(evaluated.label_ids)
        # Rounded, so that no rounding error of a sum chooses between two equal checkpoints.
        return {"wer": round(error_rate(true, said, [language] * len(true)), 10)}

    return compute


def build_asr(asr: AsrArguments, name: str, language: str) -> AsrCandidate:
    """The Whisper of a fold, told the language, with what is not to be trained frozen."""
    source = asr.asr_model.replace("fold_{fold}", fold_folder(name)).replace("{fold}", name)
    model, processor = load_whole(source)
    told = model.generation_config
    languages = getattr(told, "lang_to_id", None) or {}
    if languages and getattr(told, "is_multilingual", True):
        if f"<|{language}|>" not in languages:
            known = " ".join(sorted(token.strip("<|>") for token in languages))
            raise ValueError(f"--language {language}: {source} does not know it. Expected one of {known}.")
        told.language, told.task = language, "transcribe"
        processor.tokenizer.set_prefix_tokens(language=language, task="transcribe", predict_timestamps=False)
    elif language != "en":
        raise ValueError(f"--language {language}: {source} knows English alone. Expected en, or another Whisper.")
    told.forced_decoder_ids = None
    encoder = model.get_encoder()
    if asr.freeze_encoder:
        encoder.requires_grad_(False)
    if asr.lora:
        parts = "decoder" if asr.freeze_encoder else "encoder|decoder"
        targets = rf"model\.({parts})\..*\.({LORA_TARGETS[WHISPER]})"
        model = get_peft_model(model, LoraConfig(r=asr.lora_rank, lora_alpha=asr.lora_alpha, target_modules=targets))
    return AsrCandidate(model, processor, language, encoder, deepcopy(told), source)


def spoken_language(dataset: Dataset, language: str | None) -> str:
    """The language that is told, else that of all corpora of the data set.

    Raises:
        ValueError: it is not told, and the corpora are not of one known language.
    """
    corpora = sorted(set(dataset["corpus"][:]))
    known = {getattr(CORPORA.get(corpus), "LANGUAGE", None) for corpus in corpora}
    if language is None and (len(known) > 1 or None in known):
        raise ValueError(
            f"--language is not given, and the corpora ({', '.join(corpora)}) are not known to be of one language. "
            "Expected the code of what is spoken: add --language, such as --language en."
        )
    return language or known.pop()


def usable_rows(dataset: Dataset, words: Sequence[str | None], language: str) -> tuple[set[int], list[str]]:
    """Rows with words and a sound that Whisper hears in one go, and what is to be said of the others.

    Raises:
        ValueError: there are none.
    """
    seconds = dataset["duration_seconds"][:]
    # As the word error rate is counted: what is left of "[laughter]" are no words.
    said = normalised(words, language)
    spoken = {row for row, text in enumerate(said) if text and seconds[row] is not None}
    if not spoken:
        raise ValueError(
            f"None of {len(dataset)} clips has both a sound and the corpus's own words. Expected reference transcripts "
            "to train on: fill in the transcript column (what another recogniser wrote is no reference)."
        )
    rows = {row for row in spoken if seconds[row] <= MAX_WINDOW_SECONDS}
    told = {"have no sound or no words of the corpus": len(dataset) - len(spoken)}
    told[f"are longer than {MAX_WINDOW_SECONDS} s"] = len(spoken) - len(rows)
    return rows, [f"{count} of {len(dataset)} clips {what}: left out" for what, count in told.items() if count]


def within(fold: Fold, rows: set[int]) -> Fold:
    """A fold with these rows alone; its fingerprint stays that of the whole split.

    Raises:
        ValueError: nothing is left to train on, to choose the checkpoint by, or of a test part.
    """
    parts = {name: getattr(fold, name) for name in ("train", "validation", "test")}
    kept = {name: np.array([row for row in part if row in rows], dtype=int) for name, part in parts.items()}
    if empty := [name for name in parts if len(parts[name]) and not len(kept[name])]:
        raise ValueError(
            f"Fold {fold.name}: none of its {empty[0]} clips has a sound and words that the model can hear and write "
            "in one go. Expected some in every part: try another --fold, --split_seed or --protocol."
        )
    return replace(fold, **kept)


def sayable(fold: Fold, candidate: AsrCandidate, words: Sequence[str | None]) -> tuple[Fold, list[str]]:
    """A fold without what a model cannot be taught to say, for it has too many tokens; and how much that is."""
    longest, tokenizer = candidate.model.config.max_target_positions, candidate.processor.tokenizer
    taught = [*fold.train.tolist(), *fold.validation.tolist()]
    rows = {row for row in taught if len(label_tokens(tokenizer, words[row])) <= longest}
    if not (left_out := len(taught) - len(rows)):
        return fold, []
    notice = f"fold {fold.name}: {left_out} clips have words of more than {longest} tokens: left out of training"
    PartialState().print(f"note: {notice}")
    return within(fold, rows | set(fold.test.tolist())), [notice]


def known_texts(dataset: Dataset, fold: Fold) -> int:
    """Test clips whose sentence is also said in the training part, as far as sentences or words are known."""
    rows = Rows.of(dataset)
    sentences = dict(zip(rows.position.tolist(), rows.sentence.tolist(), strict=True))
    trained = {sentences[row] for row in fold.train.tolist()} - {""}
    return sum(sentences[row] in trained for row in fold.test.tolist())


def train_folds(
    dataset: Dataset, folds: list[Fold], label_map: dict, data, asr: AsrArguments, training: AsrTrainingArguments
) -> None:
    """Fine-tune on the folds that are not done yet, then write the results of all that are.

    Args:
        dataset, folds, label_map: As `open_data` gives them; labels only decide how the folds are dealt.
        data: DataArguments.
        asr, training: Which recogniser, and how it is trained.

    Raises:
        ValueError: nothing to train on, no known language, a setting that says nothing of a recogniser, an output
            folder that holds another run, or a leak.
    """
    logging.disable_progress_bar()  # one bar for each file that is read or saved; the bars of training stay
    refuse_of_emotions(data)
    words, language = references(dataset), spoken_language(dataset, asr.language)
    rows, notices = usable_rows(dataset, words, language)
    if training.learning_rate is None:
        training.learning_rate = LORA_LEARNING_RATE if asr.lora else LEARNING_RATE
    changed = {"model": "asr", **settings(data, training, asr)}
    output_dir, digest = Path(training.output_dir), words_digest(dataset, words)
    with PartialState().main_process_first():
        claim(output_dir, {"settings": changed, "data": {"rows": len(rows), "digest": digest, "label_map": label_map}})
    for notice in notices:
        PartialState().print(f"note: {notice}")
    to_train = []
    for fold in folds:
        folder = output_dir / fold_folder(fold.name)
        PartialState().print(describe(dataset, fold))
        if is_finished(folder):
            PartialState().print(f"fold {fold.name} is done: {folder}")
        else:
            to_train.append((within(fold, rows), folder))
    leaks = sound_leaks(dataset, [fold for fold, _ in to_train], data.allow_leak)
    for fold, folder in to_train:
        told = {"protocol": data.protocol, "settings": changed, "language": language, "left_out": notices}
        found = [one for one in leaks if one.fold in (None, fold.name)]
        train_fold(dataset, fold, folder, words, found, data, asr, training, told)
    PartialState().wait_for_everyone()
    if PartialState().is_main_process:
        print(write_results(output_dir))


def refuse_of_emotions(data) -> None:
    """Make sure that nothing is asked of the data that training a recogniser has no use for.

    Raises:
        ValueError: something is.
    """
    if given := sorted((OF_THE_WORDS | {"target", "agreement_weight"}) & settings(data).keys()):
        raise ValueError(
            f"--{given[0]} is {getattr(data, given[0])}: found a setting of emotion models, and a recogniser learns "
            "the corpus's own words as they are. Expected none: leave it out."
        )


def words_digest(dataset: Dataset, words: Sequence[str | None]) -> str:
    """Hash of who says what in which clip, whatever the order of the rows."""
    columns = [dataset[name][:] for name in ("id", "label", "speaker", "sex", "pcm_sha256")]
    rows = sorted(repr(row) for row in zip(*columns, words, strict=True))
    return hashlib.sha256("\n".join(rows).encode()).hexdigest()[:16]


def sound_leaks(dataset: Dataset, folds: list[Fold], allow_leak: bool) -> list[AuditFinding]:
    """Recordings that stand in two parts of the folds that are about to be trained.

    Raises:
        ValueError: there are some, and `allow_leak` is not given.
    """
    # By one process for all: comparing the sounds of a large corpus takes minutes and a gigabyte.
    holder = [sound_findings(dataset, folds) if folds and PartialState().is_main_process else []]
    (findings,) = broadcast_object_list(holder)
    leaks = [one for one in findings if one.severity == LEAK]
    if leaks and not allow_leak:
        raise ValueError(
            f"The audit found a leak: {leaks[0].kind}. {leaks[0].detail}. Expected a test part that is independent of "
            f"training: {leaks[0].remedy}; or add --allow_leak to have the result stamped as leaked."
        )
    return leaks


def train_fold(dataset: Dataset, fold: Fold, folder: Path, words, audit, data, asr, training, told: dict) -> None:
    """Train one fold, save its model, transcribe its test rows before and after and write its record, in this order.

    Args:
        dataset, fold: The rows, of which the fold holds those that can be used.
        folder: Where all of it is written.
        words: What is said in each row of the data set.
        audit: Leaks that were found in the fold.
        data, asr, training: DataArguments, AsrArguments and AsrTrainingArguments.
        told: What the record says of the run.
    """
    set_seed(training.seed)  # before the model is built, for LoRA begins with weights drawn by lot
    candidate = build_asr(asr, fold.name, told["language"])
    fold, unsayable = sayable(fold, candidate, words)
    told = told | {"left_out": told["left_out"] + unsayable}
    leaks = sorted({*fold.leaks, *(one.kind for one in audit)})
    leaks += stage_leaks(dataset, fold, {"asr": candidate.source}, data.allow_leak)
    record = {"finished": False, "split": split_record(dataset, fold), "ancestors": ancestry(candidate.source)}
    if PartialState().is_main_process:
        # Before training, so that a checkpoint of a run that is killed says whom it has met.
        write_record(folder, record)
    checkpoints = folder / "checkpoints"
    arguments = copy(training)
    arguments.output_dir = str(checkpoints)
    by_id = dict(zip(dataset["id"][:], words, strict=True))
    parts = {"train_dataset": dataset.select(fold.train), "eval_dataset": dataset.select(fold.validation)}
    trainer = AsrTrainer(candidate, by_id, args=arguments, **parts)
    parameters = count_parameters(candidate.model)  # before LoRA is merged
    started = time.time()
    trainer.train(resume_from_checkpoint=last_whole_checkpoint(checkpoints))
    seconds = time.time() - started
    save_whisper(trainer, candidate, folder)
    PartialState().wait_for_everyone()
    if len(fold.test):
        record |= compare(candidate.source, folder, dataset, fold, words, told, training)
    if not trainer.is_world_process_zero():
        return
    record |= {"finished": True, "leaks": leaks, "audit": [asdict(one) for one in audit], **told}
    record |= {"train_seconds": round(seconds, 1), **training_details(trainer, candidate, dataset, fold, parameters)}
    write_record(folder, record)
    shutil.rmtree(checkpoints, ignore_errors=True)


def training_details(trainer: AsrTrainer, candidate: AsrCandidate, dataset: Dataset, fold: Fold, parameters) -> dict:
    """What the record says of how a fold was trained; `parameters` are all, and those that were trained."""
    return {
        "corpora": sorted(set(dataset["corpus"][:])),
        "sources": {"asr": candidate.source},
        "seed": trainer.args.seed,
        "parameters": parameters[0],
        "parameters_trained": parameters[1],
        "hardware": hardware(),
        "precision": trainer.accelerator.mixed_precision,
        "best_validation": trainer.state.best_metric,
        "known_texts": known_texts(dataset, fold),
        "history": trainer.state.log_history,
    }


def save_whisper(trainer: AsrTrainer, candidate: AsrCandidate, folder: Path) -> None:
    """Save the trained model with its processor; LoRA is merged, the adapter kept beside it."""
    if not isinstance(candidate.model, PeftModel):
        trainer.save_model(str(folder))
    elif trainer.is_world_process_zero():
        candidate.model.save_pretrained(folder / "adapter")
        candidate.model.merge_and_unload().save_pretrained(folder)
    if trainer.is_world_process_zero():
        candidate.generation.save_pretrained(folder)
        candidate.processor.save_pretrained(folder)
        # Trainer's pickle of its arguments: the record says the same as text.
        (folder / "training_args.bin").unlink(missing_ok=True)


def compare(source: str, folder: Path, dataset: Dataset, fold: Fold, words, told: dict, training) -> dict:
    """Transcribe the test rows of a fold with the model as it was and as it has become, both in the same way.

    Returns:
        The name and revision of both models.
    """
    precision = "bfloat16" if training.bf16 else "float16" if training.fp16 else "float32"
    options, batch_size = replace(GREEDY, precision=precision), training.per_device_eval_batch_size
    rows, texts, sources = dataset.select(fold.test), {}, {}
    for when, model in zip(TIMES, (source, str(folder)), strict=True):
        job = Job(
            load(model, str(PartialState().device), precision), options, told["language"], batch_size, cache_file()
        )
        texts[when] = [one and one.text for one in transcribe_dataset(rows, job).transcripts]
        sources[when] = job.source
    if PartialState().is_main_process:
        columns = {name: rows[name][:] for name in ("id", "speaker", "sex", "corpus")}
        columns["label"] = [dataset.features["label"].names[i] for i in rows["label"][:]]
        columns |= {"reference": [words[row] for row in fold.test], **texts}
        same = {"language": told["language"], "fold": fold.name}
        lines = [same | dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
        with atomic_write(folder / TRANSCRIPTS) as file:
            file.writelines(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        with atomic_write(folder / WER) as file:
            json.dump(word_error_rates(lines), file, indent=1)
    return {"asr": sources}


def word_error_rates(lines: list[dict]) -> dict[str, dict]:
    """The word error rates of some transcripts, before and after."""
    return {when: wer_report([{**line, "hypothesis": line[when]} for line in lines]) for when in TIMES}


def write_results(output_dir: Path) -> str:
    """Gather the folds that are done, write the report, and return it as a table."""
    folders = [file.parent for file in sorted(output_dir.glob(f"*/{RECORD}"))]
    records = {folder: read_record(folder) for folder in folders if is_finished(folder)}
    models = [f"model of {folder.name}: {folder}" for folder in records]
    tested = [folder for folder in records if (folder / TRANSCRIPTS).is_file()]
    if not tested:
        return "\n".join([*models, "No speaker was left to test: for a figure run --fold all with the same settings."])
    lines = [json.loads(line) for folder in tested for line in (folder / TRANSCRIPTS).read_text("utf-8").splitlines()]
    report = conditions([records[folder] for folder in tested], lines)
    report["wer"] = word_error_rates(lines)
    for when, found in report["wer"].items():
        plot_wer(found, output_dir / f"wer_{when}.png")
    rates = {folder: json.loads((folder / WER).read_text("utf-8")) for folder in tested}
    report["per_fold"] = {
        records[folder]["split"]["fold"]: {when: found[when]["wer"] for when in TIMES}
        for folder, found in rates.items()
    }
    with atomic_write(output_dir / REPORT) as file:
        json.dump(report, file, indent=1)
    return "\n".join([format_report(report), *models, f"report: {output_dir / REPORT}"])


def conditions(records: list[dict], lines: list[dict]) -> dict:
    """What the word error rates of some folds were measured on and how their models were trained."""
    leaks = sorted({leak for record in records for leak in record["leaks"]})
    known = sum(record["known_texts"] for record in records)
    corpora = sorted({line["corpus"] for line in lines})
    notices = [
        f"LEAKED RUN: {', '.join(leaks)}. The test rows were not independent of training." if leaks else "",
        "Synthetic corpus: this figure proves the machinery and says nothing about speech."
        if "synthetic" in corpora
        else "",
        f"{known} of {len(lines)} test clips say what is also said in training, by others: on new sentences the gain "
        "may be smaller. Measure it with --protocol sentence_disjoint."
        if known
        else "",
    ]
    first, by_fold = records[0], {record["split"]["fold"]: record for record in records}
    return {
        "corpus": "+".join(corpora),
        "protocol": first["protocol"],
        "language": first["language"],
        "folds": {name: record["split"]["split_fingerprint"] for name, record in by_fold.items()},
        "asr": {name: record["asr"] for name, record in by_fold.items()},
        "leaks": leaks,
        "known_texts": known,
        "left_out": sorted({notice for record in records for notice in record["left_out"]}),
        "notices": [notice for notice in notices if notice],
        "settings": first["settings"],
        "seeds": {name: record["seed"] for name, record in by_fold.items()},
        "hardware": sorted({record["hardware"] for record in records}),
        "precision": first["precision"],
        "versions": {package: version(package) for package in PACKAGES},
    }


def format_report(report: dict) -> str:
    """The report as a plain-text table for the terminal; rates in per cent."""
    before, after = (report["wer"][when] for when in TIMES)
    folds = report["per_fold"]
    lines = [
        *(line for notice in report["notices"] for line in textwrap.wrap(notice, LINE)),
        f"{report['corpus']}, protocol {report['protocol']}, {len(folds)} fold{'s' if len(folds) > 1 else ''}: "
        f"{after['n_clips']} clips of {after['n_speakers']} speakers, language {report['language']}",
        "",
        "          WER  95 % interval   substituted  deleted  inserted",
    ]
    for when, found in zip(TIMES, (before, after), strict=True):
        low, high = (f"{100 * rate:.1f}" for rate in found["wer_ci95"] or (math.nan, math.nan))
        kinds = [100 * found[f"{kind}_rate"] for kind in ("substitution", "deletion", "insertion")]
        lines.append(
            f"{when:<6}  {100 * found['wer']:>5.1f}  {f'{low} to {high}':>14}  {kinds[0]:>11.1f}  {kinds[1]:>7.1f}  "
            f"{kinds[2]:>8.1f}"
        )
    if len(folds) > 1:
        told = (f"{name}: {100 * one['before']:.1f} > {100 * one['after']:.1f}" for name, one in folds.items())
        lines += textwrap.wrap("folds   " + ", ".join(told), LINE, subsequent_indent=" " * 8)
    return "\n".join([*lines, *textwrap.wrap(after["wer_ci95_note"], LINE), ""])
