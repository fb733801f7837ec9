"""Reading untrusted YAML and JSON: of bounded size, each key once, without aliases."""

from pathlib import Path

import yaml

MAX_CHARACTERS = 1_000_000
MAX_DEPTH = 50


def load_yaml(text: str, loader: type = yaml.SafeLoader) -> object:
    """Parse a YAML text.

    Args:
        text: The text.
        loader: SafeLoader, or BaseLoader, which leaves every value a text.

    Raises:
        yaml.YAMLError: the text is no YAML, is longer than MAX_CHARACTERS, nests deeper than MAX_DEPTH, has a key twice
            (YAML would take the last), or has anchors and aliases (`&a`, `*a`), which can expand without bound.
    """
    if len(text) > MAX_CHARACTERS:
        raise yaml.YAMLError(f"found {len(text)} characters, expected at most {MAX_CHARACTERS}: shorten it")
    depth = 0
    for token in yaml.scan(text):
        if isinstance(token, yaml.AnchorToken | yaml.AliasToken):
            raise yaml.YAMLError(
                f"line {token.start_mark.line + 1}: found the {type(token).__name__.removesuffix('Token').lower()} "
                f"'{token.value}', expected none: write its value out"
            )
        starts = (yaml.BlockMappingStartToken, yaml.BlockSequenceStartToken)
        starts += (yaml.FlowMappingStartToken, yaml.FlowSequenceStartToken)
        ends = yaml.BlockEndToken | yaml.FlowMappingEndToken | yaml.FlowSequenceEndToken
        depth += isinstance(token, starts) - isinstance(token, ends)
        if depth > MAX_DEPTH:
            line = token.start_mark.line + 1
            raise yaml.YAMLError(f"line {line}: found lists in lists beyond {MAX_DEPTH} levels: make it flat")
    _check_keys(yaml.compose(text, yaml.BaseLoader))
    return yaml.load(text, loader)


def _check_keys(node: yaml.Node | None) -> None:
    """Check that no mapping in a node has a key twice."""
    if isinstance(node, yaml.MappingNode):
        lines: dict[str, int] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if isinstance(key, yaml.ScalarNode) and lines.setdefault(key.value, line) != line:
                raise yaml.YAMLError(
                    f"line {line}: found '{key.value}' again, which is in line {lines[key.value]} already; expected "
                    "it once: remove or join one of them"
                )
            _check_keys(value)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            _check_keys(value)


def read_mapping(file: Path, loader: type = yaml.SafeLoader) -> dict:
    """Read a YAML file of `key: value` lines.

    Args:
        file: The file.
        loader: As `load_yaml`.

    Raises:
        ValueError: the file is no such YAML.
    """
    try:
        values = load_yaml(file.read_text(encoding="utf-8-sig"), loader)
    except (yaml.YAMLError, UnicodeDecodeError, ValueError) as error:
        raise ValueError(f"{file}: not readable as YAML ({error}). Expected 'key: value' lines.") from error
    if not isinstance(values, dict):
        raise ValueError(f"{file}: expected 'key: value' lines, found {type(values).__name__}.")
    return values


def unique_keys(pairs: list[tuple[str, object]]) -> dict:
    """An `object_pairs_hook` of json.loads that rejects repeated keys.

    Raises:
        ValueError: a key occurs twice.
    """
    made = dict(pairs)
    if len(made) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"found the name {twice!r} twice in one object, expected it once")
    return made
