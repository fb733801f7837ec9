"""A solved head reads the mean of the previous turns beside the text, in a batch as alone."""

import pytest
import torch
from models.tiny import clips, fused, text_only
from transformers import pipeline

from hf_ser.models import SerPipeline, SerProcessor, copy_code

RIDGE = {"pooling": "mean", "context_turns": 2}
TEXTS, CONTEXT = ["hello you", "what a day", "there"], [["there", "what"], [], ["a day"]]


@pytest.fixture(scope="module")
def model():
    """A text-only model, whose head is no longer as it was made, and its processor."""
    made, words = text_only("bert", head="ridge", **RIDGE)
    torch.nn.init.normal_(made.head.standardisation.mean)
    return made, SerProcessor(None, words)


def logits(model, texts, context=None) -> torch.Tensor:
    made, processor = model
    with torch.no_grad():
        return made(**processor.features(None, texts, context)).logits


def test_previous_turns_count_and_their_order_does_not(model):
    together = logits(model, TEXTS, CONTEXT)
    assert not torch.allclose(together[0], logits(model, TEXTS[:1])[0], atol=1e-3)
    torch.testing.assert_close(together[:1], logits(model, TEXTS[:1], [["what", "there"]]))


def test_a_text_without_turns_is_answered_as_without_context(model):
    torch.testing.assert_close(logits(model, TEXTS, CONTEXT)[1:2], logits(model, TEXTS[1:2]))
    torch.testing.assert_close(logits(model, TEXTS, [[]] * 3), logits(model, TEXTS))


def test_a_batch_answers_as_its_rows_alone(model):
    together = logits(model, TEXTS, CONTEXT)
    for row, alone in enumerate(zip(TEXTS, CONTEXT, strict=True)):
        torch.testing.assert_close(together[row], logits(model, *([one] for one in alone))[0], atol=1e-5, rtol=1e-5)


def test_frozen_features_are_the_text_and_the_turns_behind_it(model):
    made, processor = model
    batch = processor.features(None, TEXTS, CONTEXT)
    kept = made.frozen_part(**batch)
    assert kept["text_hidden"].shape == (3, 3, 32) and kept["text_mask"].sum(1).tolist() == [3, 1, 2]
    torch.testing.assert_close(made(**kept).logits, made(**batch).logits)


def test_beside_audio_a_missing_text_has_no_turns(tmp_path):
    made, processor = fused("whisper", "bert", fusion="ridge", **RIDGE)
    torch.nn.init.normal_(made.head.standardisation.mean)
    with torch.no_grad():
        without = made(**processor.features(clips(0.5, 0.5), None)).logits
        missing = made(**processor.features(clips(0.5, 0.5), [None, None], CONTEXT[:2])).logits
        given = made(**processor.features(clips(0.5, 0.5), TEXTS[:2], CONTEXT[:2])).logits
    torch.testing.assert_close(missing, without)
    assert not torch.allclose(given[0], without[0], atol=1e-3)


def test_other_heads_and_models_refuse_previous_turns(model):
    with pytest.raises(ValueError, match="context_turns is 2, head mlp: expected 0"):
        text_only("bert", pooling="mean", context_turns=2)
    plain, words = text_only("bert", head="ridge", pooling="mean")
    with pytest.raises(ValueError, match="this model reads no context"):
        plain(**SerProcessor(None, words).features(None, TEXTS, CONTEXT))


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory):
    made, processor = model
    folder = tmp_path_factory.mktemp("saved")
    made.save_pretrained(folder)
    processor.save_pretrained(folder)
    copy_code(folder, made)
    return folder


def test_the_pipeline_takes_turns_and_says_that_it_expects_them(folder):
    classify = SerPipeline.from_pretrained(folder)
    with pytest.warns(UserWarning, match="also reads the 2 turns before a text"):
        alone = classify(TEXTS)
    together = classify(TEXTS, context=CONTEXT)
    assert [one.notes for one in together] == [()] * 3
    assert together[0] != alone[0] and together[1] == alone[1]
    assert classify(TEXTS[0], context=CONTEXT[0]) == together[0]
    assert classify(TEXTS[0], context=["hello", *CONTEXT[0]]) == together[0]  # the latest two count


def test_the_saved_code_takes_them_too(folder):
    with pytest.warns(UserWarning, match="also reads the 2 turns"):
        classify = pipeline("text-classification", model=str(folder), trust_remote_code=True)
        alone = classify(TEXTS[0])
    assert classify(TEXTS[0], context=CONTEXT[0]) != alone


def test_turns_that_cannot_be_read_are_refused(folder, model):
    classify = SerPipeline.from_pretrained(folder)
    for given, said in ((["a"], "context is a text"), ([["a"]], "fewer entries than there are clips")):
        with pytest.raises(ValueError, match=said):
            classify(TEXTS, context=given)
    plain, words = text_only("bert", head="ridge", pooling="mean")
    with pytest.raises(ValueError, match="reads no previous turns"):
        SerPipeline(model=plain, tokenizer=words, task="text-classification")(TEXTS, context=CONTEXT)
