"""List the utterances of one or several corpora, before any audio is read."""

import hashlib
import os
from dataclasses import replace
from pathlib import Path

from hf_ser.data.corpora import CORPORA
from hf_ser.data.download import fetch
from hf_ser.data.integrity import outside_findings
from hf_ser.data.labels import joint_labels
from hf_ser.data.schema import METADATA_COLUMNS, Listing, Utterance
from hf_ser.models.streams import CHANNELS, MIX
from hf_ser.normal_form import normal_form, normal_text

PREPARATION = "3"
"""Version of preparing. Increase it when its result changes: cached data sets are then prepared again."""


def list_corpora(corpus: str, data_dir: str | Path | None, **table) -> Listing:
    """List the utterances of one or several corpora, sorted by id.

    Args:
        corpus: Key of CORPORA, or several separated by commas, such as `ravdess,emodb`.
        data_dir: Folder of each, separated by commas; an empty one is None.
        table: Options of `hf_ser.data.corpora.table.list_utterances`; None is the default.

    Raises:
        ValueError: an unknown or repeated corpus, another number of folders, options without a table.
    """
    folders = named_folders(corpus, data_dir)
    options = {option: value for option, value in table.items() if value is not None}
    if options and "table" not in folders:
        raise ValueError(f"{', '.join(options)}: found for corpus '{corpus}', expected with --corpus table.")
    if "columns" in options:
        options["columns"] = column_names(options["columns"])
    listings, findings = [], []
    for name, folder in folders.items():
        if not folder and name != "synthetic":
            raise ValueError(f"Corpus '{name}' is read from disk: give its folder with --data_dir.")
        own = options if name == "table" else {}
        listings.append(CORPORA[name].list_utterances(folder, **own))
        files = [one.audio for one in listings[-1].utterances if isinstance(one.audio, str | Path)]
        roots = [Path(folder).parent if os.path.isfile(folder) else folder] if folder else []
        roots += [own["audio_dir"]] if "audio_dir" in own else []
        findings += [*listings[-1].findings, *outside_findings(name, files, roots)]
    utterances = [_normal(utterance) for listing in listings for utterance in listing.utterances]
    return Listing(
        labels=joint_labels(listing.labels for listing in listings),
        utterances=sorted(utterances, key=lambda utterance: utterance.id),
        findings=findings,
    )


def _normal(utterance: Utterance) -> Utterance:
    """Normalise the texts of an utterance."""
    changed = {}
    for name in ("id", *METADATA_COLUMNS):
        if isinstance(value := getattr(utterance, name), str):
            text = normal_text(value) if name == "transcript" else normal_form(value)
            if text != value:
                changed[name] = text
    return replace(utterance, **changed) if changed else utterance


def with_channel(listing: Listing, channel: str | None) -> Listing:
    """Set the channel of every clip that has none.

    Raises:
        ValueError: unknown channel.
    """
    if channel not in (None, *CHANNELS):
        raise ValueError(f"--channel {channel}: expected {', '.join(CHANNELS)}.")
    utterances = [replace(one, channel=one.channel or channel or MIX) for one in listing.utterances]
    return replace(listing, utterances=utterances)


def named_folders(corpus: str, data_dir: str | Path | None) -> dict[str, str | Path | None]:
    """Folder of each corpus of `a,b` and `A,B`, None if not given.

    Raises:
        ValueError: an unknown or repeated corpus, another number of folders.
    """
    names = corpus.split(",")
    folders = [data_dir] if len(names) == 1 else str(data_dir or "").split(",")
    if unknown := [name for name in names if name not in CORPORA]:
        known = ", ".join(CORPORA)
        raise ValueError(f"Unknown corpus '{unknown[0]}': expected one of {known}, or several with commas.")
    if len(set(names)) < len(names) or len(folders) != len(names):
        raise ValueError(
            f"--corpus {corpus} with --data_dir {data_dir}: found {len(folders)} folders for {len(names)} corpora, "
            "expected each corpus once and a folder for each, with commas between: --corpus a,b --data_dir A,B."
        )
    return {name: folder or None for name, folder in zip(names, folders, strict=True)}


def column_names(text: str) -> dict[str, str]:
    """Parse `path=file,label=emotion`; an empty name leaves a column out.

    Raises:
        ValueError: another form.
    """
    pairs = [pair.split("=", 1) for pair in text.split(",")]
    if not all(len(pair) == 2 and pair[0] for pair in pairs):
        raise ValueError(f"--columns {text}: expected our names and the table's, such as path=file,label=emotion.")
    return dict(pairs)


def download_corpora(corpus: str, data_dir: str | Path | None) -> None:
    """Download corpora from their publishers.

    Raises:
        ValueError: a corpus that cannot be downloaded, or no folder for it; else as `hf_ser.data.download.fetch`.
    """
    folders = named_folders(corpus, data_dir)
    public = [name for name, module in CORPORA.items() if hasattr(module, "DOWNLOADS")]
    if refused := [name for name in folders if name not in public]:
        raise ValueError(
            f"--download: {refused[0]} cannot be downloaded (its owners grant the licence, or there is no lasting "
            f"address). Expected one of {', '.join(public)}: get it from {CORPORA[refused[0]].SOURCE}."
        )
    for name, folder in folders.items():
        if folder is None:
            raise ValueError(f"--download: no folder to put {name} into: name one with --data_dir.")
        print(f"{name}: {CORPORA[name].LICENCE}")
        fetch(CORPORA[name].DOWNLOADS, folder, CORPORA[name].PAGE)


def listing_digest(listing: Listing) -> str:
    """Hash of a listing, with size and times of each file.

    `st_ctime_ns` is included, since a file may be overwritten and get its old `st_mtime_ns`. Hashing all recordings
    would read the whole corpus before every training.
    """
    digest = hashlib.sha256(PREPARATION.encode())
    digest.update(repr(listing.labels).encode())
    for utterance in listing.utterances:
        audio = utterance.audio
        if isinstance(audio, bytes):
            audio = hashlib.sha256(audio).hexdigest()
        elif isinstance(audio, str | Path) and os.path.isfile(audio):  # also False for a name that is too long
            status = os.stat(audio)
            audio = (str(audio), status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        digest.update(repr(replace(utterance, audio=str(audio))).encode())
    return digest.hexdigest()
