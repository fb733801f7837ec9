"""The corpora that can be read: a module each, with `list_utterances(data_dir) -> Listing`, LICENCE and SOURCE."""

from hf_ser.corpora import ravdess, synthetic, table

CORPORA = {"ravdess": ravdess, "synthetic": synthetic, "table": table}
