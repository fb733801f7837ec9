"""What the corpora share whose file names say all: each clip found once, however deep and however often it lies."""

from collections.abc import Callable, Hashable
from pathlib import Path

from hf_ser.data.folders import files_under
from hf_ser.data.schema import Finding

SUFFIXES = (".wav", ".flac")
NO_SOUND_BYTES = 200
"""A smaller file is empty, a mere header, or the text that git leaves where git-lfs is not installed."""


def audio_files(root: Path) -> tuple[list[Path], list[Finding]]:
    """All WAV and FLAC files under a folder: those with sound first, then the least nested, then by path.

    Returns:
        The files, and what `files_under` could not enter.
    """
    files, findings = files_under(root)
    files = [file for file in files if file.suffix.lower() in SUFFIXES]
    return sorted(files, key=lambda file: (file.stat().st_size < NO_SOUND_BYTES, len(file.parts), str(file))), findings


def named_files(
    data_dir: str | Path, corpus: str, name_of: Callable[[Path], Hashable | None], example: str
) -> tuple[dict[Hashable, Path], list[Finding]]:
    """The file of each clip; of a clip that is stored twice the first of `audio_files`.

    Args:
        data_dir: Folder of the corpus.
        corpus: Its name in CORPORA.
        name_of: What names the clip of a file, None where the file is not of the corpus.
        example: A path as the corpus has them, for the error.

    Returns:
        Files by what names them, and what was passed over (`not_<corpus>`, `doubled_file`).

    Raises:
        FileNotFoundError: no such folder, or no file of the corpus in it.
    """
    root = Path(data_dir)
    files, findings = audio_files(root)
    chosen = {}
    for file in files:
        name, relative = name_of(file), str(file.relative_to(root))
        if name is None:
            detail = "file name is not that of a clip of this corpus"
            findings.append(Finding(f"not_{corpus}", relative, detail, skipped=True))
        elif first := chosen.get(name):
            findings.append(Finding("doubled_file", relative, f"same clip as {first.relative_to(root)}", skipped=True))
        else:
            chosen[name] = file
    if not chosen:
        raise FileNotFoundError(
            f"{root}: found {len(files)} .wav or .flac files, none with the name of a clip of {corpus}. Expected "
            f"files such as {example}: point --data_dir at the unpacked archive."
        )
    return chosen, findings
