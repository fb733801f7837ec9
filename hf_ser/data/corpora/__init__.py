"""Supported corpora: a module each, with `list_utterances(data_dir) -> Listing`, LICENCE, MAY_BE_SHARED, SOURCE and
LANGUAGE.

MAY_BE_SHARED says whether the licence allows sharing the prepared clips (mono, 16 kHz, with the licence); None if only
the user knows. LANGUAGE is an ISO 639 code, or None. A public corpus also has DOWNLOADS (see
`hf_ser.data.download.fetch`) and PAGE, the web page for a manual download; one with valence, arousal and dominance has
DIMENSION_SCALE, the lowest and the highest value that raters could give.
"""

from types import ModuleType

from hf_ser.data.corpora import (
    crema_d,
    emodb,
    iemocap,
    meld,
    msp_improv,
    msp_podcast,
    paired,
    ravdess,
    savee,
    synthetic,
    table,
    tess,
)

CORPORA = {
    "ravdess": ravdess,
    "iemocap": iemocap,
    "emodb": emodb,
    "crema_d": crema_d,
    "tess": tess,
    "savee": savee,
    "meld": meld,
    "msp_podcast": msp_podcast,
    "msp_improv": msp_improv,
    "paired": paired,
    "table": table,
    "synthetic": synthetic,
}


def corpus_of(name: str) -> ModuleType:
    """Module of a corpus; for an unknown name `table`, the user's own recordings."""
    return CORPORA.get(name, table)
