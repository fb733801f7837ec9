"""Emotion of a recording, by {{ repo_id }}."""

import os

import gradio as gr
from transformers import pipeline

MODEL, REVISION = "{{ repo_id }}", "{{ revision }}"

NOTICE = """
A demonstration for research. A label is the emotion that was acted, or that raters perceived: it is **not what a person
felt**, and the scores of an unfamiliar voice, language or microphone can be far off.

Do not use it for decisions about people: not in hiring, grading, policing, credit, health or insurance. In the European
Union, Regulation (EU) 2024/1689 (AI Act), article 5(1)(f), forbids inferring emotions of people at the workplace and in
education, except for medical or safety reasons. Use only recordings of people who have agreed to it.
"""

classify = pipeline(
    "audio-classification",
    model=MODEL,
    revision=REVISION,
    trust_remote_code=True,
    token=os.environ.get("HF_TOKEN"),  # of a private model: a secret of this Space
)
config = classify.model.config
takes_text = getattr(config, "text_config", None) is not None
threshold = getattr(config, "abstain_threshold", None)


def answer(recording: str | None, text: str = "") -> tuple[dict[str, float], str]:
    """The scores of all classes, and the best label, or `unsure` below the model's threshold."""
    if recording is None:
        raise gr.Error("There is no recording: speak into the microphone, or choose a file.")
    try:
        scores = classify(recording, text=text.strip() or None) if takes_text else classify(recording)
    except (ValueError, OSError) as error:
        raise gr.Error(f"This recording could not be read: {error}") from error
    best = scores[0]
    sure = threshold is None or best["score"] >= threshold
    return {one["label"]: one["score"] for one in scores}, best["label"] if sure else "unsure"


inputs = [gr.Audio(sources=["microphone", "upload"], type="filepath", label="Recording")]
if takes_text:
    inputs.append(gr.Textbox(label="Transcript (may be empty)"))
outputs = [gr.Label(num_top_classes=config.num_labels, label="Scores"), gr.Textbox(label="Answer")]
demo = gr.Interface(
    answer, inputs, outputs, title=MODEL, description=f"Commit `{REVISION}`", article=NOTICE, flagging_mode="never"
)

if __name__ == "__main__":
    demo.launch()
