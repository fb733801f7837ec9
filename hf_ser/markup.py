"""Texts of users (labels, speakers, file names, notices) in Markdown, HTML and on a terminal: shown, never obeyed.

Cards and pages are filled by the environments below, which pass every text that a template prints through one function;
what is meant as markup says so by `Markup`.
"""

import html
import re
from collections.abc import Mapping
from functools import cache
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from hf_ser.normal_form import normal_form, printable

LINKED = re.compile(r"\b[a-z][a-z0-9+.-]*:/|\bwww\.|\b(?:mailto|xmpp):\S|(?<!\w)@\w|@(?=[\w-]+\.\w)\w", re.IGNORECASE)
"""What the Hub links without any markup: addresses, and names behind an at sign. A backslash would not do."""
NO_LINK = "&#8203;"
"""A blank of no width, which parts it."""


def escaped(text: object) -> str:
    """A text of a user within a line of Markdown: neither HTML, nor a link, nor the end of a cell or of the line."""
    text = printable(normal_form(str(text)))
    text = re.sub(r"([\\`*\[\]|~#!]|(?<!\w)_|_(?!\w))", r"\\\1", html.escape(text, quote=False))
    text = LINKED.sub(lambda found: found[0][:-1] + NO_LINK + found[0][-1], text)
    return re.sub(r"^([-+]|\d+[.)])(?=\s|$)", r"\\\1", text)


def code_span(text: object) -> str:
    """A text of a user in backticks, of which it has none itself."""
    return f"`{printable(normal_form(str(text))).replace('`', chr(39)).replace('|', '/')}`"


def filled_markdown(template: str, values: Mapping[str, Any]) -> str:
    """A Markdown template with its values: all texts `escaped`, but for those that are Markup or in `code`."""
    environment = Environment(finalize=_for_markdown, keep_trailing_newline=True)
    environment.filters["code"] = lambda text: Markup(code_span(text))
    return environment.from_string(template).render(values)


@cache
def page_environment() -> Environment:
    """For HTML pages: no text becomes markup, nor hides or turns what stands beside it."""
    return Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, finalize=_for_page
    )


def _for_markdown(value: object) -> object:
    return escaped(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _for_page(value: object) -> object:
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value
