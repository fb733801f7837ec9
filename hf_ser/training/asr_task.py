"""Fine-tuning Whisper on a corpus's own transcripts, with its word error rate before and after on unseen speakers.

In a run's folder beside what every task writes:

    O/fold_K/               transcripts.jsonl and wer.json of the test speakers
    O/report.json           over all folds that are finished, with wer_before.png and wer_after.png

The folds are those of the emotion models under the same settings, so that the recogniser of fold 1 may transcribe for
the emotion model of fold 1: neither was trained on its test speakers.
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from accelerate import PartialState
from datasets import Dataset
from transformers import TrainerCallback, set_seed

from hf_ser.data.folds import Fold
from hf_ser.data.plans import Rows
from hf_ser.files import atomic_write
from hf_ser.runs.record import TrainingRecord
from hf_ser.stable import rows_digest
from hf_ser.training.arguments import (
    ASR_LEARNING_RATE,
    ASR_LORA_LEARNING_RATE,
    OF_MODEL,
    TRANSCRIPT_SETTINGS,
    AsrArguments,
)
from hf_ser.training.asr import (
    AsrTrainer,
    AsrTrainingArguments,
    build_asr,
    label_tokens,
)
from hf_ser.training.asr_report import TIMES, TRANSCRIPTS, WER, word_error_rates, write_results
from hf_ser.training.building import Candidate
from hf_ser.training.fold_run import FoldTask, save_model
from hf_ser.training.parsing import settings
from hf_ser.training.run import Task
from hf_ser.transcripts.cache import cache_file
from hf_ser.transcripts.fold_transcripts import references
from hf_ser.transcripts.recogniser import MAX_WINDOW_SECONDS, DecodeOptions
from hf_ser.transcripts.run import Job, known_language, transcribe_dataset
from hf_ser.transcripts.transformers_whisper import load
from hf_ser.transcripts.wer import normalised

GREEDY = DecodeOptions(temperatures=(0.0,))


class AsrFold(FoldTask):
    """Fine-tuning a Whisper on one fold."""

    def __init__(self, task, fold: Fold):
        set_seed(task.training.seed)  # before the model is built: LoRA starts from random weights
        texts = dict(zip(task.dataset["id"][:], task.texts, strict=True))
        self.task, self.candidate = task, build_asr(task.settings[AsrArguments], fold.name, task.language, texts)
        self.fold, self.notices = without_long_texts(fold, self.candidate, task.texts)
        self.sources = self.candidate.sources

    def trainer(self, arguments, callbacks: Sequence[TrainerCallback] = ()) -> AsrTrainer:
        train, validation = (self.task.dataset.select(rows) for rows in (self.fold.train, self.fold.validation))
        parts = {"train_dataset": train, "eval_dataset": validation}
        return AsrTrainer(self.candidate, self.task.language, args=arguments, callbacks=list(callbacks), **parts)

    def describe(self, record: TrainingRecord) -> TrainingRecord:
        return replace(
            record,
            language=self.task.language,
            left_out=self.task.notices + self.notices,
            known_texts=known_texts(self.task.dataset, self.fold),
        )

    def finish(self, trainer: AsrTrainer, folder: Path, record: TrainingRecord) -> TrainingRecord:
        """As FoldTask's; test rows are transcribed by the model as it was, and by the saved one."""
        save_model(trainer, self.candidate, folder)
        if trainer.is_world_process_zero():
            trainer.generation.save_pretrained(folder)
        PartialState().wait_for_everyone()
        record = replace(record, best_validation=trainer.state.best_metric)
        if not len(self.fold.test):
            return record
        models, not_tested = compare(self, folder)
        return replace(record, asr=models, not_tested=not_tested)


class AsrTask(Task):
    """Fine-tuning a Whisper.

    Attributes:
        texts: The reference transcript of each row of the data set; from `open` on, as the others.
        language: Code of the spoken language.
        rows: Rows that can be used.
    """

    name = "asr"
    classes = (*OF_MODEL[name], AsrTrainingArguments)
    fold_class = AsrFold
    reads_text = False

    def __init__(self, given):
        super().__init__(given)
        reject_emotion_settings(self.data)
        if self.training.push_to_hub:
            raise ValueError(
                "--push_to_hub true: found a recogniser, which training does not push. Expected none: leave it out, "
                "and push a fold's folder with `hf upload`."
            )
        if self.training.learning_rate is None:
            self.training.learning_rate = ASR_LORA_LEARNING_RATE if given[AsrArguments].lora else ASR_LEARNING_RATE

    def open(self, dataset: Dataset, folds: list[Fold]) -> dict:
        """As Task's; labels only decide how the folds are made."""
        self.dataset, self.texts = dataset, references(dataset)
        self.language = spoken_language(dataset, self.settings[AsrArguments].language)
        self.rows, self.notices = usable_rows(dataset, self.texts, self.language)
        columns = [dataset[name][:] for name in ("id", "label", "speaker", "sex", "pcm_sha256")]
        return {"rows": len(self.rows), "digest": rows_digest(zip(*columns, self.texts, strict=True))[:16]}

    def usable(self, fold: Fold) -> Fold:
        """As Task's: rows with audio that is not too long, and a reference transcript."""
        return with_rows(fold, self.rows)

    def write_results(self) -> str:
        return write_results(Path(self.training.output_dir))


def spoken_language(dataset: Dataset, language: str | None) -> str:
    """The given language, else that of all corpora of the data set.

    Raises:
        ValueError: none is given, and the corpora are not of one known language.
    """
    corpora = sorted(set(dataset["corpus"][:]))
    known = {known_language(corpus) for corpus in corpora}
    if language is None and (len(known) > 1 or None in known):
        raise ValueError(
            f"--language is not given, and the corpora ({', '.join(corpora)}) are not known to be of one language. "
            "Expected the code of the spoken language: add --language, such as --language en."
        )
    return language or known.pop()


def usable_rows(dataset: Dataset, texts: Sequence[str | None], language: str) -> tuple[set[int], list[str]]:
    """Rows with a reference transcript and audio that fits into Whisper's window, and notices of what is left out.

    Raises:
        ValueError: there are none.
    """
    seconds = dataset["duration_seconds"][:]
    # Normalised as for the word error rate: "[laughter]" alone is no transcript.
    spoken = {row for row, text in enumerate(normalised(texts, language)) if text and seconds[row] is not None}
    if not spoken:
        raise ValueError(
            f"None of {len(dataset)} clips has both audio and a reference transcript. Expected reference transcripts "
            "to train on: fill in the transcript column (the transcript of another recogniser is no reference)."
        )
    rows = {row for row in spoken if seconds[row] <= MAX_WINDOW_SECONDS}
    left_out = {"have no audio or no reference transcript": len(dataset) - len(spoken)}
    left_out[f"are longer than {MAX_WINDOW_SECONDS} s"] = len(spoken) - len(rows)
    return rows, [f"{count} of {len(dataset)} clips {why}: left out" for why, count in left_out.items() if count]


def with_rows(fold: Fold, rows: set[int]) -> Fold:
    """A fold with some rows only; its fingerprint stays that of the whole split.

    Raises:
        ValueError: no row is left in one of its parts.
    """
    parts = {name: getattr(fold, name) for name in ("train", "validation", "test")}
    kept = {name: np.array([row for row in part if row in rows], dtype=int) for name, part in parts.items()}
    if empty := [name for name in parts if len(parts[name]) and not len(kept[name])]:
        raise ValueError(
            f"Fold {fold.name}: none of its {empty[0]} clips has audio and a reference transcript that fit into the "
            "model. Expected some in every part: try another --fold, --split_seed or --protocol."
        )
    return replace(fold, **kept)


def without_long_texts(fold: Fold, candidate: Candidate, texts: Sequence[str | None]) -> tuple[Fold, list[str]]:
    """A fold without training and validation rows of more tokens than the model has positions; notices of how many."""
    longest, tokenizer = candidate.model.config.max_target_positions, candidate.processor.tokenizer
    learned = [*fold.train.tolist(), *fold.validation.tolist()]
    rows = {row for row in learned if len(label_tokens(tokenizer, texts[row])) <= longest}
    if not (left_out := len(learned) - len(rows)):
        return fold, []
    notice = f"fold {fold.name}: {left_out} clips have transcripts of over {longest} tokens: left out of training"
    PartialState().print(f"note: {notice}")
    return with_rows(fold, rows | set(fold.test.tolist())), [notice]


def known_texts(dataset: Dataset, fold: Fold) -> int:
    """The number of test clips whose sentence is also spoken in the training part, as far as it is known."""
    rows = Rows.of(dataset)
    sentences = dict(zip(rows.position.tolist(), rows.sentence.tolist(), strict=True))
    trained = {sentences[row] for row in fold.train.tolist()} - {""}
    return sum(sentences[row] in trained for row in fold.test.tolist())


def reject_emotion_settings(data) -> None:
    """Make sure that no setting of DataArguments is changed that only emotion models use.

    Raises:
        ValueError: one is.
    """
    if given := sorted((TRANSCRIPT_SETTINGS | {"target"}) & settings(data).keys()):
        raise ValueError(
            f"--{given[0]} is {getattr(data, given[0])}: found a setting of emotion models, and a recogniser learns "
            "the corpus's own transcripts as they are. Expected none: leave it out."
        )


def compare(fold_task: AsrFold, folder: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Transcribe the test rows with the model as it was and as it was saved, both alike, and write the error rates.

    Returns:
        The name and revision of both models, and why clips could not be transcribed, by id.
    """
    task, fold, training = fold_task.task, fold_task.fold, fold_task.task.training
    precision = "bfloat16" if training.bf16 else "float16" if training.fp16 else "float32"
    options, batch_size = replace(GREEDY, precision=precision), training.per_device_eval_batch_size
    rows, texts, sources, failed = task.dataset.select(fold.test), {}, {}, {}
    for when, model in zip(TIMES, (fold_task.sources["asr"], str(folder)), strict=True):
        recogniser = load(model, str(PartialState().device), precision)
        job = Job(recogniser, options, task.language, batch_size, cache_file())
        transcribed = transcribe_dataset(rows, job)
        texts[when], sources[when] = [one and one.text for one in transcribed.transcripts], job.source
        failed |= transcribed.failed
    for name, why in failed.items():  # in neither rate: it would count as a clip of which no word was recognised
        PartialState().print(f"note: {name} is not tested: {why}")
    if PartialState().is_main_process:
        columns = {name: rows[name][:] for name in ("id", "speaker", "sex", "corpus")}
        columns["label"] = [rows.features["label"].names[i] for i in rows["label"][:]]
        columns |= {"reference": [task.texts[row] for row in fold.test], **texts}
        same = {"language": task.language, "fold": fold.name}
        lines = [same | dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
        lines = [line for line in lines if line["id"] not in failed]
        with atomic_write(folder / TRANSCRIPTS) as file:
            file.writelines(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        with atomic_write(folder / WER) as file:
            json.dump(word_error_rates(lines).to_json(), file, indent=1)
    return sources, failed
