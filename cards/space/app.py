"""Emotion of a recording, by {{ repo_id }}."""

import os

from demo import build_demo, read_card
from transformers import pipeline
from transformers.utils import cached_file

MODEL, REVISION = "{{ repo_id }}", "{{ revision }}"
TOKEN = os.environ.get("HF_TOKEN")  # of a private model: a secret of this Space

classify = pipeline("audio-classification", model=MODEL, revision=REVISION, trust_remote_code=True, token=TOKEN)
card = read_card(os.path.dirname(cached_file(MODEL, "README.md", revision=REVISION, token=TOKEN)))
demo = build_demo(classify, MODEL, f"Commit `{REVISION}`", card)

if __name__ == "__main__":
    demo.launch()
