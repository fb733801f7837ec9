"""The corpora that can be read: a module each, with `list_utterances(data_dir) -> Listing`, LICENCE and SOURCE."""

from hf_ser.corpora import crema_d, emodb, iemocap, meld, ravdess, savee, synthetic, table, tess

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
