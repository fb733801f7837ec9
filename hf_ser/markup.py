"""Escaping of users' texts (labels, speakers, file names, notices) in Markdown and HTML.

The environments below pass every text that a template prints through one function; `Markup` is left as it is.
"""

import base64
import hashlib
import html
import re
import shutil
from collections.abc import Mapping
from functools import cache
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from hf_ser.normal_form import normal_form, printable

LINKED = re.compile(r"\b[a-z][a-z0-9+.-]*:/|\bwww\.|\b(?:mailto|xmpp):\S|(?<!\w)@\w|@(?=[\w-]+\.\w)\w", re.IGNORECASE)
"""What the Hub turns into links without markup: addresses and names after an at sign. A backslash does not stop it."""
NO_LINK = "&#8203;"
"""A zero-width space, which breaks such a link."""


def escaped(text: object) -> str:
    """A user's text escaped for a line of Markdown: no HTML, link, end of cell or end of line."""
    text = printable(normal_form(str(text)))
    text = re.sub(r"([\\`*\[\]|~#!]|(?<!\w)_|_(?!\w))", r"\\\1", html.escape(text, quote=False))
    text = LINKED.sub(lambda found: found[0][:-1] + NO_LINK + found[0][-1], text)
    return re.sub(r"^([-+]|\d+[.)])(?=\s|$)", r"\\\1", text)


def line_width(longest: int = 100) -> int:
    """Characters a line of text: those of the terminal, up to `longest`; where there is none, `longest`."""
    columns = shutil.get_terminal_size((longest, 24)).columns
    return max(40, min(longest, columns))


def code_span(text: object) -> str:
    """A user's text as a code span, without backticks inside."""
    return f"`{printable(normal_form(str(text))).replace('`', chr(39)).replace('|', '/')}`"


def filled_markdown(template: str, values: Mapping[str, Any]) -> str:
    """Fill a Markdown template; all texts are `escaped` except Markup and those in `code`."""
    environment = Environment(finalize=_for_markdown, keep_trailing_newline=True)
    environment.filters["code"] = lambda text: Markup(code_span(text))
    return environment.from_string(template).render(values)


@cache
def page_environment() -> Environment:
    """The Jinja environment of HTML pages, which escapes all texts and removes control characters.

    Its filter `sha256` gives the hash by which a Content-Security-Policy allows a page's own style or script alone.
    """
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, finalize=_for_page
    )
    environment.filters["sha256"] = _sha256
    return environment


def _sha256(text: str) -> str:
    return base64.b64encode(hashlib.sha256(str(text).encode()).digest()).decode()


def _for_markdown(value: object) -> object:
    return escaped(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _for_page(value: object) -> object:
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value
