"""`pipeline("audio-classification")` for our models: any audio file without ffmpeg, text where known, all labels."""

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice, repeat
from pathlib import Path

import numpy as np
import torch
from transformers import AutoFeatureExtractor, AutoModelForAudioClassification, AutoTokenizer, Pipeline

from .audio_notes import NO_SPEECH, as_text, mixed, no_speech, part_note, problem_message, scale_hint, source_notes
from .config_checks import check_extractor, check_tokenizer
from .configuration_ser import AUDIO, TEXT, SerConfig
from .decoding import read_audio
from .dimensions import within_scale
from .front_end import SpectrogramFrontEnd
from .last_layers import last_layers, layer_inputs, side_by_side
from .modeling_ser import HeadEnrolment
from .padding import ignore_padding
from .pipeline_answers import (
    Answering,
    Dimensions,
    Scores,
    check_finite,
    checked_count,
    checked_function,
    checked_share,
)
from .pipeline_inputs import ReadClip, each_of, has_rows, is_row, name_of_clip, paired, part_of, text_of, transcript_of
from .processing_ser import (
    SerProcessor,
    audio_inputs,
    classifier_inputs,
    has_known_word,
    is_one_clip,
    longest_seconds,
    one_text,
    seconds_to_read,
    text_inputs,
    with_rate,
)
from .samples import audio_problem, trimmed
from .streams import MIX

ENROLMENT_BATCH = 16

BATCHES_AHEAD = 8
"""Of a list so many batches are read at a time, so that clips of like length can be batched together."""

_WARNED: dict = {}
"""Warnings that were shown; by default one of the same clip is shown once."""


class SerPipeline(Pipeline):
    """Emotion of one clip or many, from the audio, the text, or both: whatever the model was trained on.

    Models are ours, and transformers' own audio and text classifiers.

    Attributes:
        modalities: What the model takes: `audio`, `text` or both.
    """

    # Loaded where they are there: a model of one modality has one of them.
    _load_tokenizer = None
    _load_feature_extractor = None
    _load_processor = False
    _load_image_processor = False

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        config, name = self.model.config, self.model.name_or_path
        self.is_ours = config.model_type == SerConfig.model_type
        if self.is_ours:
            self.modalities = config.modalities
        else:
            self.modalities = (TEXT,) if self.model.main_input_name == "input_ids" else (AUDIO,)
            ignore_padding(self.model)
        self.feature_extractor = self._part(AUDIO, self.feature_extractor, AutoFeatureExtractor)
        self.tokenizer = self._part(TEXT, self.tokenizer, AutoTokenizer)
        if self.feature_extractor is not None:
            check_extractor(self.feature_extractor, f"{name}: preprocessor_config.json")
        if self.tokenizer is not None:
            size = (config.text_config if self.is_ours else config).vocab_size
            check_tokenizer(self.tokenizer, size, f"{name}: tokenizer_config.json")
        self.model.eval()  # `pipeline(model=object)` leaves dropout on

    @classmethod
    def from_pretrained(cls, name: str, **kwargs) -> "SerPipeline":
        """Load a model with this code: none of a model folder's own is run.

        Args:
            name: A folder, or a model of the Hub, `user/name` or `user/name@REVISION`.
            kwargs: As of transformers' Pipeline, such as `device`.

        Raises:
            OSError, ValueError: there is no such model, or its weights are not all there.
        """
        repository, _, revision = str(name).partition("@") if not Path(name).exists() else (str(name), "", "")
        is_path = repository.startswith(("/", ".", "~")) or repository.count("/") > 1
        is_path |= "/" in repository and Path(repository).parent.is_dir() and not revision
        if is_path and not Path(repository).is_dir():
            raise FileNotFoundError(
                f"{name}: found no such folder. Expected a trained model's, or user/name of the Hub."
            )
        model = AutoModelForAudioClassification.from_pretrained(repository, revision=revision or None)
        model.config._commit_hash = getattr(model.config, "_commit_hash", None) or revision or None
        return cls(model=model, task="audio-classification", **kwargs)

    def _part(self, modality: str, given, auto_class):
        """The feature extractor or tokenizer, where the model takes that modality; else None."""
        if modality not in self.modalities:
            return None
        if given is None:  # transformers does not say why it could not load it
            commit = getattr(self.model.config, "_commit_hash", None)
            given = auto_class.from_pretrained(self.model.name_or_path, revision=commit, trust_remote_code=False)
        return given

    def __call__(
        self,
        inputs,
        text=None,
        top_k: int | None = None,
        batch_size: int | None = None,
        enrolment=None,
        speaker_statistics: torch.Tensor | None = None,
        channel: str = MIX,
        function_to_apply: str | None = None,
        num_workers: int | None = None,
        context=None,
        abstain_below: float | None = None,
        embeddings: bool | None = None,
        dimensions: bool | None = None,
        familiarity: bool | None = None,
        transcribe: Callable | None = None,
    ):
        """Classify.

        `top_k`, `function_to_apply`, `batch_size`, `abstain_below`, `embeddings`, `dimensions`, `familiarity` and
        `transcribe` can also be given to `pipeline(...)`, for all calls.

        Args:
            inputs: A path, bytes, a binary file object, a one-dimensional array at the model's rate, a dictionary
                (`array` or `raw` with `sampling_rate`; `bytes`; `path`; or a row with one of those as `audio`;
                optionally `start` and `end` in seconds, `channel`, and `text` or `transcript`), `(rate, array)`, or a
                decoder of torchcodec; or several of those as a list, a data set or one of its columns, which are read
                batch by batch, or an iterator. A row of a prepared data set brings its `transcript` as the text. Of a
                model of text alone: a text, or several; with `text`, None.
            text: The text of the clip; of several clips a list of them (None where unknown).
            top_k: Keep only so many labels; all by default.
            batch_size: Clips per forward pass; the result does not depend on it beyond rounding.
            enrolment: Other clips of the one speaker of all inputs, for a model that was trained with per-speaker
                normalisation, which was tested so; without them each clip is normalised by itself (of functionals, by
                the training speakers).
            speaker_statistics: What the method of this name made of the enrolment clips, for many calls; `(2, bands)`.
            channel: Of clips with several: `mix` (their mean), `left` or `right`.
            function_to_apply: As in transformers' own: `softmax` (the default, calibrated), `sigmoid` or `none`, which
                gives the logits.
            context: Previous turns of the dialogue, the latest last, for a model that reads them: a list of texts;
                of several clips a list of such lists. Without them the text counts alone.
            num_workers: Taken as transformers' own does, without effect: clips are decoded in this process.
            abstain_below: Confidence, from 0 to 1, below which an answer is unsure and its `label` None, in place of
                the model's own threshold.
            embeddings: Whether each answer gets what the model's last layer was given, as its attribute `embedding`.
            dimensions: Whether the answer is `{"valence": ..., "arousal": ..., "dominance": ...}`, the list of labels
                its attribute `scores`; else these are the attribute `dimensions` of the list. Default: only of a model
                without classes.
            familiarity: Whether each answer says how alike its clip is to the training data, as its attribute
                `familiarity`.
            transcribe: Of a model of audio and text, what gives the text of a clip that has none: a pipeline of
                transformers for speech recognition, or any function of the samples `(samples,)`, float32 at the
                model's rate, that returns a text (or a dictionary with one as `text`). It gets the whole clip. The
                answer has its text as its attribute `text`.

        Returns:
            A list of `{"label", "score"}` with falling scores, whose attributes `unsure` and `notes` say what makes it
            doubtful; for several clips, a list of such lists; for a generator
            or another iterator, an iterator of them, which reads one batch of its inputs at a time, when its answers
            are asked for.

        Warns:
            UserWarning: each note of `read`: only the beginning of a long clip counts, channels cancel each other,
                samples were out of range and scaled, no speech was found, and the like.

        Raises:
            FileNotFoundError, ValueError: an input is None or cannot be read, is silence or too short, is several clips
                in one array, the texts are not one a clip, or the model has no use for enrolment clips.
        """
        if AUDIO not in self.modalities and text is None:
            inputs, text = None, inputs
        if inputs is None and text is not None and TEXT in self.modalities:
            inputs = None if isinstance(text, str) else [None] * len(text)
        elif inputs is None:
            raise ValueError(
                "inputs is None: expected audio, such as a path or an array, or a list of several; of a model that "
                "takes text, None with text=TEXT."
            )
        if isinstance(inputs, set | frozenset):
            raise ValueError(
                "inputs is a set, which has no order. Expected a list: give list(inputs), with texts alike."
            )
        single = inputs is None or is_one_clip(inputs) or is_row(inputs)
        if not (single or isinstance(inputs, Iterable) or hasattr(inputs, "__len__")):
            raise ValueError(
                f"inputs is {inputs!r} ({type(inputs).__name__}): expected audio, such as a path or an array, or a "
                "list of several."
            )
        statistics = speaker_statistics if enrolment is None else self.speaker_statistics(enrolment)
        defaults = self._postprocess_params
        options = {"top_k": checked_count("top_k", defaults.get("top_k") if top_k is None else top_k)}
        options |= checked_function(function_to_apply or defaults.get("function_to_apply"))
        given = {"abstain_below": checked_share("abstain_below", abstain_below), "embeddings": embeddings}
        given |= {"dimensions": dimensions, "familiarity": familiarity, "transcribe": transcribe}
        chosen = self._forward_params | {name: value for name, value in given.items() if value is not None}
        answering = Answering(channel, statistics, **chosen)
        answering = replace(answering, dimensions=self._gives_dimensions(answering.dimensions))
        self._check_takes_transcripts(answering.transcribe)
        size = checked_count("batch_size", self._batch_size if batch_size is None else batch_size) or 1
        turns = self._turns([context] if single and context is not None else context)
        pairs = paired(inputs, text, single)
        # A generator may be a microphone: its answers must not wait for clips that are not there yet.
        # A recogniser gets whole recordings, of which few are kept in memory at a time.
        reads_few = single or size == 1 or isinstance(inputs, Iterator) or answering.transcribe is not None
        ahead = 1 if reads_few else BATCHES_AHEAD
        answers = self._answers(pairs, turns, size, answering, options, ahead)
        if single:
            return next(answers)
        return answers if isinstance(inputs, Iterator) else list(answers)

    def _answers(
        self, pairs: Iterator[tuple], turns: Iterator, size: int, answering: Answering, options: dict, ahead: int = 1
    ) -> Iterator[Scores | Dimensions]:
        """Yield the answers in the order of the clips; of those that are read at a time, like lengths are batched."""
        while block := list(islice(pairs, size * ahead)):
            items, context = [item for item, _ in block], list(islice(turns, len(block)))
            if len(context) < len(block):
                raise ValueError("context has fewer entries than there are clips: expected a list of turns for each.")
            texts = self._texts(items, [text for _, text in block])
            given = zip(items, texts, context, strict=True)
            clips = [self._decoded(item, answering.channel, *known, answering.transcribe) for item, *known in given]
            order = sorted(range(len(clips)), key=lambda number: clips[number].length, reverse=True)
            found = {}
            for start in range(0, len(order), size):
                batch = order[start : start + size]
                found |= zip(batch, self._answers_of([clips[one] for one in batch], answering, options), strict=True)
            yield from (found[number] for number in range(len(clips)))

    def _answers_of(self, batch: list[ReadClip], answering: Answering, options: dict) -> Iterator[Scores | Dimensions]:
        """Yield the answers of one forward pass."""
        clips, texts = [one.samples for one in batch], [one.text for one in batch]
        is_wanted = answering.familiarity and self.knows_training_data
        with layer_inputs(last_layers(self.model) if answering.embeddings or is_wanted else {}) as given:
            outputs = self._outputs(clips, texts, answering.statistics, [one.context for one in batch])
        vectors = side_by_side(given) if answering.embeddings else [None] * len(batch)
        alike = self.familiarity(side_by_side(given), clips, texts) if is_wanted else [None] * len(batch)
        confidences = [None] * len(batch)
        if self.model.config.num_labels:
            confidences = self.calibrated(outputs["logits"].float()).amax(-1).tolist()
        answers = self.postprocess(outputs, **options)
        for clip, answer, confidence, vector, known in zip(batch, answers, confidences, vectors, alike, strict=True):
            unsure = self.is_unsure(confidence, clip.notes, answering.abstain_below)
            doubts = tuple(clip.notes.values()), unsure, answering.abstain_below is not None
            scores = Scores(answer, *doubts, vector, answer.dimensions, known, clip.transcript)
            yield Dimensions(scores) if answering.dimensions else scores

    def _check_takes_transcripts(self, transcribe: Callable | None) -> None:
        """Raises ValueError where there is a recogniser that cannot be called, or a model that takes no transcripts."""
        if transcribe is None:
            return
        if not callable(transcribe):
            raise ValueError(
                f"transcribe is {transcribe!r}: expected a function of the samples that returns their text, such as "
                'pipeline("automatic-speech-recognition").'
            )
        if self.modalities != (AUDIO, TEXT):
            raise ValueError(
                f"This model was trained on {self.modalities[0]} alone: leave out `transcribe`, or load a fused model."
            )

    def _gives_dimensions(self, wanted: bool | None) -> bool:
        """Whether answers are dictionaries of dimensions; by default those of a model without classes.

        Raises:
            ValueError: they are wanted of a model that predicts none.
        """
        config = self.model.config
        if wanted and not getattr(config, "dimensions", None):
            raise ValueError(
                f"dimensions is {wanted!r}: found a model that predicts no valence, arousal or dominance. Expected one "
                "that was trained with --target dimensions or both: leave dimensions out."
            )
        return not config.num_labels if wanted is None else bool(wanted)

    def is_unsure(self, confidence: float | None, notes: Mapping[str, str], abstain_below: float | None = None) -> bool:
        """Whether an answer is not to be relied on: no speech was found, or it is below a threshold.

        Args:
            confidence: The best calibrated score, whatever scores are returned; None where it is not known.
            notes: Of the clip, as `read` gives them.
            abstain_below: The threshold; None is the model's own.
        """
        threshold = getattr(self.model.config, "abstain_threshold", None) if abstain_below is None else abstain_below
        is_low = confidence is not None and threshold is not None and confidence < threshold
        return is_low or NO_SPEECH in notes

    @property
    def knows_training_data(self) -> bool:
        """Whether the model can say how alike a clip is to its training data."""
        return getattr(self.model, "familiarity", None) is not None

    def familiarity(
        self, vectors: np.ndarray, clips: Sequence[np.ndarray | None], texts: Sequence[str | None]
    ) -> list[float | None]:
        """How alike rows are to the training data, by their embeddings; None of a row that lacks audio or text.

        Shapes: vectors `(rows, size)`.
        """
        with torch.no_grad():
            found = self.model.familiarity(torch.from_numpy(vectors).to(self.model.device)).tolist()
        # A text of unknown words counts as missing, as it does for the model.
        known = [bool((text or "").strip()) and "unknown_words" not in self.text_notes(text) for text in texts]
        given = {AUDIO: [clip is not None for clip in clips], TEXT: known}
        is_whole = zip(*(given[one] for one in self.modalities), strict=True)
        return [one if all(there) else None for one, there in zip(found, is_whole, strict=True)]

    def answers(
        self,
        clips: Sequence[np.ndarray | None],
        texts: Sequence,
        statistics=None,
        embeddings: bool = False,
        **options,
    ) -> list[Scores]:
        """Labels with scores of a batch of decoded clips, most probable first, their dimensions and familiarity.

        Args:
            clips: As `read` gives them; None where a fused model is to do without.
            texts: Text of each; None where it is not known.
            statistics: Of the one speaker of all clips, as `speaker_statistics` gives them.
            embeddings: Whether each answer gets what the model's last layer was given.
            options: `top_k` and `function_to_apply`, as `__call__` takes them.
        """
        with layer_inputs(last_layers(self.model) if embeddings or self.knows_training_data else {}) as given:
            answers = self.postprocess(self._outputs(clips, texts, statistics), **options)
        vectors = side_by_side(given) if given else [None] * len(answers)
        alike = self.familiarity(vectors, clips, texts) if self.knows_training_data else [None] * len(answers)
        for answer, vector, known in zip(answers, vectors, alike, strict=True):
            answer.embedding, answer.familiarity = vector if embeddings else None, known
        return answers

    def _turns(self, context) -> Iterator[list[str] | None]:
        """The previous turns of each text, as many as the model reads; None each where none are given.

        Raises:
            ValueError: the model reads none, or they are no lists of texts.
        """
        if context is None:
            return repeat(None)
        if not (most := self.context_turns):
            raise ValueError("This model reads no previous turns: leave out `context`, or train with --context.")
        if isinstance(context, str) or any(isinstance(one, str) for one in context):
            raise ValueError("context is a text: expected a list of the previous turns; of several clips a list each.")
        return iter([[text for turn in one or () if (text := one_text(turn))][-most:] for one in context])

    @property
    def context_turns(self) -> int:
        """How many previous turns of a dialogue the model reads beside a text."""
        return getattr(self.model.config, "context_turns", 0)

    def _outputs(self, clips: Sequence[np.ndarray | None], texts: Sequence, statistics, context: Sequence = ()):
        inputs = self.extract(list(clips), list(texts), list(context))
        if statistics is not None:
            inputs["speaker_statistics"] = statistics.expand(len(clips), -1, -1)
        return self.forward(inputs)

    def calibrated(self, logits: torch.Tensor) -> torch.Tensor:
        """Probabilities, as validation speakers have calibrated them; shapes `(batch, classes)`."""
        return (logits / self.temperature).softmax(-1)

    @property
    def temperature(self) -> float:
        """What the logits are divided by; 1 where the model was not calibrated."""
        return getattr(self.model.config, "calibration_temperature", None) or 1.0

    def _sanitize_parameters(
        self,
        top_k: int | None = None,
        function_to_apply: str | None = None,
        abstain_below: float | None = None,
        embeddings: bool = False,
        dimensions: bool | None = None,
        familiarity: bool = False,
        transcribe: Callable | None = None,
    ):
        answering = {"abstain_below": checked_share("abstain_below", abstain_below), "embeddings": embeddings}
        answering |= {"dimensions": dimensions, "familiarity": familiarity, "transcribe": transcribe}
        return {}, answering, {"top_k": checked_count("top_k", top_k), **checked_function(function_to_apply)}

    def preprocess(self, items: list, texts: list, channel: str = MIX) -> dict:
        """Decode and extract a batch of clips with their texts."""
        known = self._texts(items, texts)
        return self.extract([self._decoded(item, channel).samples for item in items], known)

    def _texts(self, items: list, texts: list) -> list[str | None]:
        """The text of each item, given or brought along; None each of a model of audio alone.

        Raises:
            ValueError: an item without what the model takes, or a text that it does not take.
        """
        if TEXT not in self.modalities:
            if any(text is not None for text in texts):
                raise ValueError("This model was trained on audio alone: leave out `text`, or load a fused model.")
            if any(item is None for item in items):
                raise ValueError("A clip is None. This model has audio alone: expected audio for each; leave it out.")
            return texts
        known = [text_of(item) if text is None else text for item, text in zip(items, texts, strict=True)]
        if AUDIO not in self.modalities and not all(known):
            raise ValueError("A clip has no text, and this model takes text alone: leave it out.")
        if any(item is None and not text for item, text in zip(items, known, strict=True)):
            raise ValueError("A clip is None and has no text: expected audio, a text, or both. Leave it out.")
        return known

    def _decoded(
        self,
        item,
        channel: str,
        text: str | None = None,
        context: list[str] | None = None,
        transcribe: Callable | None = None,
    ) -> ReadClip:
        """Read a clip, and warn of its notes; an item without audio has no samples."""
        samples, notes, transcript = None, {}, None
        if item is not None and AUDIO in self.modalities:
            is_transcribed = transcribe is not None and text is None
            samples, notes = self.read(item, channel, whole=is_transcribed)
            if is_transcribed:
                rate = self.feature_extractor.sampling_rate
                text = transcript = transcript_of(samples, rate, transcribe, name_of_clip(item))
        notes = notes | self.text_notes(text, context)
        for note in notes.values():
            # A name may hold what would control a terminal.
            shown = "".join(one if one.isprintable() else repr(one)[1:-1] for one in f"{name_of_clip(item)}: {note}")
            # Without the place in this code, which says nothing to whoever gave the clip.
            warnings.warn_explicit(shown, UserWarning, "hf_ser", 0, __name__, registry=_WARNED)
        return ReadClip(samples, text, context, notes, transcript)

    def text_notes(self, text: str | None, context: list[str] | None = None) -> dict[str, str]:
        """What a person should know of a text that the model is given, by its kind; context: the turns before it."""
        text = (one_text(text) or "").strip()
        if not text or TEXT not in self.modalities:
            return {}
        notes, ids = {}, self.tokenizer(text, verbose=False)["input_ids"]
        if len(ids) > (longest := self.tokenizer.model_max_length):
            notes["text_cut"] = f"text truncated: the first {longest} of its {len(ids)} tokens count"
        if not has_known_word(self.tokenizer, ids):
            notes["unknown_words"] = "the model knows no word of the text, which counts as missing"
        if self.context_turns and context is None:
            notes["no_context"] = (
                f"the model also reads the {self.context_turns} turns before a text: give context=[...]"
            )
        return notes

    def extract(self, clips: list[np.ndarray | None], texts: list, context: Sequence[list[str] | None] = ()) -> dict:
        """Make the model's inputs of clips that are decoded, as a prepared data set has them, and their texts.

        Args:
            context: Previous turns of each text, where any are given.
        """
        clips, texts = (clips if AUDIO in self.modalities else None), (texts if TEXT in self.modalities else None)
        if self.is_ours:
            turns = [one or [] for one in context] if any(context) else None
            return dict(SerProcessor(self.feature_extractor, self.tokenizer).features(clips, texts, turns))
        if clips is not None:
            return classifier_inputs(self.feature_extractor, clips)
        tokens = text_inputs(self.tokenizer, texts, empty_is_text=True)
        return {"input_ids": tokens["input_ids"], "attention_mask": tokens["text_mask"]}

    def speaker_statistics(self, enrolment) -> torch.Tensor:
        """Mean and deviation of each band over one clip or more of a speaker, `(2, bands)`, as in evaluation.

        Of a head that is solved for: what it takes off the speaker's clips, `(views, size)`.

        Raises:
            ValueError: the model is not normalised by speaker, or there is no clip.
        """
        front_end = self.speaker_front_end
        if front_end is None:
            raise ValueError(
                "Enrolment clips were given to a model that was not trained with --normalisation speaker: leave out "
                "`enrolment`."
            )
        items = [enrolment] if is_one_clip(enrolment) else list(each_of(enrolment))
        if not items:
            raise ValueError("0 enrolment clips: expected one or more, or leave out `enrolment`.")
        return front_end.speaker_scaling(front_end.moments(self._waveforms(items)))

    @property
    def speaker_front_end(self) -> SpectrogramFrontEnd | HeadEnrolment | None:
        """What enrols a speaker for a model that was trained with per-speaker normalisation; None of any other."""
        if getattr(self.model.config, "speaker_views", 0):
            return HeadEnrolment(self.model)
        front_end = getattr(getattr(self.model, "audio_encoder", None), "front_end", None)
        return front_end if getattr(front_end, "normalisation", None) == "speaker" else None

    @property
    def seconds_to_read(self) -> float | None:
        """How much of a file the model needs; None is all of it."""
        return seconds_to_read(self.feature_extractor)

    def _waveforms(self, items: list) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Shapes: waveforms and mask `(batch, samples)`."""
        for start in range(0, len(items), ENROLMENT_BATCH):
            clips = [self.decode(item) for item in items[start : start + ENROLMENT_BATCH]]
            batch = audio_inputs(self.feature_extractor, clips)
            yield batch["input_values"].to(self.device), batch["audio_mask"].to(self.device)

    def decode(self, item, channel: str = MIX) -> np.ndarray:
        """One input to `(samples,)` float32 at the model's rate; warns of each note of `read`."""
        return self._decoded(item, channel).samples

    def read(
        self,
        item,
        channel: str = MIX,
        start_seconds: float | None = None,
        end_seconds: float | None = None,
        whole: bool = False,
    ) -> tuple[np.ndarray, dict[str, str]]:
        """One input as the model gets it, and what a person should know of it: notes by their kind.

        Kinds are those of `source_notes`; `cut_short`, where the part ends beyond the file; `channels`, where more than
        two are averaged; `cut`, where the model takes only the beginning; and `no_speech`.

        Args:
            item: What `__call__` takes as one clip.
            channel: `mix`, `left` or `right`.
            start_seconds, end_seconds: The part of it; None is its beginning or its end.
            whole: Read also what is beyond the seconds that the model takes.

        Shapes:
            `(samples,)` float32 at the model's rate.

        Raises:
            FileNotFoundError, ValueError: it cannot be read, or holds no audio that a model could judge.
        """
        rate = self.feature_extractor.sampling_rate
        source = item["audio"] if is_row(item) else item
        start_seconds, end_seconds, channel = part_of(item, start_seconds, end_seconds, channel)
        # As in transformers, a bare array is taken at the model's own rate.
        most = None if whole else self.seconds_to_read
        audio = read_audio(with_rate(source, rate), rate, start_seconds, end_seconds, channel, most)
        if problem := audio_problem(audio.samples, rate):
            kind, detail = problem
            detail += scale_hint(kind, audio.subtype, audio.peak)
            raise ValueError(problem_message(name_of_clip(item), kind, detail, channel))
        notes = {kind: as_text(kind, detail) for kind, detail in source_notes(audio.samples, audio).items()}
        there = audio.source_seconds if audio.source_seconds is not None else len(audio.samples) / rate
        if short := part_note(start_seconds, end_seconds, there):
            notes["cut_short"] = short
        if audio.channels > (1 if has_rows(source) else 2) and channel == MIX and not audio.channels_equal:
            notes["channels"] = f"{audio.channels} channels, {mixed(False, channel, audio.channel)}"
            notes["channels"] += "; two clips are given as a list" * has_rows(source)
        if cut := self.cut_note(audio.samples, audio.source_seconds, audio.complete):
            notes["cut"] = cut
        longest = longest_seconds(self.feature_extractor)
        if found := no_speech(audio.samples[: int(longest * rate)] if longest else audio.samples, rate):
            notes[NO_SPEECH] = found
        return audio.samples, notes

    def cut_note(self, samples: np.ndarray, source_seconds: float | None, complete: bool) -> str | None:
        """What to tell of a clip that is longer than the model takes; None where all of it counts.

        Args:
            samples: What was read of it, at the model's rate.
            source_seconds: Its whole length, None where that is not known.
            complete: Whether all of it was read.
        """
        longest, rate = longest_seconds(self.feature_extractor), self.feature_extractor.sampling_rate
        if longest is None:
            return None
        if complete:
            if getattr(self.feature_extractor, "trim_silence", False):
                samples = trimmed(samples, rate)
            if len(samples) <= int(longest * rate):
                return None
        whole = "more than that" if source_seconds is None else f"{source_seconds:.1f} s"
        return f"only the first {longest:g} s count, of {whole}: the model takes no more; cut the file for the rest"

    def _forward(self, model_inputs: dict):
        if not self.is_ours:  # ours cast where they need to; an extractor gives float32, whatever the weights are
            model_inputs = {
                name: values.to(self.model.dtype) if values.is_floating_point() else values
                for name, values in model_inputs.items()
            }
        return self.model(**model_inputs)

    def postprocess(self, model_outputs, top_k: int | None = None, function_to_apply: str = "softmax") -> list[Scores]:
        """Logits `(batch, classes)` to labels with scores, calibrated where validation speakers gave a temperature.

        The dimensions of a model that predicts some are cut to the ends of their scale.
        """
        names, logits = self.model.config.id2label, model_outputs["logits"].float()
        check_finite(logits, self.model.name_or_path)
        if function_to_apply == "softmax":
            scores = self.calibrated(logits)
        else:
            scores = logits if function_to_apply == "none" else (logits / self.temperature).sigmoid()
        return [
            Scores(
                ({"label": names[int(i)], "score": float(row[i])} for i in row.argsort(descending=True)[:top_k]),
                dimensions=of_row,
            )
            for row, of_row in zip(scores, self._dimensions(model_outputs), strict=True)
        ]

    def _dimensions(self, model_outputs) -> list[dict[str, float] | None]:
        """The dimensions of each row; None each of a model that predicts none."""
        config, values = self.model.config, model_outputs.get("dimensions")
        names = getattr(config, "dimensions", None)
        if not names or values is None:
            return [None] * len(model_outputs["logits"])
        check_finite(values, self.model.name_or_path)
        return [
            dict(zip(names, row, strict=True)) for row in within_scale(values.float(), config.dimension_scale).tolist()
        ]
