"""The corpora that can be read: a module each, with `list_utterances(data_dir) -> Listing`, LICENCE, MAY_BE_SHARED,
SOURCE and LANGUAGE.

MAY_BE_SHARED says whether the licence lets everybody hand on the clips as they are prepared here (mono, 16 kHz, the
licence named); None where only the user knows. LANGUAGE is an ISO 639 code, or None where it is not one language. A
corpus that its publisher hands out to all has DOWNLOADS (see `hf_ser.data.download.fetch`) and PAGE, where a person
gets it by hand.
"""

from types import ModuleType

from hf_ser.data.corpora import crema_d, emodb, iemocap, meld, ravdess, savee, synthetic, table, tess

CORPORA = {
    "ravdess": ravdess,
    "iemocap": iemocap,
    "emodb": emodb,
    "crema_d": crema_d,
    "tess": tess,
    "savee": savee,
    "meld": meld,
    "table": table,
    "synthetic": synthetic,
}


def corpus_of(name: str) -> ModuleType:
    """The module of a corpus; of a name that is not known, that of a user's own recordings, whose terms it has."""
    return CORPORA.get(name, table)
