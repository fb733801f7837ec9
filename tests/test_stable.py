"""Draws and digests depend on their names alone; caches and earlier runs rely on these values."""

import subprocess
import sys

from hf_ser import stable


def test_draws_are_equal_in_every_process():
    drawn = "s.uniform('bank', 1, 'a'), s.seed('x'), s.generator('n', 2).integers(1000)"
    code = f"from hf_ser import stable as s; print({drawn})"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    here = f"{stable.uniform('bank', 1, 'a')} {stable.seed('x')} {stable.generator('n', 2).integers(1000)}"
    assert other.strip() == here == "0.20304935139047586 1637211439935739938 503"


def test_rows_have_one_digest_in_any_order():
    rows = [("a", 1), ("b", None)]
    assert stable.rows_digest(rows) == stable.rows_digest(rows[::-1]) != stable.rows_digest(rows[:1])
    assert 0 <= stable.uniform("a", 1) < 1 and stable.uniform("a", 1) != stable.uniform("a", 2)
