"""A fused model is compared with the encoders that it was built from."""

from rows import typed, write_predictions

from hf_ser.checks.audit.run import branch_findings
from hf_ser.runs.predictions import PREDICTIONS
from hf_ser.runs.record import RowHashes, Split, TrainingRecord

LABELS = ("sad", "happy", "angry")
CLIPS = 10


def predictions(right: tuple[int, ...]) -> list[dict]:
    """Of each class so many clips that are recognised."""
    return [
        {
            "id": f"{label}{clip}",
            "corpus": "c",
            "speaker": None,
            "sex": None,
            "protocol": "speaker_folds",
            "fold": "1",
            "split_fingerprint": "x",
            "leaks": [],
            "transcript_source": None,
            "reference": label,
            "votes": None,
            "temperature": None,
            "abstain_threshold": None,
            "probabilities": {one: 0.8 if one == (label if clip < n else other) else 0.1 for one in LABELS},
        }
        for label, other, n in zip(LABELS, (*LABELS[1:], LABELS[0]), right, strict=True)
        for clip in range(CLIPS)
    ]


def test_a_fused_model_is_below_its_encoder_by_more_than_rounding(tmp_path):
    part = RowHashes(ids=[], pcm=[], speakers=[])
    split = Split(fold="1", split_fingerprint="x", train=part, validation=part)
    record = TrainingRecord(split=split, sources={"audio": str(tmp_path)})
    write_predictions(tmp_path / PREDICTIONS, predictions((1, 2, 3)))  # recalls whose sum is 0.6 and one bit
    assert branch_findings(record, typed(predictions((3, 2, 1)))) == []
    (found,) = branch_findings(record, typed(predictions((3, 2, 0))))
    assert found.kind == "fusion_below_branch"
