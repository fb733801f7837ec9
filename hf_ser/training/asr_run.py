"""Fine-tuning Whisper on a corpus's own words, with its word error rate before and after on speakers it has not met.

    O/run.json              the settings that decide the result
    O/fold_K/ or O/final/   model, processor, training_record.json; of a fold transcripts.jsonl, wer.json too
    O/report.json           over all folds that are done, with wer_before.png and wer_after.png

The folds are those of the emotion models under the same settings, so that the recogniser of fold 1 may transcribe for
the emotion model of fold 1: neither has met its test speakers.
"""

import json
import shutil
import time
from collections.abc import Sequence
from copy import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
from accelerate import PartialState
from datasets import Dataset
from peft import PeftModel
from transformers import (
    set_seed,
)
from transformers.utils import logging

from hf_ser.checks.audit.not_copies import read_not_copies
from hf_ser.data.corpora import CORPORA
from hf_ser.data.protocols import Fold, Rows
from hf_ser.files import atomic_write
from hf_ser.models.saving import share_weights
from hf_ser.runs.findings import LEAK
from hf_ser.runs.record import (
    TrainingRecord,
    ancestry,
    hardware,
    split_record,
    stage_leaks,
    write_record,
)
from hf_ser.stable import rows_digest
from hf_ser.training.arguments import OF_THE_WORDS
from hf_ser.training.asr import (
    LEARNING_RATE,
    LORA_LEARNING_RATE,
    AsrArguments,
    AsrCandidate,
    AsrTrainer,
    AsrTrainingArguments,
    build_asr,
    label_tokens,
)
from hf_ser.training.asr_report import TIMES, TRANSCRIPTS, WER, word_error_rates, write_results
from hf_ser.training.fold_run import last_whole_checkpoint
from hf_ser.training.parsing import settings
from hf_ser.training.run import audited, claimed, not_done
from hf_ser.training.trainer import count_parameters
from hf_ser.transcripts.cache import cache_file
from hf_ser.transcripts.fold_transcripts import references
from hf_ser.transcripts.recogniser import MAX_WINDOW_SECONDS, DecodeOptions
from hf_ser.transcripts.run import Job, transcribe_dataset
from hf_ser.transcripts.transformers_whisper import load
from hf_ser.transcripts.wer import normalised

GREEDY = DecodeOptions(temperatures=(0.0,))


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
    described = {"rows": len(rows), "digest": digest, "label_map": label_map}
    with claimed(output_dir, {"settings": changed, "data": described}):
        for notice in notices:
            PartialState().print(f"note: {notice}")
        to_train = [(within(fold, rows), folder) for fold, folder in not_done(dataset, folds, output_dir)]
        audit = audited(dataset, [fold for fold, _ in to_train], False, data.allow_leak, data.not_copies)
        for fold, folder in to_train:
            told = {"protocol": data.protocol, "settings": changed, "language": language, "left_out": notices}
            found = [one for one in audit if one.fold in (None, fold.name) and one.severity == LEAK]
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
    return rows_digest(zip(*columns, words, strict=True))[:16]


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
    record = TrainingRecord(split=split_record(dataset, fold), ancestors=ancestry(candidate.source))
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
        record = replace(record, **compare(candidate.source, folder, dataset, fold, words, told, training))
    if not trainer.is_world_process_zero():
        return
    if data.not_copies:
        record = replace(record, not_copies=read_not_copies(data.not_copies).record())
    record = replace(record, finished=True, leaks=leaks, audit=audit, train_seconds=round(seconds, 1), **told)
    record = replace(record, **training_details(trainer, candidate, dataset, fold, parameters))
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
        share_weights(folder)
        share_weights(folder / "adapter")
    if trainer.is_world_process_zero():
        candidate.generation.save_pretrained(folder)
        candidate.processor.save_pretrained(folder)
        # Trainer's pickle of its arguments: the record says the same as text.
        (folder / "training_args.bin").unlink(missing_ok=True)


def compare(source: str, folder: Path, dataset: Dataset, fold: Fold, words, told: dict, training) -> dict:
    """Transcribe the test rows of a fold with the model as it was and as it has become, both in the same way.

    Returns:
        The name and revision of both models, and why a clip could not be transcribed, by id.
    """
    precision = "bfloat16" if training.bf16 else "float16" if training.fp16 else "float32"
    options, batch_size = replace(GREEDY, precision=precision), training.per_device_eval_batch_size
    rows, texts, sources, failed = dataset.select(fold.test), {}, {}, {}
    for when, model in zip(TIMES, (source, str(folder)), strict=True):
        job = Job(
            load(model, str(PartialState().device), precision), options, told["language"], batch_size, cache_file()
        )
        done = transcribe_dataset(rows, job)
        texts[when], sources[when] = [one and one.text for one in done.transcripts], job.source
        failed |= done.failed
    for name, why in failed.items():  # in neither rate: it would count as a clip of which nothing was heard
        PartialState().print(f"note: {name} is not tested: {why}")
    if PartialState().is_main_process:
        columns = {name: rows[name][:] for name in ("id", "speaker", "sex", "corpus")}
        columns["label"] = [dataset.features["label"].names[i] for i in rows["label"][:]]
        columns |= {"reference": [words[row] for row in fold.test], **texts}
        same = {"language": told["language"], "fold": fold.name}
        lines = [same | dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
        lines = [line for line in lines if line["id"] not in failed]
        with atomic_write(folder / TRANSCRIPTS) as file:
            file.writelines(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        with atomic_write(folder / WER) as file:
            json.dump(word_error_rates(lines), file, indent=1)
    return {"asr": sources, "not_tested": failed}
