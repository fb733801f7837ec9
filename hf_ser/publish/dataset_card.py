"""The report on a prepared data set: its pictures, and its card as the Hub shows one."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
from datasets import Dataset
from huggingface_hub import DatasetCard, DatasetCardData

from hf_ser.data.corpora import corpus_of
from hf_ser.data.protocols import sessions_part_speakers
from hf_ser.data.schema import UNKNOWN
from hf_ser.files import atomic_write, package_file
from hf_ser.markup import code_span, escaped
from hf_ser.normal_form import printable
from hf_ser.publish.dataset_plots import write_pictures
from hf_ser.runs.report_text import counted

CARD = "README.md"

HEAVY = ("audio", "fingerprint")
"""Columns that are too large to read completely for a report."""

HUB_LICENCES = (
    *("cc0-1.0", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0", "cc-by-nc-sa-4.0", "cc-by-nd-4.0", "cc-by-nc-nd-4.0"),
    *("mit", "apache-2.0", "odbl", "gpl-3.0"),
)
"""The Hub's names of licences; any other is `other`, and its text is in the card."""

SIZES = (
    *((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"), (10**7, "1M<n<10M")),
    (10**8, "10M<n<100M"),
)

START_SECONDS = 0.2
"""Exact zeros at the start for longer than this are a sign of a cut or padded clip."""

COLUMNS = {
    "id": "name of the utterance, unique over all corpora",
    "audio": "the clip, mono, 16 kHz, FLAC bytes; not decoded by `datasets`",
    "label": "emotion, index of the class",
    "votes": "raters' votes as a distribution over the classes",
    "corpus": "corpus of the clip",
    "speaker": "speaker",
    "sex": "`female` or `male`",
    "age": "years",
    "race": "as the corpus words it",
    "ethnicity": "as the corpus words it",
    "session": "recording session",
    "dialogue": "conversation that the utterance is a turn of",
    "dialogue_kind": "`impro` (improvised) or `script` (read from a play)",
    "script": "play that several speakers read",
    "scene": "script or improvised scenario",
    "sentence": "fixed sentence that several clips share",
    "split": "part that the corpus was published with",
    "transcript": "transcript",
    "transcript_source": "`reference`, or `<ASR id>@<revision>`",
    "valence": "mean of the raters, on the corpus's own scale",
    "activation": "mean of the raters, on the corpus's own scale",
    "dominance": "mean of the raters, on the corpus's own scale",
    "duration_seconds": "length of the clip",
    "level_dbfs": "loudness: RMS, dB under full scale",
    "leading_zeros_seconds": "exact zeros that the clip begins with",
    "source_format": "rate, channels and sample format of the file that was read",
    "source_bytes": "size of that file",
    "pcm_sha256": "hash of the samples",
    "fingerprint": "acoustic fingerprint, to find copies",
    "reference_transcript": "the corpus's own transcript; `transcript` has a recogniser's",
    "asr_avg_logprob": "mean log probability of the recogniser's tokens",
    "asr_no_speech_prob": "the recogniser's probability of no speech",
    "asr_compression_ratio": "bytes of the transcript to its bytes compressed, high where it repeats itself",
}
"""Meaning of the columns of `hf_ser.data.schema`."""


def write_dataset_report(dataset: Dataset, integrity: dict, folder: str | Path) -> list[Path]:
    """Draw the pictures of a data set and write its card, `README.md`, next to them.

    Args:
        dataset: Rows typed by `hf_ser.data.schema.features`; the audio of one clip a class is read.
        integrity: Result of `hf_ser.data.prepare.prepare`.
        folder: Folder to write to; created if missing.

    Returns:
        The files that were written, the card last.

    Raises:
        FileNotFoundError: the card's template is missing.
        ValueError: the data set has no rows.
    """
    if len(dataset) == 0:
        raise ValueError("The data set has no rows, expected some to report on: prepare it again.")
    folder = Path(folder)
    table = light_table(dataset)
    card = make_card(table, integrity, folder.resolve().name)  # first, so that a missing template leaves nothing
    pictures = write_pictures(dataset, table, folder, notice(table))
    with atomic_write(folder / CARD) as file:
        file.write(str(card))
    return [*pictures, folder / CARD]


def light_table(dataset: Dataset) -> pd.DataFrame:
    """All columns except the audio: labels as categories, missing speaker and sex as `UNKNOWN`.

    Sessions, dialogues, scripts, scenes and sentences are prefixed with their corpus.
    """
    light = dataset.select_columns([name for name in dataset.column_names if name not in HEAVY])
    table = light.with_format("pandas")[:]
    table["label"] = pd.Categorical.from_codes(table["label"], dataset.features["label"].names)
    for name in ("session", "dialogue", "script", "scene", "sentence"):
        table[name] = table["corpus"].str.cat(table[name].astype("str"), sep="/")
    return table.fillna({"speaker": UNKNOWN, "sex": UNKNOWN})


def make_card(table: pd.DataFrame, integrity: dict, folder_name: str) -> DatasetCard:
    """Fill the template.

    Args:
        table: Result of `light_table`.
        integrity: Result of `hf_ser.data.prepare.prepare`.
        folder_name: Name of the data set's folder, for the code that loads it.

    Raises:
        FileNotFoundError: the template is missing.
    """
    corpora = sorted(set(table["corpus"]))
    licences = [hub_licence(corpus_of(name).LICENCE) for name in corpora]
    data = DatasetCardData(
        pretty_name=f"{' + '.join(corpora)}, speech emotion",
        license=_one_or_many(licences),
        language=sorted({corpus_of(name).LANGUAGE for name in corpora} - {None}) or None,
        task_categories=["audio-classification"],
        tags=["speech-emotion-recognition", "emotion-recognition", "speech", "hf_ser", *corpora],
        size_categories=size_category(len(table)),
    )
    card = DatasetCard.from_template(
        data,
        template_path=str(package_file("cards/dataset_card.md")),
        corpora={name: corpus_of(name) for name in corpora},
        notice=notice(table),
        integrity=integrity,
        folder_name=folder_name,
        escaped=escaped,
        code=code_span,
        counted=counted,
        literal=lambda text: json.dumps(printable(text).replace("`", "_"), ensure_ascii=False),
        start_seconds=START_SECONDS,
        **_counts(table),
    )
    card.text = re.sub(r"\n{3,}", "\n\n", card.text) + "\n"  # where the template left out a paragraph
    return card


def notice(table: pd.DataFrame) -> str:
    """Warnings to show above everything else; empty if there are none."""
    return " ".join(filter(None, (synthetic_notice(table), paired_notice(table))))


def synthetic_notice(table: pd.DataFrame) -> str:
    """The notice on generated rows; empty where there are none."""
    if not (generated := int((table["corpus"] == "synthetic").sum())):
        return ""
    what = "Generated" if generated == len(table) else f"{generated} of {len(table)} rows are generated"
    return f"{what} audio, not speech: it tests the software and says nothing about people."


def paired_notice(table: pd.DataFrame) -> str:
    """The notice on clips with text of another corpus; empty where there are none."""
    if not (paired := int((table["corpus"] == "paired").sum())):
        return ""
    return (
        f"Paired text: {paired} of {len(table)} clips are of RAVDESS, and their transcripts are sentences of MELD with "
        "the same emotion, not what is spoken: no word error rate and no recogniser can be measured on them."
    )


def suitable_protocols(table: pd.DataFrame) -> dict[str, str]:
    """Protocols that suit these rows, and why; empty if no split can be speaker-independent."""
    speakers = table["speaker"].nunique()
    if (table["speaker"] == UNKNOWN).any() or speakers < 3:
        return {}
    corpora, sessions, sentences = (table[name].nunique() for name in ("corpus", "session", "sentence"))
    complete = {name for name in table if table[name].notna().all()}
    reasons = {"speaker_folds": f"{speakers} speakers"}
    if speakers <= 30:
        reasons["leave_one_speaker_out"] = f"{speakers} folds of one speaker each"
    if "session" in complete and sessions > 2 and sessions_part_speakers(table["session"], table["speaker"]):
        reasons["leave_one_session_out"] = f"{sessions} recording sessions"
    if corpora > 1:
        reasons["leave_one_corpus_out"] = f"{corpora} corpora: how a model transfers to other recordings"
    if "sentence" in complete and 1 < sentences < len(table):
        reasons["sentence_disjoint"] = f"{sentences} sentences: test speakers and sentences are not in training"
    if "dialogue" in complete and table["script"].notna().any():
        reasons["script_disjoint"] = f"{table['script'].nunique()} scripts: test plays are not in training"
    if "scene" in complete:
        reasons["scene_disjoint"] = f"{table['scene'].nunique()} scenes: test scenes are not in training"
    if set(table["corpus"]) == {"ravdess"} and speakers == 24:
        reasons["emobox"] = "six published folds, for comparison with EmoBox"
        reasons["luna_jimenez"] = "five published folds, for comparison with Luna-Jimenez et al. 2021"
    if {"train", "test"} <= set(table["split"]):
        train, test = (set(table["speaker"][table["split"] == part]) for part in ("train", "test"))
        shared = len(train & test)
        leak = f", which shares {shared} speakers between train and test: needs `--allow_leak`" if shared else ""
        reasons["fixed"] = f"the split that the corpus was published with{leak}"
    return reasons


def hub_licence(licence: str) -> str:
    """The Hub's name of a licence; `other` where it has none."""
    slug = licence.lower().replace(" ", "-")
    return slug if slug in HUB_LICENCES else "other"


def size_category(rows: int) -> str:
    """The Hub's size category of a number of rows."""
    return next((name for limit, name in SIZES if rows < limit), "n>100M")


def _counts(table: pd.DataFrame) -> dict:
    """Figures of the card."""
    n_with_audio = int(table["duration_seconds"].notna().sum())
    sources = table["transcript_source"].dropna().value_counts()
    sentences = pd.crosstab(table["sentence"], table["label"])  # only of classes that have rows
    levels = table.groupby("label", observed=True)["level_dbfs"].median().dropna()
    return {
        "n_rows": len(table),
        "n_with_audio": n_with_audio,
        "hours": table["duration_seconds"].sum() / 3600,
        "n_speakers": len(set(table["speaker"]) - {UNKNOWN}),
        "n_without_speaker": int((table["speaker"] == UNKNOWN).sum()),
        "sexes": table["sex"].value_counts().sort_index().to_dict(),
        "classes": _classes(table),
        "level_spread": np.ptp(levels) if n_with_audio else 0.0,
        "columns": _filled(table, n_with_audio),
        "votes": int(table["votes"].notna().sum()),
        "transcripts": sources.to_dict(),
        "n_transcribed": int(table["transcript"].notna().sum()),
        "n_sentences": len(sentences),
        "n_revealing_sentences": int((sentences == 0).any(axis=1).sum()),
        "n_scripts": table["script"].nunique(),
        "protocols": suitable_protocols(table),
        "rows_of_corpus": table["corpus"].value_counts().to_dict(),
    }


def _classes(table: pd.DataFrame) -> list[dict]:
    """Counts, speakers, length and level of each class."""
    lines = []
    for label, rows in table.groupby("label", observed=False):
        with_audio = rows[rows["duration_seconds"].notna()]
        line = {"label": label, "rows": len(rows), "share": len(rows) / len(table)}
        line["speakers"] = len(set(rows["speaker"]) - {UNKNOWN})
        if len(with_audio):
            line["seconds"] = with_audio["duration_seconds"].median()
            line["level"] = with_audio["level_dbfs"].median()
            line["zero_start"] = (with_audio["leading_zeros_seconds"] > START_SECONDS).mean()
        lines.append(line)
    return lines


def _filled(table: pd.DataFrame, n_with_audio: int) -> list[dict]:
    """Name, meaning and number of filled cells of each column."""
    known = {"speaker": (table["speaker"] != UNKNOWN).sum(), "sex": (table["sex"] != UNKNOWN).sum()}
    known |= dict.fromkeys(HEAVY, n_with_audio)
    known |= {name: table[name].notna().sum() for name in table if name not in known}
    return [
        {"name": name, "meaning": meaning, "filled": int(known[name])}
        for name, meaning in COLUMNS.items()
        if name in known
    ]


def _one_or_many(names: list[str]) -> str | list[str]:
    distinct = sorted(set(names))
    return distinct[0] if len(distinct) == 1 else distinct
