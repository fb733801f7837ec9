"""The leaderboard of several runs as one HTML page, with its picture and tables."""

import json
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from hf_ser.checks.study.figures import StudyResult
from hf_ser.checks.study.leaderboard import verdict_text
from hf_ser.checks.study.plots import plot_study
from hf_ser.files import atomic_write
from hf_ser.plotting import folds_text
from hf_ser.publish.page import data_uri, page_style, page_template
from hf_ser.publish.tables import write_table

PAGE = "leaderboard.html"
"""File name of the page, and of its template."""


def write_leaderboard(result: StudyResult, folder: str | Path, about: Mapping[str, Mapping[str, str]]) -> Path:
    """Write `leaderboard.html`, one file without outside links, and next to it the figures as PNG, JSON, CSV and LaTeX.

    Args:
        result: Result of `make_leaderboard`.
        folder: Folder to write into.
        about: Facts about the model of each run (`RunFolder.about`), by the run's name.

    Returns:
        The page.
    """
    file = Path(folder) / PAGE
    plot_study(result, file.with_suffix(".png"))
    with atomic_write(file.with_suffix(".json")) as handle:
        handle.write(json.dumps(result.to_json(), indent=2, ensure_ascii=False, allow_nan=False) + "\n")
    write_table(_table(result), file.with_suffix(""), f"Leaderboard. {verdict_text(result)}")
    page = page_template(PAGE).render(
        style=page_style(),
        result=result,
        folds=folds_text(result.conditions.folds) if result.conditions else "",
        about=about,
        verdict=verdict_text(result),
        picture=data_uri(file.with_suffix(".png").read_bytes(), "image/png"),
    )
    with atomic_write(file) as handle:
        handle.write(page)
    return file


def _table(result: StudyResult) -> pd.DataFrame:
    """UAR, interval and difference to the best of each run, in per cent and points."""
    rows = {}
    for one in (*result.systems, *result.apart):
        low, high = one.uar_ci95 or (None, None)
        difference = getattr(one, "difference", None)
        shares = {"UAR": one.uar, "95 % from": low, "95 % to": high, "WA": one.wa}
        shares["to the best"] = difference.uar if difference else None
        row = {name: None if share is None else float(f"{100 * share:.1f}") for name, share in shares.items()}
        rows[one.name] = row | {"p (Holm)": difference.p_holm if difference else None}
    return pd.DataFrame(rows, dtype=float).T.rename_axis("run")
