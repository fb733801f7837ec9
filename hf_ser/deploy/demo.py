"""A page to try a model on: record or choose a file, with or without its text, and see the scores as bars.

The same file runs `hf-ser demo` and the Space that `push_to_hub.py --space` pushes, where hf_ser is not installed: it
imports gradio alone.
"""

import re
from collections.abc import Callable
from pathlib import Path

import gradio as gr

NOTICE = """
A demonstration for research. A label is the emotion that was acted, or that raters perceived: it is **not what a person
felt**, and the scores of an unfamiliar voice, language or microphone can be far off.

Do not use it for decisions about people: not in hiring, grading, policing, credit, health or insurance. In the European
Union, Regulation (EU) 2024/1689 (AI Act), article 5(1)(f), forbids inferring emotions of people at the workplace and in
education, except for medical or safety reasons. Use only recordings of people who have agreed to it.
"""
SECTIONS = ("Intended use", "Limits")
"""Of a model's card."""
UNSURE = "unsure"
MOST_WORDS = 40
"""Of a transcript whose words are left out one by one, which takes a forward pass each."""
WORDS = "What each word adds to the score of the answer, or takes from it, in points"
LONG = "Over the time of the recording"
COLUMNS = ("start", "end", "answer")


def build_demo(
    classify, title: str, description: str = "", card: str = "", timeline: Callable | None = None
) -> gr.Interface:
    """The page of a model.

    Args:
        classify: Its pipeline.
        title, description: Shown above the page.
        card: The text of its card (README.md), whose sections on use and limits stand below.
        timeline: Gives a picture and the rows of a table, of `COLUMNS`, for a long recording, None for a short
            one; without it there is no time line.
    """
    config = classify.model.config
    if not config.num_labels:
        raise ValueError(
            f"{classify.model.name_or_path}: found a model of dimensions without classes, which the demo shows. "
            "Expected one with classes, such as one that was trained with --target both: name another model."
        )
    inputs = [gr.Audio(sources=["microphone", "upload"], type="filepath", label="Recording")]
    if takes_text(config):
        inputs.append(gr.Textbox(label="Transcript (may be empty)", lines=2))
    outputs = [
        gr.Label(num_top_classes=config.num_labels, label="Scores"),
        gr.Textbox(label="Answer"),
        gr.Textbox(label="Notes"),
    ]
    if takes_text(config):
        outputs.append(gr.HighlightedText(label=WORDS, visible=False))
    if timeline is not None:
        outputs.append(gr.Plot(show_label=False, visible=False))
        outputs.append(
            gr.Dataframe(
                headers=list(COLUMNS), column_widths=["25%", "25%", "50%"], label=LONG, wrap=True, visible=False
            )
        )
    article = "\n\n".join([NOTICE, *(text for name in SECTIONS if (text := section(card, name)))])

    def answered(recording: str | None, text: str = "") -> list:
        found = list(answer(classify, recording, text))
        if takes_text(config):
            changes = word_changes(classify, recording, text)
            most = max([abs(change) for _, change in changes], default=0.0) or 1.0
            shown = [(f"{word} {100 * change:+.0f}", change / most) for word, change in changes]
            found.append(gr.update(value=shown, visible=bool(shown)))
        if timeline is not None:
            picture, rows = timeline(recording) or (None, None)
            found += [gr.update(value=one, visible=one is not None) for one in (picture, rows)]
        return found

    return gr.Interface(
        answered, inputs, outputs, title=title, description=description, article=article, flagging_mode="never"
    )


def takes_text(config) -> bool:
    """Whether a model takes text beside the audio."""
    return getattr(config, "text_config", None) is not None


def answer(classify, recording: str | None, text: str | None = "") -> tuple[dict[str, float], str, str]:
    """The scores of all classes; the best label, or `unsure` where it is not to be relied on; and notes, one a line.

    Raises:
        gr.Error: there is no recording, or it cannot be read.
    """
    if recording is None:
        raise gr.Error("There is no recording: speak into the microphone, or choose a file.")
    text = (text or "").strip() or None
    try:
        scores = classify(recording, text=text) if takes_text(classify.model.config) else classify(recording)
    except (ValueError, OSError) as error:
        why = str(error).replace(str(recording), "the recording")
        raise gr.Error(f"This recording could not be read: {why}") from error
    label = UNSURE if scores.unsure else scores[0]["label"]
    return {one["label"]: one["score"] for one in scores}, label, "\n".join(scores.notes)


def word_changes(classify, recording: str, text: str | None) -> list[tuple[str, float]]:
    """Each word of a text with what it adds to the score of the best label: the score without it is so much lower.

    Nothing of a text without words, or of more than `MOST_WORDS`.
    """
    words = (text or "").split()
    if not 0 < len(words) <= MOST_WORDS:
        return []
    clip = {"array": classify.decode(recording), "sampling_rate": classify.feature_extractor.sampling_rate}
    shorter = [" ".join(words[:place] + words[place + 1 :]) or None for place in range(len(words))]
    texts = [" ".join(words), *shorter]
    answers = classify([clip] * len(texts), text=texts)
    whole, *others = ({one["label"]: one["score"] for one in found} for found in answers)
    best = max(whole, key=whole.get)
    return [(word, round(whole[best] - other[best], 4)) for word, other in zip(words, others, strict=True)]


def section(card: str, name: str) -> str:
    """A section of a card with its heading; nothing where the card has none of this name."""
    found = re.search(rf"^## {re.escape(name)}\n.*?(?=^## |\Z)", card, flags=re.MULTILINE | re.DOTALL)
    return found[0].strip() if found else ""


def read_card(folder: str | Path) -> str:
    """The text of a model folder's card; nothing where there is none."""
    file = Path(folder) / "README.md"
    return file.read_text(encoding="utf-8") if file.is_file() else ""
