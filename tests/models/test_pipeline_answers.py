"""What the pipeline answers: order, batches, streams, abstaining and embeddings."""

import calls
import numpy as np
import pytest
from datasets import Audio, Dataset
from models.tiny import LABELS, assert_same_scores, audio_only, fused, save_trained
from transformers import Pipeline, pipeline

from hf_ser.models import SerPipeline
from hf_ser.models.pipeline_answers import Answering
from hf_ser.runs.classifier import Classifier
from hf_ser.runs.embeddings import embeddings

RATE = 16_000


@pytest.fixture(scope="module")
def clips():
    return [0.5 * calls.voice(seed, 0.5 + 0.3 * (seed % 3)) for seed in range(7)]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A folder with a calibrated model."""
    return save_trained("audio", tmp_path_factory.mktemp("audio"))


@pytest.fixture(scope="module")
def ask(model):
    return Classifier(str(model), "cpu").pipeline


def test_answers_are_in_order_and_equal_under_any_batch_size(ask, clips):
    alone = [ask(clip) for clip in clips]
    for size in (1, 2, 3, 16):
        for one, other in zip(ask(clips, batch_size=size), alone, strict=True):
            assert_same_scores(one, other)
            assert (one.unsure, one.notes) == (other.unsure, other.notes)


def test_clips_of_like_length_are_batched_together_and_answered_in_order(ask, monkeypatch):
    clips = [0.5 * calls.voice(seed, 0.5 + (seed % 2)) for seed in range(8)]  # a short one, a long one, ...
    alone, batches, forward = [ask(clip) for clip in clips], [], ask.model.forward

    def counted(**inputs):
        batches.append(inputs["audio_mask"].sum(-1).tolist())
        return forward(**inputs)

    monkeypatch.setattr(ask.model, "forward", counted)
    answers = ask(clips, batch_size=4)
    assert [len(set(lengths)) for lengths in batches] == [1, 1] and sum(map(len, batches)) == 8
    for one, other in zip(answers, alone, strict=True):
        assert_same_scores(one, other)


def test_a_generator_is_read_one_batch_at_a_time(ask, clips):
    read = []

    def given():
        for number in range(1000):
            read.append(number)
            yield clips[number % 7]

    answers, alone = ask(given(), batch_size=4), ask(clips[:7])
    assert not read
    for number in range(9):
        assert_same_scores(next(answers), alone[number % 7])
        assert len(read) == 4 * (number // 4 + 1)


def test_rows_of_a_data_set_are_read_one_batch_at_a_time(ask, clips):
    class Counted:
        """As a column of a data set, which is read by number."""

        taken = 0

        def __len__(self):
            return len(clips)

        def __getitem__(self, index):
            Counted.taken += 1
            return {"array": clips[index], "sampling_rate": RATE}

    answers = ask._answers(((Counted()[n], None) for n in range(7)), ask._turns(None), 2, Answering("mix"), {})
    next(answers)
    assert Counted.taken == 2
    assert len(ask(Counted())) == 7


def test_a_column_of_a_data_set_is_answered_in_order(ask, clips, tmp_path):
    import soundfile as sf

    names = [str(tmp_path / f"{number}.wav") for number in range(3)]
    for name, clip in zip(names, clips, strict=False):
        sf.write(name, clip, RATE, subtype="FLOAT")
    rows = Dataset.from_dict({"audio": names}).cast_column("audio", Audio(decode=False))
    for one, other in zip(ask(rows["audio"], batch_size=2), [ask(name) for name in names], strict=True):
        assert_same_scores(one, other)


def test_abstaining_is_by_the_threshold_that_is_given(ask, clips):
    answer = ask(clips[0])
    best = answer[0]["score"]
    assert answer.label == answer[0]["label"] and answer.unsure == (best < 0.4)
    below, above = ask(clips[0], abstain_below=best - 0.01), ask(clips[0], abstain_below=best + 0.01)
    assert (below.unsure, below.label) == (False, answer.label)
    assert (above.unsure, above.label) == (True, None) and list(above) == list(answer)
    for wrong in (1.5, -0.1, "0.5", True):
        with pytest.raises(ValueError, match=r"abstain_below is .*: expected a number from 0 to 1"):
            ask(clips[0], abstain_below=wrong)


def test_settings_are_given_once_for_all_calls_too(model, clips):
    always = pipeline(
        "audio-classification",
        model=str(model),
        trust_remote_code=True,
        top_k=2,
        abstain_below=1.0,
        embeddings=True,
        device="cpu",
    )
    answer = always(clips[0])
    assert len(answer) == 2 and answer.label is None and answer.embedding is not None
    other = always(clips[0], top_k=1, abstain_below=0.0, embeddings=False)
    assert len(other) == 1 and other.label in LABELS and other.embedding is None


def test_embeddings_are_those_of_the_package_in_order(model, ask, clips):
    expected = embeddings(Classifier(str(model), "cpu"), [np.float32(clip) for clip in clips], [None] * 7)
    for size in (1, 3):
        found = ask([np.float32(clip) for clip in clips], batch_size=size, embeddings=True)
        np.testing.assert_allclose([one.embedding for one in found], expected, atol=1e-5)
    assert ask(clips[0]).embedding is None


def test_embeddings_of_late_fusion_are_both_branches(clips):
    model, processor = fused(fusion="mean")
    parts = {"feature_extractor": processor.feature_extractor, "tokenizer": processor.tokenizer}
    ask = SerPipeline(model=model, task="audio-classification", **parts)
    both = ask(clips[0], text="hello you", embeddings=True).embedding
    model, extractor = audio_only()
    one = SerPipeline(model=model, feature_extractor=extractor, task="audio-classification")
    assert both.shape[0] >= 2 * one(clips[0], embeddings=True).embedding.shape[0]


@pytest.fixture(scope="module")
def both():
    """A model of audio and text that takes 3 seconds."""
    model, processor = fused()
    parts = {"feature_extractor": processor.feature_extractor, "tokenizer": processor.tokenizer}
    return SerPipeline(model=model, task="audio-classification", **parts)


def test_a_recogniser_gives_the_texts_that_are_not_given(both, clips):
    transcribed = []

    def transcribe(samples):
        transcribed.append(len(samples))
        return {"text": " hello you "}

    answers = both(clips[:3], text=["what a day", None, "what a day"], transcribe=transcribe, batch_size=2)
    expected = both(clips[:3], text=["what a day", "hello you", "what a day"])
    for one, other in zip(answers, expected, strict=True):
        assert_same_scores(one, other)
    assert [one.text for one in answers] == [None, "hello you", None] and transcribed == [len(clips[1])]
    assert_same_scores(both(clips[0], transcribe=lambda samples: ""), both(clips[0]))


def test_a_recogniser_gets_the_whole_clip_and_may_be_a_pipeline_of_transformers(both, tmp_path):
    import soundfile as sf

    class Recogniser(Pipeline):
        """As that of transformers takes its input."""

        def __init__(self):
            self.given = []

        def __call__(self, inputs):
            self.given.append((len(inputs["raw"]), inputs["sampling_rate"]))
            return {"text": "hello"}

        def _sanitize_parameters(self, **settings): ...

        def preprocess(self, inputs): ...

        def _forward(self, inputs): ...

        def postprocess(self, outputs): ...

    sf.write(tmp_path / "long.wav", 0.5 * calls.voice(1, 8.0), RATE)
    recogniser = Recogniser()
    answer = both(str(tmp_path / "long.wav"), transcribe=recogniser)
    assert recogniser.given == [(8 * RATE, RATE)] and answer.text == "hello"
    assert any("only the first 3 s count, of 8.0 s" in note for note in answer.notes)
    with pytest.warns(UserWarning, match="only the first 3 s count"):
        assert_same_scores(answer, both(str(tmp_path / "long.wav"), text="hello"))


@pytest.mark.parametrize(
    ("transcribe", "message"),
    [
        (lambda samples: None, r"transcribe returned 'None' \(NoneType\)\. Expected a text"),
        (lambda samples: {}["text"], r"long\.wav: transcribe failed \(KeyError: 'text'\)\. Expected a recogniser"),
        ("openai/whisper-tiny", r"transcribe is 'openai/whisper-tiny': expected a function"),
    ],
)
def test_a_recogniser_that_fails_is_told_with_the_clip(both, tmp_path, transcribe, message):
    import soundfile as sf

    sf.write(tmp_path / "long.wav", 0.5 * calls.voice(1, 1.0), RATE)
    with pytest.raises(ValueError, match=message):
        both(str(tmp_path / "long.wav"), transcribe=transcribe)


def test_a_model_of_audio_alone_takes_no_recogniser(ask, clips):
    with pytest.raises(ValueError, match="audio alone: leave out `transcribe`, or load a fused model"):
        ask(clips[0], transcribe=lambda samples: "hello")
