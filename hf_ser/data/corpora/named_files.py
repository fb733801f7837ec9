"""Find the clips of corpora with all information in the file names, each clip once."""

from collections.abc import Callable, Hashable
from pathlib import Path

from hf_ser.data.folders import files_under
from hf_ser.data.schema import Finding

SUFFIXES = (".wav", ".flac")
MIN_AUDIO_BYTES = 200
"""A smaller file is empty, only a header, or a git-lfs pointer."""


def audio_files(root: Path) -> tuple[list[Path], list[Finding]]:
    """WAV and FLAC files below a folder: those with audio first, then the least nested, then by path; and findings."""
    files, findings = files_under(root)
    files = [file for file in files if file.suffix.lower() in SUFFIXES]
    return sorted(files, key=lambda file: (file.stat().st_size < MIN_AUDIO_BYTES, len(file.parts), str(file))), findings


def named_files(
    data_dir: str | Path, corpus: str, name_of: Callable[[Path], Hashable | None], example: str
) -> tuple[dict[Hashable, Path], list[Finding]]:
    """Find the file of each clip; the first of `audio_files` if a clip is stored twice.

    Args:
        data_dir: Folder of the corpus.
        corpus: Its name in CORPORA.
        name_of: Returns the name of a file's clip, None for other files.
        example: Example of a path, for the message.

    Returns:
        Files by clip name, and findings (`not_<corpus>`, `doubled_file`).

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
