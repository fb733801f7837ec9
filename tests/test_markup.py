"""Labels, speakers, files and notices of people's data are shown in cards, pages, tables and terminals, not obeyed."""

from hf_ser.cli import run

import html
import io
import json
import re
import sys
from dataclasses import replace
from html.parser import HTMLParser
from types import SimpleNamespace

import pytest
from example_fold import predictions, trained
from publish.test_page import make_rows
from rows import make_report

from hf_ser.checks.study.results import format_study
from hf_ser.markup import code_span, escaped, filled_markdown
from hf_ser.normal_form import for_terminal, printable
from hf_ser.publish.dataset_card import make_card
from hf_ser.publish.model_card import write_model_card
from hf_ser.publish.page import write_page
from hf_ser.runs.report_text import format_report

EVIL = {
    "script": "<script>alert(1)</script>",
    "picture": "![x](http://evil.example/pixel.png)",
    "link": "[click](javascript:alert(1))",
    "cell": "a|b|c",
    "ticks": "``` ~~~ `rm`",
    "line": "sad\n\n# You were hacked\n- x",
    "escape": "\x1b[31mred\x1b]0;title\x07",
    "turned": "good\u202edab\u2066",
    "entity": "&lt;b&gt; <b onmouseover=x>",
    "jinja": "{{ 7 * 7 }}{% raw %}",
}
CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


class Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))


def assert_harmless(markdown: str) -> None:
    """Outside of code, no tag, no link, no picture but our own, no further heading and no control code."""
    assert not CONTROLS.search(markdown)
    prose = re.sub(r"`[^`\n]*`", "", re.sub(r"```python.*?```", "", markdown, flags=re.DOTALL))
    prose = re.sub(
        r"\]\(https://(arxiv\.org/abs/2304|zenodo\.org/records/1188976|eur-lex\.europa\.eu/eli)[^)]*\)", "]", prose
    )  # ours
    assert not re.search(r"<(script|b)\b", prose)
    assert not re.search(r"(?<!\\)\]\((http|javascript)", prose), prose
    assert "# You were hacked" not in [line.strip() for line in markdown.splitlines()]
    for table in re.findall(r"(?:^\|.*\n)+", markdown, flags=re.MULTILINE):
        columns = {len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}
        assert len(columns) == 1, table


@pytest.mark.parametrize("evil", EVIL.values(), ids=EVIL)
def test_a_model_card_shows_evil_names(tmp_path, evil):
    folder = trained(tmp_path / "fold_1", settings={"label_map": evil, "model": "fusion", evil: "x"})
    config = json.loads((folder / "config.json").read_text())
    config["id2label"] = {"0": evil, "1": "sad"}
    (folder / "config.json").write_text(json.dumps(config))
    report = make_report(predictions())
    of_class, of_sex = ({evil: next(iter(groups.values()))} for groups in (report.per_class, report.per_sex))
    report = replace(report, notices=[f"{evil} is odd"], per_class=of_class, per_sex=of_sex)
    (folder / "report.json").write_text(json.dumps(report.to_json()))
    card = write_model_card(folder).read_text()
    assert_harmless(card.split("---\n", 2)[2])
    assert "49" not in card or evil != EVIL["jinja"]


@pytest.mark.parametrize("evil", EVIL.values(), ids=EVIL)
def test_a_page_and_the_terminal_show_evil_names(tmp_path, evil):
    report = replace(make_report(make_rows(evil=evil)), notices=[evil])
    page = write_page(report, tmp_path).read_text()
    tags = Tags()
    tags.feed(page)
    assert not [tag for tag, attributes in tags.found if tag in ("script", "b") or "onmouseover" in attributes]
    assert not CONTROLS.search(page)
    text = format_report(report)
    assert not CONTROLS.search(text)
    rows = [line for line in text.splitlines() if line.startswith("happy")]
    assert len(rows) == 1, "a class is one line"


@pytest.mark.parametrize("evil", EVIL.values(), ids=EVIL)
def test_a_study_shows_evil_names(evil):
    numbers = dict.fromkeys(("uar", "wa", "weighted_f1", "train_seconds"), 0.5)
    one = {"name": evil, "uar_ci95": None, "seeds": [1], "uar_spread": None, "clips_per_second": None, **numbers}
    one |= {"parameters": 1, "parameters_trained": 1, "difference": None, "n_utterances": 2, "n_speakers": 2}
    one |= {"interval_note": "", "notices": [evil], "notes": [], "why": evil}
    conditions = {"corpus": evil, "protocol": evil, "folds": ["1"], "split_fingerprint": "abc"}
    result = {"systems": [one], "apart": [one], "baseline": evil, "conditions": conditions, "chance_uar": 0.5}
    result |= {"missing": [evil], "notices": [evil]}
    # As attributes, for what the table does not show is left out here.
    as_record = json.loads(json.dumps(result), object_hook=lambda values: SimpleNamespace(**values))
    assert_harmless(format_study(as_record) + "\n")


def test_a_template_prints_texts_as_text_and_code_as_code():
    made = filled_markdown("{{ a }} {{ a | code }} {{ n }} {{ [a, a] | join(', ') }}", {"a": "<i>*`", "n": 1.5})
    assert made == r"&lt;i&gt;\*\` `<i>*'` 1.5 &lt;i&gt;\*\`, &lt;i&gt;\*\`"
    assert escaped("plain_name") == "plain_name" and code_span("a|b`c") == "`a/b'c`"


def test_what_a_script_prints_controls_no_terminal(monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stdout", stream)
    run(lambda: print("a\x1b[2J\tb\nc\r\x9b31m", json.dumps({"text": "x\u0085é"}, ensure_ascii=False)))
    printed = stream.getvalue()
    assert printed.startswith("a\\u001b[2J\tb\nc\\u000d\\u009b31m") and sys.stdout is stream
    assert json.loads(printed.splitlines()[1].split(" ", 1)[1]) == {"text": "x\u0085é"}
    assert for_terminal("plain é 生气\n") == "plain é 生气\n"


@pytest.mark.parametrize(
    "hidden",
    ["\u202e", "\u2028", "\u2029", "\u2066", "\u200b", "\ufeff", "\u00ad", "\x7f", "\x85", "\U000e0041", "\ud83d"],
)
def test_what_turns_hides_or_ends_a_line_is_shown_alike_everywhere(hidden):
    for around in ("{}", "a{}b", "é{} \n"):
        text = around.format(hidden)
        shown = for_terminal(text)
        assert hidden not in shown and hidden not in printable(text) and json.loads(json.dumps(hidden)) == hidden
        assert json.loads(f'"{for_terminal(hidden)}"') == hidden
    assert for_terminal("می\u200cخواهم") == printable("می\u200cخواهم") == "می\u200cخواهم"


def test_cards_of_data_sets_use_the_same_function():
    assert make_card.__globals__["escaped"] is escaped


@pytest.mark.parametrize(
    "text",
    [
        *("see https://evil.example/x", "HTTP://evil.example", "www.evil.example", "ask @somebody now", "ftp://x.y"),
        *("a@b.example", "mailto:a", "(https://evil.example)", "x@@user"),
    ],
)
def test_bare_addresses_and_names_become_no_links(text):
    plain = html.unescape(re.sub(r"\\(.)", r"\1", escaped(text)))
    assert not re.search(r"(https?|ftp)://|www\.|(?<!\w)@\w|\w@\w+\.|mailto:\w", plain, re.IGNORECASE)
    assert plain.replace("\u200b", "") == text
