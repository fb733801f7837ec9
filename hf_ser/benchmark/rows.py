"""The rows of the benchmark: what is measured, ours beside a peer as its user would write it, and beside a floor."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from hf_ser.benchmark import answering, preparing, starting, training
from hf_ser.benchmark.case import Case, Size
from hf_ser.benchmark.measure import Way

CPU, CLOCK = "cpu_seconds", "seconds"
"""Figures of a `Usage` by which rows are compared."""


def once(case: Case) -> float:
    """A unit of its own."""
    return 1


def clips(case: Case) -> float:
    """Clips of the case."""
    return len(case.files())


def peer_clips(case: Case) -> float:
    """Clips that the pipeline of transformers is given."""
    return min(clips(case), answering.PEER_CLIPS)


def asr_clips(case: Case) -> float:
    """Clips that are transcribed."""
    return len(answering.asr_clips(case))


@dataclass(frozen=True)
class Row:
    """A piece of work that is done in several ways.

    Args:
        name: Of `--rows`.
        about: What is done.
        unit: What figures are given for.
        units: How many of them the work has.
        ours: This package.
        peer: What a user would do otherwise.
        floor: The least that the work takes, or the fastest other program; None where there is none.
        needs: Methods of `Case` whose files are made before.
        by: The figure of a `Usage` that is compared.
        rounds: Times it is done at most, of what takes long.
    """

    name: str
    about: str
    unit: str
    units: Callable[[Case], float]
    ours: Way
    peer: Way
    floor: Way | None
    needs: tuple[str, ...] = ()
    by: str = CPU
    rounds: int = 100

    def ways(self) -> dict[str, Way]:
        """The ways by the names that results have."""
        ways = {"ours": self.ours, "peer": self.peer, "floor": self.floor}
        return {name: way for name, way in ways.items() if way is not None}

    def units_of(self, way: Way, case: Case) -> float:
        """How many units the work of a way has."""
        return (way.units or self.units)(case)


def rows_of(size: Size) -> list[Row]:
    """All rows; those of preparing many clips depend on the size."""
    return [*ROWS, *(growth_row(number, count) for number, count in enumerate(size.rows))]


def chosen_rows(size: Size, names: Sequence[str] = ()) -> list[Row]:
    """The rows of these names, in this order; all where none are given.

    Raises:
        ValueError: there is no row of a name.
    """
    rows = rows_of(size)
    if unknown := set(names) - {row.name for row in rows}:
        raise ValueError(
            f"--rows {' '.join(sorted(unknown))}: found no such row, expected some of "
            f"{', '.join(row.name for row in rows)}."
        )
    by_name = {row.name: row for row in rows}
    return [by_name[name] for name in names] or rows


def growth_row(number: int, count: int) -> Row:
    """Preparing a table of so many rows."""
    return Row(
        f"{GROWTH}{count}",
        f"prepare {count:,} clips in a fresh process",
        "clip",
        lambda case: count,
        Way("data set in shards", preparing.many_prepared(number)),
        Way("one list, pickled", preparing.many_listed(number)),
        None,
        needs=("many",),
        rounds=1,
    )


GROWTH = "prepare_"
ROWS = (
    Row(
        "prepare",
        "prepare the clips",
        "clip",
        clips,
        Way("checked data set", preparing.checked_data_set),
        Way("librosa, mel pictures by matplotlib", preparing.mel_pictures, preparing.without_librosa),
        Way("soundfile and soxr, to FLAC", preparing.flac_files),
        needs=("table",),
    ),
    Row(
        "fit",
        "fit and test a fold, from the files to the report",
        "fold",
        lambda case: training.N_FOLDS,
        Way("ridge on frozen layers, all folds", training.fit_all_folds),
        Way("transformers' Trainer, encoding every epoch", training.plain_trainer_of_a_fold, units=once),
        Way("scikit-learn on features that are there", training.sklearn_on_features),
        needs=("dataset", "stock"),
        rounds=1,
    ),
    Row(
        "step",
        "fine-tune wav2vec2",
        "clip",
        training.trained_clips,
        Way("batches of one length", training.batched_steps),
        Way("one by one, padded to the longest of all", training.single_steps),
        Way("torch on batches that are ready", training.bare_steps),
        needs=("dataset", "wav2vec2"),
        rounds=1,
    ),
    Row(
        "epoch",
        "an epoch on a frozen encoder",
        "clip and epoch",
        clips,
        Way(
            "stored features",
            training.stored_epochs,
            units=lambda case: clips(case) * training.STORED_EPOCHS,
        ),
        Way("transformers' Trainer, encoding every clip", training.plain_epoch),
        Way(
            "torch on features in memory",
            training.epochs_in_memory,
            units=lambda case: clips(case) * training.STORED_EPOCHS,
        ),
        needs=("dataset", "stock"),
        rounds=1,
    ),
    Row(
        "transcribe",
        "transcribe",
        "clip",
        asr_clips,
        Way("batches, openai-whisper", partial(answering.whisper_in_batches, Case.checkpoint)),
        Way("loop of model.transcribe", answering.whisper_loop),
        Way("loop of faster-whisper", answering.faster_whisper, answering.without_faster_whisper),
        needs=("table", "checkpoint"),
        rounds=1,
    ),
    Row(
        "predict",
        "answer one by one",
        "clip",
        clips,
        Way("our pipeline", answering.ours_one_by_one),
        Way("transformers' pipeline", answering.stock_one_by_one, units=peer_clips),
        Way("the encoder alone", partial(answering.bare_encoder, 1)),
        needs=("model", "stock"),
        rounds=1,
    ),
    Row(
        "predict_batch",
        f"answer in batches of {answering.BATCH}",
        "clip",
        clips,
        Way("our pipeline", answering.ours_in_batches),
        Way("transformers' pipeline", answering.stock_in_batches, units=peer_clips),
        Way("the encoder alone", partial(answering.bare_encoder, answering.BATCH)),
        needs=("model", "stock"),
        rounds=1,
    ),
    Row(
        "timeline",
        "a long recording over its time",
        "minute",
        answering.peer_minutes,
        Way("our timeline", answering.our_timeline, units=lambda case: case.size.minutes),
        Way("transformers' pipeline on windows", answering.windows_of_stock),
        Way("the encoder alone, without overlap", answering.bare_windows),
        needs=("model", "stock", "recording"),
        rounds=1,
    ),
    Row(
        "import",
        "import",
        "process",
        once,
        Way("import hf_ser", partial(starting.fresh, starting.OUR_IMPORT)),
        Way("import Trainer and pipeline of transformers", partial(starting.fresh, starting.STOCK_IMPORT)),
        Way("nothing", partial(starting.fresh, starting.NO_IMPORT)),
    ),
    Row(
        "help",
        "--help of the training",
        "process",
        once,
        Way("hf-ser train_audio", partial(starting.fresh, starting.OUR_HELP)),
        Way("HfArgumentParser(TrainingArguments)", partial(starting.fresh, starting.STOCK_HELP)),
        Way("argparse", partial(starting.fresh, starting.PLAIN_HELP)),
    ),
    Row(
        "first_answer",
        "the first answer of a fresh process",
        "process",
        once,
        Way("our model by pipeline()", partial(starting.answer_of, starting.OUR_ANSWER, True)),
        Way("transformers' pipeline()", partial(starting.answer_of, starting.STOCK_ANSWER, False)),
        Way("the model of transformers alone", partial(starting.answer_of, starting.BARE_ANSWER, False)),
        needs=("model", "stock"),
    ),
    Row(
        "two_processes",
        "label files in two processes, on the clock",
        "clip",
        clips,
        Way("predict.py, two shards", partial(starting.label_all, 2)),
        Way("predict.py, one process", partial(starting.label_all, 1)),
        None,
        needs=("model",),
        by=CLOCK,
        rounds=1,
    ),
)
