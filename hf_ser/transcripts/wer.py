"""Word error rates of transcripts against references, with the most frequent errors."""

import math
import textwrap
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise, zip_longest
from pathlib import Path

import jiwer
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from hf_ser.data.schema import SEXES, UNKNOWN
from hf_ser.plotting import BLUE, save, wrapped
from hf_ser.transcripts.confidence import thirds
from hf_ser.transcripts.wer_figures import ClipErrors, GroupErrors, WordConfusion, WordErrors

RESAMPLES = 2_000
SEED = 0
FEW_SPEAKERS = 10
"""With fewer speakers the note of the interval warns that it is too narrow."""

QUANTILES = (5, 25, 50, 75, 95)
"""Per cent."""

EDGES = tuple(tenth / 10 for tenth in range(11))
BINS = ("0", *(f"{low:g}-{high:g}" for low, high in pairwise(EDGES)), ">1")
"""Bins of the histogram: no error, then above the lower edge up to the upper one, then more errors than words."""

MOST_CONFUSIONS, WORST_CLIPS = 20, 10
LISTED = 10
"""Confusions in the terminal; the report has more."""

LINE = 100
"""Characters a line of the terminal table."""

UNSPACED = ("zh", "yue", "ja", "th", "lo", "my")
"""Languages without spaces between words; their letters count as words."""

APOSTROPHES = str.maketrans("‘’ʼ", "'''")
"""Whisper's normaliser expands `must've` to `must have`, but splits `must’ve` into two other words."""

ERRORS = ["substitutions", "deletions", "insertions"]


def normalised(texts: Sequence[str | None], language: str | None) -> list[str]:
    """Normalise texts as for Whisper's word error rates: lower case, no punctuation, in English one spelling.

    Args:
        texts: None counts as empty.
        language: Code of the spoken language; `en` has its own rules, None has those of all others.

    Returns:
        Words separated by one space, each with a letter or a digit. Every letter of Chinese, Japanese, Thai, Lao and
        Burmese is a word.

    Source:
        `whisper.normalizers` of openai-whisper (Radford et al. 2022, appendix C). Typographic apostrophes are
        replaced first, and punctuation that is left (`...` becomes `.`) is not a word.
    """
    # Imported here: it imports all of whisper, which takes seconds.
    from whisper.normalizers import BasicTextNormalizer, EnglishTextNormalizer

    clean = EnglishTextNormalizer() if language == "en" else BasicTextNormalizer(split_letters=language in UNSPACED)
    # Half a millisecond a text in English, and many corpora have few different sentences.
    known = {text: _words_only(clean((text or "").translate(APOSTROPHES))) for text in set(texts)}
    return [known[text] for text in texts]


def word_errors(
    references: Sequence[str | None], hypotheses: Sequence[str | None], languages: Sequence[str | None]
) -> pd.DataFrame:
    """Count the word errors of each transcript after normalising both texts.

    Args:
        references: Reference texts.
        hypotheses: Recognised texts; None and empty have every word deleted.
        languages: Language code of each reference, as `normalised`; both texts are normalised by it.

    Returns:
        One row per transcript: `words` of the reference, `substitutions`, `deletions`, `insertions`, and `wer`, their
        sum divided by the words, NaN if the reference has none.

    Raises:
        ValueError: no clips; lists of different lengths.
    """
    alignment = _aligned(references, hypotheses, languages)
    return _counts(alignment, error_pairs(alignment))


def error_rate(
    references: Sequence[str | None], hypotheses: Sequence[str | None], languages: Sequence[str | None]
) -> float:
    """Errors of all transcripts divided by the words of all references, as `word_errors`; NaN if these have none."""
    errors = word_errors(references, hypotheses, languages)
    return _rate(errors[errors["words"] > 0])


def error_pairs(alignment: jiwer.WordOutput) -> list[list[tuple[str, str]]]:
    """Errors of each clip of an alignment as pairs (reference word, recognised word).

    The second is empty for a deleted word, the first for an inserted one.
    """
    errors = []
    for reference, hypothesis, chunks in zip(
        alignment.references, alignment.hypotheses, alignment.alignments, strict=True
    ):
        errors.append([])
        for chunk in chunks:
            if chunk.type != "equal":
                words = reference[chunk.ref_start_idx : chunk.ref_end_idx]
                errors[-1] += zip_longest(words, hypothesis[chunk.hyp_start_idx : chunk.hyp_end_idx], fillvalue="")
    return errors


def wer_report(rows: Sequence[dict]) -> WordErrors:
    """Report on the word error rate of a corpus.

    Args:
        rows: Dictionaries with `id`, `speaker`, `label`, `corpus`, `reference`, `hypothesis` and `language` (as
            `word_errors`), and optionally `sex` and `avg_logprob`; all but the id may be None.

    Raises:
        ValueError: no clips; no reference has words.
    """
    rows = sorted(rows, key=lambda row: row["id"])  # the report must not depend on the order of batches
    alignment = _aligned(*([row[key] for row in rows] for key in ("reference", "hypothesis", "language")))
    errors = error_pairs(alignment)
    every = _counts(alignment, errors)
    for key in ("id", "speaker", "label", "corpus", "sex"):
        every[key] = [row.get(key) or UNKNOWN for row in rows]
    every["avg_logprob"] = [row.get("avg_logprob") for row in rows]
    clips = every[every["words"] > 0]
    clips = clips.assign(confidence=thirds(clips["avg_logprob"].tolist()))
    if clips.empty:
        raise ValueError(
            f"Found {len(rows)} clips and no reference with words, expected one at least: a word error rate is only "
            "known if the corpus has reference transcripts."
        )
    interval, note = _interval(clips)
    worst = clips[clips["wer"] > 0].sort_values(["wer", "words", "id"], ascending=[False, False, True])[:WORST_CLIPS]
    quantiles = np.percentile(clips["wer"], QUANTILES).tolist()
    histogram = np.bincount(np.searchsorted(EDGES, clips["wer"]), minlength=len(BINS)).tolist()
    return WordErrors(
        n_clips=len(clips),
        n_clips_without_words=len(every) - len(clips),
        n_speakers=len(set(clips["speaker"]) - {UNKNOWN}),
        n_words=int(clips["words"].sum()),
        wer=_rate(clips),
        wer_ci95=interval,
        wer_ci95_note=note,
        **{f"{kind[:-1]}_rate": float(clips[kind].sum() / clips["words"].sum()) for kind in ERRORS},
        share_without_error=float((clips["wer"] == 0).mean()),
        wer_quantiles={f"{share}%": wer for share, wer in zip(QUANTILES, quantiles, strict=True)},
        wer_histogram=dict(zip(BINS, histogram, strict=True)),
        by_label=_by(clips, "label"),
        by_corpus=_by(clips, "corpus"),
        by_sex=_by(clips, "sex") if set(clips["sex"]) & set(SEXES) else {},
        by_confidence=_by(clips, "confidence"),
        confusions=_confusions(errors[row] for row in clips.index),
        worst_clips=[
            ClipErrors(id=name, wer=wer, n_words=words)
            for name, wer, words in zip(*(worst[key].tolist() for key in ("id", "wer", "words")), strict=True)
        ],
    )


def format_wer(report: WordErrors) -> str:
    """Format the report for a terminal, rates in per cent."""
    kinds = ", ".join(f"{kind} {_percent(getattr(report, f'{kind[:-1]}_rate'))}" for kind in ERRORS)
    quantiles = ", ".join(f"{share} {_percent(wer)}" for share, wer in report.wer_quantiles.items())
    confusions = [_confusion(one) for one in report.confusions[:LISTED]]
    worst = (f"{one.id} {_percent(one.wer)}" for one in report.worst_clips)
    groupings = ("label", "corpus", "sex", "confidence")
    left_out = f"; left out, without words in their reference: {report.n_clips_without_words}"
    lines = [
        *_line("WER", _headline(report) + (left_out if report.n_clips_without_words else "")),
        *_line("", report.wer_ci95_note),
        *_line("", kinds),
        *_line("clips", f"{_percent(report.share_without_error)} without an error; quantiles of WER: {quantiles}"),
        "",
        *_table({f"by {key}": parts for key in groupings if (parts := getattr(report, f"by_{key}"))}),
        "",
        *_line("errors", ", ".join(confusions) or "every word is correct"),
        *_line("worst", ", ".join(worst) or "no clip has an error"),
    ]
    return "\n".join(lines)


def plot_wer(report: WordErrors, path: str | Path) -> None:
    """Draw the histogram of the clips' word error rates and the rate of each label as a PNG.

    Args:
        report: As `wer_report` gives it.
        path: PNG file to write.
    """
    height = max(3.6, 0.36 * len(report.by_label) + 1.4)
    figure = Figure(figsize=(10, height), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1.2, 1))
    figure.suptitle(textwrap.fill(f"WER {_headline(report)}", LINE), fontsize=11)
    _draw_histogram(left, report)
    _draw_labels(right, report)
    save(figure, path)


def _words_only(text: str) -> str:
    return " ".join(word for word in text.split() if any(map(str.isalnum, word)))


def _aligned(
    references: Sequence[str | None], hypotheses: Sequence[str | None], languages: Sequence[str | None]
) -> jiwer.WordOutput:
    """Align the normalised reference and hypothesis of each row."""
    if not len(references) == len(hypotheses) == len(languages):
        raise ValueError(
            f"Found {len(references)} references, {len(hypotheses)} hypotheses and {len(languages)} languages, "
            "expected one of each for every clip."
        )
    if not len(references):
        raise ValueError("Found no clips, expected one at least to measure a word error rate on.")
    clean: tuple[list[str], list[str]] = ([""] * len(references), [""] * len(references))
    for language in set(languages):
        places = [place for place, each in enumerate(languages) if each == language]
        for texts, into in zip((references, hypotheses), clean, strict=True):
            for place, text in zip(places, normalised([texts[p] for p in places], language), strict=True):
                into[place] = text
    return jiwer.process_words(*clean)


def _counts(alignment: jiwer.WordOutput, errors: list[list[tuple[str, str]]]) -> pd.DataFrame:
    """Table of `word_errors`."""
    counts = []
    for words, wrong in zip(alignment.references, errors, strict=True):
        deletions, insertions = sum(not new for _, new in wrong), sum(not old for old, _ in wrong)
        counts.append((len(words), len(wrong) - deletions - insertions, deletions, insertions))
    table = pd.DataFrame(counts, columns=["words", *ERRORS], dtype=np.int64)
    return table.assign(wer=table[ERRORS].sum(axis=1) / table["words"].where(table["words"] > 0))


def _rate(clips: pd.DataFrame) -> float:
    words = clips["words"].sum()
    return float(clips[ERRORS].sum().sum() / words) if words else math.nan


def _interval(clips: pd.DataFrame) -> tuple[list[float] | None, str]:
    """95 % percentile bootstrap of the word error rate over speakers, and a note on it.

    Speakers, not clips, are drawn, since the clips of a speaker are alike. A resample is a multinomial weight for each
    speaker's errors and words.
    """
    if unknown := int((clips["speaker"] == UNKNOWN).sum()):
        return None, f"No interval: {unknown} clips have no speaker, and the bootstrap draws whole speakers."
    counts = clips.groupby("speaker")[[*ERRORS, "words"]].sum().to_numpy()  # (speakers, 4)
    speakers = len(counts)
    if speakers < 2:
        return None, "No interval: one speaker only, and the bootstrap draws whole speakers."
    draws = np.random.default_rng(SEED).multinomial(speakers, np.full(speakers, 1 / speakers), size=RESAMPLES)
    resamples = draws @ counts
    note = f"Percentile bootstrap over {speakers} speakers, {RESAMPLES} resamples, seed {SEED}."
    if speakers < FEW_SPEAKERS:
        note += f" With fewer than {FEW_SPEAKERS} speakers such an interval is too narrow."
    return np.percentile(resamples[:, :-1].sum(axis=1) / resamples[:, -1], [2.5, 97.5]).tolist(), note


def _by(clips: pd.DataFrame, key: str) -> dict[str, GroupErrors]:
    return {
        name: GroupErrors(n_clips=len(part), n_words=int(part["words"].sum()), wer=_rate(part))
        for name, part in clips.groupby(key)
    }


def _confusions(errors: Iterable[list[tuple[str, str]]]) -> list[WordConfusion]:
    """Most frequent errors; equally frequent ones in alphabetical order."""
    counts = Counter(pair for clip in errors for pair in clip)
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:MOST_CONFUSIONS]
    return [WordConfusion(reference=one, recognised=other, count=count) for (one, other), count in ordered]


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"


def _headline(report: WordErrors) -> str:
    """Rate with its interval and number of words, as the terminal and the picture show it."""
    interval = report.wer_ci95
    span = f"95 % interval [{_percent(interval[0])}, {_percent(interval[1])}]" if interval else "no interval"
    return f"{_percent(report.wer)} %, {span}, {report.n_words} words of {report.n_clips} clips"


def _confusion(one: WordConfusion) -> str:
    if one.reference and one.recognised:
        return f"{one.reference} as {one.recognised} {one.count}"
    return f"{one.reference} lost {one.count}" if one.reference else f"{one.recognised} added {one.count}"


def _line(kind: str, text: str) -> list[str]:
    return textwrap.wrap(text, LINE, initial_indent=f"{kind:<7}", subsequent_indent=" " * 7, break_on_hyphens=False)


def _table(groups: dict[str, dict[str, GroupErrors]]) -> list[str]:
    """A line for each group of clips, under the name of the grouping."""
    width = max(len(name) for kind, parts in groups.items() for name in (kind, *parts))
    lines = []
    for kind, parts in groups.items():
        lines.append(f"{kind:<{width}}  {'WER':>6}  {'words':>8}  {'clips':>7}")
        for name, one in parts.items():
            lines.append(f"{name:<{width}}  {_percent(one.wer):>6}  {one.n_words:>8}  {one.n_clips:>7}")
    return lines


def _draw_histogram(axes: Axes, report: WordErrors) -> None:
    counts = list(report.wer_histogram.values())
    bars = axes.bar(range(len(BINS)), counts, width=0.9, color=["tab:green", *["tab:blue"] * 10, "tab:red"])
    axes.bar_label(bars, labels=[str(count) if count else "" for count in counts], padding=2, fontsize=8)
    names = ["none", *(f"to\n{100 * edge:.0f}" for edge in EDGES[1:]), "over\n100"]
    axes.set_xticks(range(len(BINS)), names, fontsize=8)
    axes.margins(y=0.1)
    axes.yaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    axes.set(xlabel="WER of the clip, per cent", ylabel="clips")


def _draw_labels(axes: Axes, report: WordErrors) -> None:
    """Bar for each label; the line is the rate of all clips, the band its interval."""
    names, rates = list(report.by_label), [100 * one.wer for one in report.by_label.values()]
    bars = axes.barh(range(len(names)), rates, height=0.7, color=BLUE, zorder=2)
    beneath = {"facecolor": "white", "edgecolor": "none", "pad": 1}  # the line would cross the figures
    axes.bar_label(bars, labels=[f"{rate:.1f}" for rate in rates], padding=4, fontsize=8, bbox=beneath, zorder=4)
    axes.axvline(100 * report.wer, color="black", linewidth=1, zorder=3)
    if report.wer_ci95:
        axes.axvspan(*(100 * end for end in report.wer_ci95), color="lightgray", linewidth=0, zorder=1)
    ticks = [f"{wrapped(name, 14)} ({one.n_words})" for name, one in report.by_label.items()]
    axes.set_yticks(range(len(names)), ticks, fontsize=9)
    axes.set_ylim(len(names) - 0.5, -0.5)  # the first label on top
    axes.set_xlim(0, max(1.2 * max(rates), 1))
    axes.set_xlabel("WER by label (words), per cent\nline: all clips, band: its interval")
