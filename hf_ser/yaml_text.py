"""Reading YAML that a user or a stranger wrote: of bounded size, without the aliases that can grow without end."""

import yaml

MAX_CHARACTERS = 1_000_000
MAX_DEPTH = 50


def load_yaml(text: str, loader: type = yaml.SafeLoader) -> object:
    """What a YAML text says.

    Args:
        text: The text.
        loader: SafeLoader, or BaseLoader, which leaves every value a text.

    Raises:
        yaml.YAMLError: the text is no YAML; it is longer than MAX_CHARACTERS, nests deeper than MAX_DEPTH, or uses
            anchors and aliases (`&a`, `*a`), by which a few lines can stand for more than a machine can hold.
    """
    if len(text) > MAX_CHARACTERS:
        raise yaml.YAMLError(f"found {len(text)} characters, expected at most {MAX_CHARACTERS}: shorten it")
    depth = 0
    for token in yaml.scan(text):
        if isinstance(token, yaml.AnchorToken | yaml.AliasToken):
            raise yaml.YAMLError(
                f"line {token.start_mark.line + 1}: found the {type(token).__name__.removesuffix('Token').lower()} "
                f"'{token.value}', expected none: write out what it stands for"
            )
        starts = (yaml.BlockMappingStartToken, yaml.BlockSequenceStartToken)
        starts += (yaml.FlowMappingStartToken, yaml.FlowSequenceStartToken)
        ends = yaml.BlockEndToken | yaml.FlowMappingEndToken | yaml.FlowSequenceEndToken
        depth += isinstance(token, starts) - isinstance(token, ends)
        if depth > MAX_DEPTH:
            line = token.start_mark.line + 1
            raise yaml.YAMLError(f"line {line}: found lists in lists beyond {MAX_DEPTH} levels: make it flat")
    return yaml.load(text, loader)


def top_keys(text: str) -> list[str]:
    """The keys of a mapping in their order, one that is there twice twice; of anything else none."""
    node = yaml.compose(text, yaml.BaseLoader)
    return [key.value for key, _ in node.value] if isinstance(node, yaml.MappingNode) else []
