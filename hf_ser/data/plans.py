"""Input and output of a protocol: columns of a data set (`Rows`), and the test rows of each fold (`Plan`)."""

from dataclasses import dataclass

import numpy as np
from datasets import Dataset

from hf_ser.data.schema import REFERENCE
from hf_ser.normal_form import bare_words


@dataclass(frozen=True)
class Rows:
    """Columns that protocols may use, one entry an utterance, sorted by id.

    Sessions, scripts, scenes, sentences and dialogues are prefixed with the corpus, so that joined corpora do not share
    them; an empty string is unknown.

    Shapes:
        every field is `(utterances,)`; `position` is the row in the data set.
    """

    position: np.ndarray
    id: np.ndarray
    label: np.ndarray
    speaker: np.ndarray
    sex: np.ndarray
    corpus: np.ndarray
    session: np.ndarray
    dialogue: np.ndarray
    script: np.ndarray
    scene: np.ndarray
    sentence: np.ndarray
    split: np.ndarray

    @classmethod
    def of(cls, dataset: Dataset) -> "Rows":
        """Rows of a data set, sorted by id, so that a split does not depend on their order."""
        names = dataset.features["label"].names
        fields = (*cls.__dataclass_fields__, "transcript", "transcript_source", "reference_transcript")
        known = dataset.select_columns([name for name in fields if name in dataset.column_names])[:]
        empty = [None] * dataset.num_rows
        columns = {name: known.get(name, empty) for name in cls.__dataclass_fields__ if name != "position"}
        columns["label"] = [names[i] for i in columns["label"]]
        for name in ("session", "dialogue", "script", "scene", "sentence"):
            columns[name] = [
                f"{corpus}/{one}" if one else "" for corpus, one in zip(columns["corpus"], columns[name], strict=True)
            ]
        # A split must be the same before and after transcribing.
        references = known.get("reference_transcript", empty)
        texts, sources = known.get("transcript", empty), known.get("transcript_source", empty)
        texts = [kept or text for kept, text in zip(references, texts, strict=True)]
        sources = [REFERENCE if kept else source for kept, source in zip(references, sources, strict=True)]
        columns["sentence"] = _sentences(columns["sentence"], texts, sources)
        order = np.argsort(np.array(columns["id"]))
        arrays = {name: np.array([one or "" for one in column])[order] for name, column in columns.items()}
        return cls(position=order, **arrays)

    def at(self, indices: np.ndarray) -> "Rows":
        """Select rows."""
        return Rows(*(getattr(self, name)[indices] for name in self.__dataclass_fields__))


def _sentences(ids: list[str], transcripts: list[str | None], sources: list[str | None]) -> list[str]:
    """Common name of all clips with one sentence id, or the same text except for capitals and punctuation.

    Texts join two ids (of two corpora, say) only if they are references, since recognisers make errors.
    """
    import networkx as nx  # takes half a second, and only a split needs it

    texts = [bare_words(text or "") for text in transcripts]
    graph = nx.Graph()
    for sentence, text, source in zip(ids, texts, sources, strict=True):
        if sentence and text and source in (REFERENCE, None):
            graph.add_edge(("id", sentence), ("text", text))
    # A cluster is named after its first id; a text without an id names itself.
    names = {node: min(cluster)[1] for cluster in nx.connected_components(graph) for node in cluster}
    return [
        names.get(("id", sentence), sentence) if sentence else names.get(("text", text), text)
        for sentence, text in zip(ids, texts, strict=True)
    ]


@dataclass(frozen=True)
class Plan:
    """Test rows of one fold, before validation speakers are chosen.

    Shapes:
        test: `(test rows,)`; train: `(training and validation rows,)`, by default all others; validation: `(rows,)` if
        the protocol chooses them.
    """

    test: np.ndarray
    held_out: str = ""
    train: np.ndarray | None = None
    validation: np.ndarray | None = None
