"""Models whose features are scaled by speaker: every way to ask them gives the answers of their evaluation."""

import json
from dataclasses import replace

import numpy as np
import pytest
import soundfile as sf
import torch
from example_fold import trained
from models.tiny import LABELS, assert_same_scores, awaken, save_trained

from hf_ser.checks.stress.conditions import OtherRows
from hf_ser.checks.stress.run import CLEAN, CacheKey, run_conditions, select_rows
from hf_ser.data.prepared import load_prepared
from hf_ser.inputs.collate import Collator
from hf_ser.inputs.collate import clips as waveforms_of
from hf_ser.inputs.speakers import enrolment_note, enrolment_rows, speaker_statistics
from hf_ser.models import (
    SerConfig,
    SerModelForClassification,
    SerProcessor,
    SpectrogramConfig,
    WaveformFeatureExtractor,
)
from hf_ser.publish.model_card import write_model_card
from hf_ser.runs.classifier import Classifier, statistics_of_rows
from hf_ser.runs.embeddings import embeddings
from hf_ser.runs.record import Split, TrainingRecord, row_hashes, write_record
from hf_ser.training.building import label_maps

SEED = 3


@pytest.fixture(scope="module")
def data(prepared):
    return load_prepared(prepared)


@pytest.fixture(scope="module", params=[0, 3], ids=["all clips", "3 clips"])
def tested(request, data, tmp_path_factory):
    """Model folder, clips to enrol, a speaker's rows, and their probabilities as training evaluates them."""
    speakers, folder = data["speaker"][:], tmp_path_factory.mktemp("model")
    who = max(set(speakers))
    train, rows = ([i for i, one in enumerate(speakers) if (one == who) == test] for test in (False, True))
    encoder = SpectrogramConfig(channels=(4, 8, 8, 8), hidden_size=32, front_end={"normalisation": "speaker"})
    torch.manual_seed(0)
    config = SerConfig(audio_config=encoder, head_size=16, **label_maps(LABELS))
    model, extractor = awaken(SerModelForClassification(config)), WaveformFeatureExtractor()
    known = speaker_statistics(data, model.audio_encoder.front_end, extractor, request.param, SEED, train)
    model.save_pretrained(folder)
    extractor.save_pretrained(folder)
    trained, chosen = row_hashes(data, train), row_hashes(data, [])
    split = Split(fold="1", split_fingerprint="x", train=trained, validation=chosen)
    settings = {"enrolment_clips": request.param} if request.param else {}
    write_record(folder, TrainingRecord(finished=True, split=split, settings=settings, seed=SEED))
    batch = Collator(SerProcessor(extractor))([data[row] | {"speaker_statistics": known[who]} for row in rows])
    with torch.inference_mode():
        answers = model(**{name: values for name, values in batch.items() if name != "labels"}).logits.softmax(-1)
    return folder, request.param, rows, answers.numpy()


def test_pipeline_classifier_and_stress_answer_as_the_evaluation_did(tested, data, prepared, tmp_path):
    folder, number, rows, expected = tested
    classifier = Classifier(str(folder), "cpu")
    sounds, texts = waveforms_of([data[row] for row in rows]), [None] * len(rows)
    enrolled = waveforms_of([data[row] for row in enrolment_rows(data, number, SEED)[data[rows[0]]["speaker"]]])
    said = classifier.pipeline(sounds, enrolment=enrolled, batch_size=4)
    scores = [[next(a["score"] for a in one if a["label"] == name) for name in LABELS] for one in said]
    np.testing.assert_allclose(scores, expected, atol=1e-5)
    one, listed = (classifier.pipeline(sounds[0], enrolment=given) for given in (enrolled[0], enrolled[:1]))
    assert_same_scores(one, listed)
    statistics, notices = statistics_of_rows(classifier, data, rows)
    assert notices == [enrolment_note(number)]
    np.testing.assert_allclose(classifier.probabilities(sounds, texts, 4, statistics), expected, atol=1e-5)
    assert np.abs(classifier.probabilities(sounds, texts) - expected).max() > 1e-2, "it does matter"
    chosen = select_rows(classifier, prepared, max_clips=5)
    assert enrolment_note(number) in chosen.notices
    (clean,), _ = run_conditions(classifier, chosen, [], tmp_path)
    place = {data[row]["id"]: position for position, row in enumerate(rows)}
    for name, answer in clean.probabilities.items():
        np.testing.assert_allclose(answer, expected[place[name]], atol=1e-5)
    inner = embeddings(classifier, sounds, texts, speaker_statistics=statistics)
    np.testing.assert_allclose(inner, embeddings(classifier, sounds, texts, 1, statistics), atol=1e-4)
    assert np.abs(inner - embeddings(classifier, sounds, texts)).max() > 1e-2


def test_predict_takes_enrolment_and_says_what_is_lost_without(tested, data, tmp_path, script, capsys):
    folder, number, rows, expected = tested
    enrolled = enrolment_rows(data, number, SEED)[data[rows[0]]["speaker"]]
    files = {}
    for row in {rows[0], *enrolled}:
        files[row] = tmp_path / f"{row}.wav"
        sf.write(files[row], waveforms_of([data[row]])[0], 16_000, subtype="FLOAT")
    script("predict", folder, files[rows[0]], "--json", "--enrolment", *(files[row] for row in enrolled))
    told, noted = capsys.readouterr()
    probabilities = json.loads(told)["scores"]
    np.testing.assert_allclose([probabilities[name] for name in LABELS], expected[0], atol=1e-5)
    assert "note" not in noted
    script("predict", folder, files[rows[0]], "--json")
    told, noted = capsys.readouterr()
    assert json.loads(told)["scores"] != probabilities
    assert "scaled by itself, which is less accurate: give other clips of the speaker with --enrolment" in noted
    silent = tmp_path / "silent.wav"
    sf.write(silent, np.zeros(16_000), 16_000)
    with pytest.raises(ValueError, match=r"silent.wav: silent.*Expected a voice of 0.1 s or more"):
        script("predict", folder, files[rows[0]], "--enrolment", silent)


def test_what_cannot_be_scaled_is_refused(tested, data, tmp_path):
    classifier = Classifier(str(tested[0]), "cpu")
    with pytest.raises(ValueError, match="0 enrolment clips: expected one or more"):
        classifier.pipeline(np.ones(8000, dtype=np.float32), enrolment=[])
    nameless = data.remove_columns("speaker").add_column("speaker", [None] * len(data))
    with pytest.raises(ValueError, match=r"2 of 2 clips have no speaker.*use data with speakers"):
        statistics_of_rows(classifier, nameless, [0, 1])
    other = Classifier(str(save_trained("fusion", tmp_path)), "cpu")
    assert statistics_of_rows(other, nameless, [0]) == (None, [])
    sound = np.ones(8000, dtype=np.float32)
    with pytest.raises(ValueError, match="not trained with --normalisation speaker: leave out `enrolment`"):
        other.pipeline(sound, enrolment=[sound])


def test_the_card_shows_how_to_enrol(tmp_path):
    folder = trained(tmp_path / "fold_1")
    assert "enrolment" not in write_model_card(folder).read_text()
    config = json.loads((folder / "config.json").read_text())
    config["audio_config"]["front_end"] = {"normalisation": "speaker"}
    (folder / "config.json").write_text(json.dumps(config))
    card = write_model_card(folder).read_text()
    assert 'ask("call.wav", enrolment=["other1.wav", "other2.wav"])' in card
    assert "The figures above were measured with speaker statistics: transductive" in card


def test_the_stress_test_keeps_its_answers_where_statistics_differ_by_rounding(tested, data, prepared):
    classifier = Classifier(str(tested[0]), "cpu")
    chosen = select_rows(classifier, prepared, max_clips=5)
    others = OtherRows(chosen.dataset)

    def key(chosen) -> str:
        return CacheKey(classifier, chosen, others, 0).of(CLEAN)

    rounded = replace(chosen, speaker_statistics=chosen.speaker_statistics * np.float32(1 + 1e-6))
    assert (rounded.speaker_statistics != chosen.speaker_statistics).any()
    assert key(rounded) == key(chosen)
    speakers, wanted = data["speaker"][:], {data[row]["speaker"] for row in chosen.rows}
    beside = next(i for i, one in enumerate(speakers) if one in wanted and i not in chosen.rows)
    sounds = ["another" if row == beside else one for row, one in enumerate(chosen.dataset["pcm_sha256"][:])]
    changed = chosen.dataset.remove_columns("pcm_sha256").add_column("pcm_sha256", sounds)
    assert key(replace(chosen, dataset=changed)) != key(chosen), "a clip that the speaker is known by"
