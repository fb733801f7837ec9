"""Markdown files lead to files, headings, scripts, recipes and flags that are there, and README.md stays a door."""

from hf_ser.cli import LAUNCH

import re
from dataclasses import fields
from pathlib import Path

import pytest
from transformers import TrainingArguments

from hf_ser.recipes import find_recipe

ROOT = Path(__file__).parents[1]
FOLDERS = ("hf_ser", "scripts", "tests")  # not cards: its pages are templates, and their links lead from elsewhere
PAGES = [ROOT / "README.md", *sorted(page for folder in FOLDERS for page in (ROOT / folder).rglob("*.md"))]

LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)|<img[^>]*\ssrc=\"([^\"]+)\"")
FENCE = re.compile(r"^```.*?^```", flags=re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"(?:\bscripts/(\w+)\.py\b|\bhf-ser (\w+))([^\n#`]*)")


def named(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def anchors(page: Path) -> set[str]:
    """Names that GitHub gives a page's headings: lower case, hyphens, no punctuation, numbered if doubled."""
    found: dict[str, int] = {}
    names = set()
    for heading in re.findall(r"^#+ +(.+)$", FENCE.sub("", page.read_text()), flags=re.MULTILINE):
        slug = re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")
        names.add(f"{slug}-{found[slug]}" if slug in found else slug)
        found[slug] = found.get(slug, 0) + 1
    return names


def broken_links(page: Path) -> list[str]:
    """Relative links of a page that lead nowhere."""
    broken = []
    for pair in LINK.findall(FENCE.sub("", page.read_text())):
        link = "".join(pair)
        file, _, anchor = link.partition("#")
        if re.match(r"\w+:", link):  # another site
            continue
        target = page.parent / file if file else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    return broken


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_relative_link_leads_to_a_file_and_a_heading(page):
    assert broken_links(page) == []


def test_a_broken_link_is_found(tmp_path):
    (tmp_path / "other.md").write_text("# Here, twice\n\n## Here, twice\n\n```bash\n# No heading\n```\n")
    page = tmp_path / "page.md"
    page.write_text(
        "[a](other.md) [b](other.md#here-twice-1) [c](gone.md) [d](other.md#no-heading) [e](https://x.y) [f](#top)\n"
        '<img width="4" src="gone.png">\n\n# Top\n\n```python\nshown[0](missing.md)\n```\n'
    )
    assert broken_links(page) == ["gone.md", "other.md#no-heading", "gone.png"]


@pytest.fixture(scope="module")
def known_flags() -> set[str]:
    """Flags of all scripts: what they add to a parser, fields of their argument classes, and transformers' own."""
    sources = [*ROOT.glob("scripts/*.py"), *ROOT.glob("hf_ser/**/*.py")]
    text = "\n".join(source.read_text() for source in sources)
    of_classes = re.findall(r"^    (\w+): [^=\n]+ = (?:setting|field)\(", text, flags=re.MULTILINE)
    flags = {*of_classes, *(one.name for one in fields(TrainingArguments))}
    return {f"--{name}" for name in flags} | set(re.findall(r"[\"'](--\w+)[\"']", text)) | {"--help"}


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_command_names_a_script_and_flags_that_are_there(page, known_flags):
    for of_file, of_command, arguments in COMMAND.findall(page.read_text()):
        if (script := of_file or of_command).isupper() or script == LAUNCH:  # such as NAME; of several processes
            continue
        assert (ROOT / "scripts" / f"{script}.py").is_file(), f"no script {script}"
        arguments = re.sub(r'"[^"]*"', "", arguments)
        assert set(re.findall(r"--[a-z]\w*", arguments)) <= known_flags, arguments
        for recipe in re.findall(r"(?:^| )((?:seeds|studies)/\w+(?:\.yaml)?|ravdess_\w+)", arguments):
            find_recipe(recipe, (ROOT,))


def test_the_readme_is_a_door_and_the_manuals_begin_with_a_block():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 200
    for page in PAGES[1:]:
        assert page.read_text().index("```") < 700, f"{page} does not open with what can be run"
