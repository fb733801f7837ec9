"""Tables of a report as CSV and as LaTeX, for papers: figures, classes, groups, folds and the confusion matrix."""

from pathlib import Path

import pandas as pd

from hf_ser.files import atomic_write
from hf_ser.runs.dimension_figures import DimensionFigures
from hf_ser.runs.figures import DimensionReport, Report

TABLES = "tables"
"""Folder of the tables, in the folder of the report."""


def write_tables(report: Report | DimensionReport, folder: str | Path, system: str = "") -> list[Path]:
    """Write each table of a report as `tables/NAME.csv` and `tables/NAME.tex`; shares are in per cent.

    Args:
        report: Result of `make_report`.
        folder: Folder of the report.
        system: The system in one line, for the captions.

    Returns:
        The files that were written.
    """
    where = f"{report.corpus}, protocol {report.protocol}"
    head = f"{system}, {where}" if system else where
    written = []
    for name, table in tables_of(report).items():
        caption = " ".join([f"{name.replace('_', ' ').capitalize()}: {head}.", *report.notices])
        written += write_table(table, Path(folder) / TABLES / name, caption)
    return written


def tables_of(report: Report | DimensionReport) -> dict[str, pd.DataFrame]:
    """The tables of a report by name."""
    tables = _class_tables(report) if isinstance(report, Report) else {}
    return tables | ({"dimensions": _dimension_table(report.dimensions)} if report.dimensions else {})


PLURALS = {"sex": "sexes", "speaker": "speakers", "fold": "folds"}


def _dimension_table(figures: DimensionFigures) -> pd.DataFrame:
    """CCC, interval, correlation and error of each dimension, on its scale."""
    ends = {name: interval or [None, None] for name, interval in figures.ccc_ci95.items()}
    rows = {
        name: {
            "CCC": figures.ccc[name],
            "CCC 95 % from": ends[name][0],
            "CCC 95 % to": ends[name][1],
            "Pearson": figures.pearson[name],
            "MAE": figures.mae[name],
        }
        for name in figures.ccc
    }
    table = pd.DataFrame(rows, dtype=float).T.rename_axis("dimension")
    table["utterances"] = [figures.n[name] for name in table.index]
    return table


def _class_tables(report: Report) -> dict[str, pd.DataFrame]:
    classes = {
        name: {"precision": row.precision, "recall": row.recall, "F1": row.f1} for name, row in report.per_class.items()
    }
    by_class = in_percent(pd.DataFrame(classes).T.rename_axis("class"))
    by_class["AUC"] = [report.roc[name].auc for name in by_class.index]
    by_class["utterances"] = [report.per_class[name].support for name in by_class.index]
    groups = {"sex": report.per_sex, "speaker": report.per_speaker, "fold": report.per_fold}
    tables = {"figures": _figures(report), "classes": by_class}
    for one, rows in groups.items():
        shares = pd.DataFrame({name: {"WA": row.wa, "UAR": row.uar} for name, row in rows.items()}, dtype=float).T
        table = in_percent(shares.rename_axis(one))
        table["utterances"] = [row.n for row in rows.values()]
        tables[PLURALS[one]] = table
    matrix = pd.DataFrame(report.confusion_matrix, index=report.labels, columns=report.labels)
    return tables | {"confusion_matrix": matrix.rename_axis("reference")}


def in_percent(shares: pd.DataFrame) -> pd.DataFrame:
    """Shares in per cent with one digit, as pages and pictures have them."""
    return shares.map(lambda share: None if pd.isna(share) else float(f"{100 * share:.1f}")).astype(float)


def write_table(table: pd.DataFrame, stem: Path, caption: str) -> list[Path]:
    """Write a table as `STEM.csv` and `STEM.tex` (for the package booktabs), each atomically."""
    files = {".csv": table.to_csv(), ".tex": _latex(table, caption)}
    for suffix, text in files.items():
        with atomic_write(stem.with_suffix(suffix)) as file:
            file.write(text)
    return [stem.with_suffix(suffix) for suffix in files]


def _figures(report: Report) -> pd.DataFrame:
    """The figures over all utterances with their intervals."""
    rows = {}
    for name, key in (("UAR", "uar"), ("WA", "wa"), ("macro F1", "macro_f1"), ("weighted F1", "weighted_f1")):
        low, high = getattr(report, f"{key}_ci95", None) or (None, None)
        rows[name] = {"value": getattr(report, key), "95 % from": low, "95 % to": high}
    return in_percent(pd.DataFrame(rows, dtype=float).T.rename_axis("figure"))


def _latex(table: pd.DataFrame, caption: str) -> str:
    """A LaTeX table; texts are escaped, and a missing figure is a dash."""
    named = table.rename(columns=_escaped, index=_escaped).rename_axis(_escaped(table.index.name)).reset_index()
    form = {_escaped(name): "{:.4f}".format for name in table.columns if str(name).startswith(PRECISE)}
    return named.to_latex(
        index=False, na_rep="--", caption=_escaped(caption), formatters=form, float_format="%.1f", position="t"
    )


PRECISE = ("AUC", "p ", "CCC", "Pearson", "MAE")
"""Prefixes of the names of columns that are not shares and are shown with more digits."""

ESCAPED = str.maketrans(
    {one: f"\\{one}" for one in "%&_#${}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
)
"""Escapes of characters that LaTeX reads as commands."""


def _escaped(text: object) -> str:
    return str(text).translate(ESCAPED)
