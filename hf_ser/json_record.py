"""Records: frozen dataclasses that are stored as JSON objects. Their types say which keys and values a file has."""

import json
import re
from dataclasses import MISSING, Field, dataclass, fields
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, ClassVar, Literal, Self, Union, get_args, get_origin, get_type_hints

KINDS = {str: "a text", int: "a whole number", float: "a number", bool: "true or false", NoneType: "null", Any: "any"}

JSON_TYPES = {str: "string", int: "integer", float: "number", bool: "boolean", NoneType: "null"}
ARGS = re.compile(r"^ {8}(\w+(?:, \w+)*): (.+(?:\n {12}.+)*)", re.MULTILINE)
"""Names and text of an entry under `Args:` in a docstring."""


class _KindError(Exception):
    """A value that is not of its type: its keys from the outermost, what was found, what was expected."""


@dataclass(frozen=True)
class Record:
    """Base of frozen dataclasses that are stored as JSON objects.

    A key may be missing from a file where its field has a default. A field whose default is None is left out of the
    file while it is None. Unknown keys, as of a newer version, are ignored.
    """

    WHAT: ClassVar[str] = "a record of hf_ser"
    REMEDY: ClassVar[str] = "Copy it again, or make it again."

    def to_json(self) -> dict[str, Any]:
        """The record as a JSON object, its keys in the order of the fields."""
        values = {field: getattr(self, field.name) for field in fields(self)}
        return {
            field.name: _as_json(value)
            for field, value in values.items()
            if value is not None or field.default is not None
        }

    @classmethod
    def from_json(cls, value: Any, where: str) -> Self:
        """A record from a JSON object.

        Args:
            value: The object.
            where: Name of its file, for errors.

        Raises:
            ValueError: a key is missing, or a value is not of its type.
        """
        try:
            return _parsed(cls, value)
        except _KindError as error:
            keys, found, expected = error.args
            key = ".".join(keys)
            raise ValueError(
                f"{where}: found {f'{key}: ' if key else ''}{found}, expected {expected}: this is not {cls.WHAT}, or "
                f"a damaged one. {cls.REMEDY}"
            ) from None

    @classmethod
    def read(cls, file: str | Path) -> Self:
        """A record from its file.

        Raises:
            ValueError: it is not JSON, or as `from_json`.
        """
        return cls.from_json(cls.read_json(file), str(file))

    @classmethod
    def read_json(cls, file: str | Path) -> Any:
        """The content of a record's file; raises ValueError where it is not JSON."""
        try:
            return json.loads(Path(file).read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as error:
            reason = str(error).partition("\n")[0]
            raise ValueError(f"{file}: not readable as JSON ({reason}). Expected {cls.WHAT}. {cls.REMEDY}") from error

    @classmethod
    def schema(cls) -> dict[str, Any]:
        """JSON schema of the record, its descriptions from the docstrings."""
        texts = "\n".join(one.__doc__ for one in cls.__mro__ if issubclass(one, Record))
        said = {name: " ".join(text.split()) for names, text in ARGS.findall(texts) for name in names.split(", ")}
        given = {field.name for field in fields(cls) if not _has_default(field)}
        return {
            "type": "object",
            "description": cls.__doc__.partition("\n")[0],
            "properties": {
                name: _schema(kind) | ({"description": said[name]} if name in said else {})
                for name, kind in types_of(cls).items()
            },
            "required": [name for name in types_of(cls) if name in given],
        }

    @classmethod
    def read_if_there(cls, file: str | Path) -> Self | None:
        """A record from its file; None where there is no file."""
        return cls.read(file) if Path(file).is_file() else None


def _as_json(value):
    if isinstance(value, Record):
        return value.to_json()
    if isinstance(value, dict):
        return {key: _as_json(one) for key, one in value.items()}
    return [_as_json(one) for one in value] if isinstance(value, (list, tuple)) else value


@cache
def types_of(kind: type[Record]) -> dict[str, Any]:
    """The type of each field of a record."""
    hints = get_type_hints(kind)
    return {field.name: hints[field.name] for field in fields(kind)}


def _parsed(kind, value, or_null: bool = False):
    """A JSON value as its type; raises `_KindError`, which says whether it may be null."""
    outer, inner = get_origin(kind) or kind, get_args(kind)
    if outer in (Union, UnionType):
        return None if value is None else _parsed(inner[0], value, or_null=True)
    if isinstance(outer, type) and issubclass(outer, Record):
        return _parsed_record(outer, value)
    if outer is list and isinstance(value, list):
        return [_below(str(number), inner[0], one) for number, one in enumerate(value)]
    if outer is tuple and isinstance(value, list):
        return tuple(_below(str(number), inner[0], one) for number, one in enumerate(value))
    if outer is dict and isinstance(value, dict):
        return {key: _below(key, inner[1], one) for key, one in value.items()} if inner else value
    plain = {float: (int, float)}.get(outer, outer if outer in KINDS and outer is not Any else ())
    is_kind = isinstance(value, plain) and isinstance(value, bool) == (outer is bool)
    if outer is Any or is_kind or (outer is Literal and value in inner):
        return value
    raise _KindError((), repr(value)[:60], f"{_text(kind)} or null" if or_null else _text(kind))


def _parsed_record(kind: type[Record], value) -> Record:
    if not isinstance(value, dict):
        raise _KindError((), repr(value)[:60], "an object of keys and values")
    values = {}
    for field in fields(kind):
        has_default = _has_default(field)
        if field.name in value and not (value[field.name] is None and has_default):
            values[field.name] = _below(field.name, types_of(kind)[field.name], value[field.name])
        elif not has_default:
            raise _KindError((), f"no {field.name}", f"{field.name}, {_text(types_of(kind)[field.name])}")
    return kind(**values)


def _has_default(field: Field) -> bool:
    return field.default is not MISSING or field.default_factory is not MISSING


def _schema(kind) -> dict[str, Any]:
    outer, inner = get_origin(kind) or kind, get_args(kind)
    if outer in (Union, UnionType):
        return {"anyOf": [_schema(one) for one in inner]}
    if outer is Literal:
        return {"enum": list(inner)}
    if isinstance(outer, type) and issubclass(outer, Record):
        return outer.schema()
    if outer in (list, tuple):
        return {"type": "array", "items": _schema(inner[0])}
    if outer is dict:
        return {"type": "object"} | ({"additionalProperties": _schema(inner[1])} if inner else {})
    return {"type": JSON_TYPES[outer]} if outer in JSON_TYPES else {}


def _below(key: str, kind, value):
    try:
        return _parsed(kind, value)
    except _KindError as error:
        keys, found, expected = error.args
        raise _KindError((key, *keys), found, expected) from None


def _text(kind) -> str:
    """A type in words."""
    outer, inner = get_origin(kind) or kind, get_args(kind)
    if outer in (Union, UnionType):
        return " or ".join(map(_text, inner))
    if outer is Literal:
        return ", ".join(map(str, inner)) if len(inner) == 1 else f"one of {', '.join(map(str, inner))}"
    return KINDS.get(outer) or ("a list" if outer in (list, tuple) else "an object of keys and values")
