"""The rows of one fold as its model reads them: targets, transcripts, speaker statistics, augmented views."""

from dataclasses import dataclass, field

import numpy as np
from accelerate import PartialState
from datasets import Dataset

from hf_ser.augment.augmenter import Augmenter
from hf_ser.augment.views import View, with_views
from hf_ser.data.folds import Fold
from hf_ser.inputs.dimensions import dimensions_of, stated_scale
from hf_ser.inputs.speakers import audio_batches, clips_digest, enrolment_note, speaker_statistics
from hf_ser.inputs.targets import DIMENSIONAL, dimension_targets, with_columns, with_target
from hf_ser.training.building import Candidate
from hf_ser.transcripts.fold_transcripts import FoldTranscripts


@dataclass
class FoldData:
    """The parts of a fold.

    Args:
        train, validation, test: Rows; training rows have their targets, and with augmentation the current `view`.
        view: Holds the current view; None without augmentation.
        notes: What a reader of the figures must know.
        fitted: Key of what the statistics of the front end were fitted to; None where there are none.
    """

    train: Dataset
    validation: Dataset
    test: Dataset
    view: View | None = None
    notes: list[str] = field(default_factory=list)
    fitted: str | None = None


def fold_data(
    dataset: Dataset, fold: Fold, transcripts: FoldTranscripts, candidate: Candidate, data, training, audio, augment
):
    """The rows of a fold; the candidate's front end and collator are set up for them.

    Args:
        data, training: DataArguments and SerTrainingArguments.
        audio, augment: AudioArguments and AugmentArguments; None for a text-only model.

    Raises:
        ValueError: as `with_target`, `speaker_statistics` and `Augmenter`.
    """
    augmented = augment is not None and augment.augment
    columns, notes, view, fitted = dict(transcripts.columns), [], None, None
    front_end = getattr(candidate.encoders.get("audio"), "front_end", None)
    if front_end is not None and front_end.normalisation == "corpus":
        clips = dataset.with_format(None).select_columns(["audio"])
        front_end.fit_corpus(audio_batches(clips, fold.train, feature_extractor(candidate), front_end.window.device))
        fitted = clips_digest(dataset, fold.train)
    if front_end is not None and front_end.normalisation == "speaker":
        known = speaker_statistics(
            dataset, front_end, feature_extractor(candidate), audio.enrolment_clips, training.seed, fold.train
        )
        columns |= _speaker_columns(dataset, known)
        fitted = f"{clips_digest(dataset, fold.train)} {audio.enrolment_clips} {training.seed}"
        notes.append(enrolment_note(audio.enrolment_clips))
    if getattr(candidate.model.config, "speaker_views", 0):
        notes.append(enrolment_note(audio.enrolment_clips))
    if turns := getattr(candidate.model.config, "context_turns", 0):
        notes.append(f"each text is read with the {turns} turns before it, of the same dialogue and part")
    if data.target in DIMENSIONAL:
        known = dimensions_of(dataset, stated_scale(data.dimension_scale))
        columns["target"] = dimension_targets(dataset, known, data.target == "both")
    # Refuses before anything is written.
    train = with_target(dataset, fold.train, data.target, columns)
    if augmented:
        view = View()
        train = with_views(train, view, training.cache_views)
        augmenter = Augmenter(augment.augment, dataset, fold.train, augment.noise_dir, training.seed)
        for notice in augmenter.notices:
            PartialState().print(f"note: {notice}")
        candidate.collator.augmenter = augmenter
    validation, test = (with_columns(dataset.select(rows), columns) for rows in (fold.validation, fold.test))
    return FoldData(train, validation, test, view, notes, fitted)


def _speaker_columns(dataset: Dataset, known: dict[str, np.ndarray]) -> dict[str, dict]:
    """`speaker_statistics` of each row by id, and `speaker_clips`: a digest of all clips of its speaker."""
    names, rows = dataset["speaker"][:], {}
    for row, name in enumerate(names):
        rows.setdefault(name, []).append(row)
    clips = {name: clips_digest(dataset, found) for name, found in rows.items()}
    speakers = dict(zip(dataset["id"][:], names, strict=True))
    return {
        "speaker_statistics": {one: known[speaker] for one, speaker in speakers.items()},
        "speaker_clips": {one: clips[speaker] for one, speaker in speakers.items()},
    }


def feature_extractor(candidate: Candidate):
    """The feature extractor of a candidate that reads audio."""
    return getattr(candidate.processor, "feature_extractor", candidate.processor)
