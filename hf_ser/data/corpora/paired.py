"""RAVDESS's recordings, each with a sentence of MELD that has the same emotion: real audio and text of two corpora.

No small and free public corpus has audio and text of the same person that both carry the emotion. Here both do, but the
text is not what is spoken: a figure shows how a model combines two real sources, and says nothing about how people
express what they mean. Report and cards say so.

Every sentence is used once, and each actor has sentences of other dialogues. A split whose parts share no actor
therefore shares no sentence and no dialogue either. The characters of the series are shared: six of them speak most of
the text.
"""

from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path

from hf_ser.data.corpora import meld, ravdess
from hf_ser.data.schema import Finding, Listing, Utterance
from hf_ser.normal_form import bare_words
from hf_ser.stable import generator

LICENCE = f"audio of RAVDESS: {ravdess.LICENCE}; text of MELD: {meld.LICENCE}"
MAY_BE_SHARED = False
SOURCE = f"clips of {ravdess.SOURCE}; sentences of {meld.SOURCE}; joined by hf_ser"
LANGUAGE = "en"

LABELS = meld.LABELS
EMOTIONS = {label: label for label in LABELS} | {"calm": "neutral"}
"""Our labels by RAVDESS's."""
TRANSCRIPT_SOURCE = "meld"
"""`transcript_source`: neither a reference nor a recogniser's, since it is not what is spoken."""

_SEED = 20_261_130


def list_utterances(data_dir: str | Path) -> Listing:
    """List RAVDESS's clips with sentences of MELD; the same clips and tables give the same pairs.

    Args:
        data_dir: Folder that holds both corpora (or links to them) at any depth: `Actor_01` ... and
            `train_sent_emo.csv` ...

    Raises:
        FileNotFoundError: no such folder, or one of the corpora is not in it.
        ValueError: as `meld.list_utterances`, or there is no sentence for any clip.
    """
    clips, sentences = ravdess.list_utterances(data_dir), meld.list_utterances(data_dir)
    by_actor = defaultdict(list)
    for clip in sorted(clips.utterances, key=lambda one: one.id):
        by_actor[clip.speaker].append(clip)
    needs = {actor: Counter(EMOTIONS[clip.label] for clip in own) for actor, own in sorted(by_actor.items())}
    given = assign_dialogues(sentences.utterances, needs)
    utterances = [pair for actor, own in by_actor.items() for pair in _pairs(own, given[actor])]
    if not utterances:
        raise ValueError(
            f"{data_dir}: found no sentence of MELD for any of RAVDESS's {len(clips.utterances)} clips. "
            "Expected some of the same emotion, as in the published tables of MELD: get them again."
        )
    findings = [one for one in clips.findings if not meld.CLIP.match(Path(one.item).stem)]
    findings += [one for one in sentences.findings if one.kind == "absent_table"]
    if left := len(clips.utterances) - len(utterances):
        detail = "no sentence of their emotion is left, since actors share no sentence"
        findings.append(Finding("no_sentence", f"{left} clips", detail, skipped=True, count=left))
    return Listing(LABELS, utterances, findings)


def assign_dialogues(sentences: list[Utterance], needs: dict[str, Counter]) -> dict[str, dict[str, list[Utterance]]]:
    """Assign complete dialogues to actors, until each has enough sentences of every emotion.

    Of sentences that are equal except for capitals and punctuation, only the first is used, so that no two actors share
    one. A dialogue goes to the actor whose needs it covers best, where a rare emotion counts for more.

    Args:
        sentences: Turns of dialogues.
        needs: Number of sentences of each emotion that each actor needs.

    Returns:
        The sentences of each actor by emotion, in random order.
    """
    dialogues, known = defaultdict(list), set()
    for sentence in sorted(sentences, key=lambda one: one.id):
        if (text := bare_words(sentence.transcript)) and text not in known:
            known.add(text)
            dialogues[sentence.dialogue].append(sentence)
    total = Counter(sentence.label for turns in dialogues.values() for sentence in turns)
    given = {actor: defaultdict(list) for actor in needs}
    names = sorted(dialogues)
    for number in generator("paired", _SEED).permutation(len(names)):
        turns = Counter(sentence.label for sentence in dialogues[names[number]])
        gains = {
            actor: sum(
                max(0, min(need[label] - len(given[actor][label]), count)) / total[label]
                for label, count in turns.items()
            )
            for actor, need in needs.items()
        }
        best = max(gains, key=gains.get)  # the first of equal ones
        if gains[best] > 0:
            for sentence in dialogues[names[number]]:
                given[best][sentence.label].append(sentence)
    for actor, of_label in given.items():
        for label, own in of_label.items():
            order = generator("paired", _SEED, actor, label).permutation(len(own))
            of_label[label] = [own[place] for place in order]
    return given


def _pairs(clips: list[Utterance], sentences: dict[str, list[Utterance]]) -> list[Utterance]:
    """The clips of an actor, each with a sentence of its own; clips without one are left out."""
    left = {label: list(own) for label, own in sentences.items()}
    return [_paired(clip, left[EMOTIONS[clip.label]].pop()) for clip in clips if left.get(EMOTIONS[clip.label])]


def _paired(clip: Utterance, sentence: Utterance) -> Utterance:
    return replace(
        clip,
        id=f"paired/{clip.id.partition('/')[2]}",
        label=sentence.label,
        corpus="paired",
        speaker=f"paired/{clip.speaker.partition('/')[2]}",
        dialogue=sentence.dialogue,
        sentence=None,
        transcript=sentence.transcript,
        transcript_source=TRANSCRIPT_SOURCE,
    )
