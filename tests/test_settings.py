"""Every setting says all about itself in one place, one check walks that, and help is there at once."""

import re
import subprocess
import sys
from dataclasses import dataclass, fields
from pathlib import Path

import pytest

from hf_ser.augment.specification import CHANGES
from hf_ser.data.corpora import CORPORA
from hf_ser.data.labels import LABEL_MAPS
from hf_ser.data.protocols import PROTOCOLS
from hf_ser.inputs.targets import TARGETS
from hf_ser.models import FUSIONS, POOLINGS, PRESETS, SOLVED_HEADS, TEXT_PRESETS
from hf_ser.models.front_end import NORMALISATIONS
from hf_ser.models.streams import CHANNELS
from hf_ser.settings import Range, check_settings, default_of, names_in, setting
from hf_ser.training import arguments
from hf_ser.transcripts.fold_transcripts import TRANSCRIPT_SOURCES

SCRIPTS = sorted((Path(__file__).parents[1] / "scripts").glob("[a-z]*.py"))
CLASSES = {one for one in vars(arguments).values() if isinstance(one, type) and hasattr(one, "__dataclass_fields__")}
OURS = [one for cls in sorted(CLASSES, key=lambda cls: cls.__name__) for one in fields(cls) if "help" in one.metadata]


@dataclass
class Example:
    kind: str = setting("plain", "the kind", ("plain", "fancy"))
    size: int = setting(3, "its size", range=Range(1, 9), only_with=("kind", ("fancy",)))
    name: str | None = setting(None, "its name", not_with={"is_secret": "a secret has no name"})
    is_secret: bool = setting(False, "whether nobody may see it")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"kind": "odd"}, "--kind is odd: expected one of plain, fancy."),
        ({"kind": "fancy", "size": 10}, "--size is 10: expected 1 to 9."),
        ({"size": float("nan")}, "--size is nan: expected 1 to 9, a number that is finite."),
        (
            {"size": 4},
            "--size is 4, --kind is plain: found a setting that nothing would use. Expected --kind fancy",
        ),
        ({"name": "a", "is_secret": True}, "--name is a, --is_secret is True: a secret has no name. Expected one of"),
    ],
)
def test_the_check_walks_what_a_setting_says(given, said):
    with pytest.raises(ValueError, match=re.escape(said)):
        check_settings(Example(**given))
    check_settings(Example(kind="fancy", size=9, name="a"))


@pytest.mark.parametrize("one", OURS, ids=lambda one: one.name)
def test_every_setting_says_what_it_is_for_and_its_default_is_allowed(one):
    facts, default = one.metadata, default_of(one)
    assert facts["help"] and not facts["help"].endswith(".")
    assert default is None or default in facts.get("choices", [default])
    assert default is None or "range" not in facts or facts["range"].holds(default)


@pytest.mark.parametrize(
    ("file", "variable", "registered"),
    [
        ("augment/specification.py", "CHANGES", CHANGES),
        ("data/corpora/__init__.py", "CORPORA", CORPORA),
        ("data/labels.py", "LABEL_MAPS", LABEL_MAPS),
        ("data/protocols.py", "PROTOCOLS", PROTOCOLS),
        ("inputs/targets.py", "TARGETS", TARGETS),
        ("models/streams.py", "CHANNELS", CHANNELS),
        ("models/front_end.py", "NORMALISATIONS", NORMALISATIONS),
        ("models/heads.py", "FUSIONS", FUSIONS),
        ("models/heads.py", "POOLINGS", POOLINGS),
        ("models/heads.py", "SOLVED_HEADS", SOLVED_HEADS),
        ("models/recurrent.py", "TEXT_PRESETS", TEXT_PRESETS),
        ("models/spectrogram.py", "PRESETS", PRESETS),
        ("transcripts/fold_transcripts.py", "TRANSCRIPT_SOURCES", TRANSCRIPT_SOURCES),
    ],
)
def test_names_are_read_without_an_import_as_they_are_registered(file, variable, registered):
    assert names_in(file, variable) == tuple(registered)


def test_what_others_register_is_a_choice(monkeypatch):
    monkeypatch.setitem(PROTOCOLS, "by_weekday", PROTOCOLS["fixed"])
    assert arguments.DataArguments(protocol="by_weekday").protocol == "by_weekday"


@pytest.mark.parametrize("name", arguments.OF_MODEL)
def test_help_shows_all_choices_by_group_on_a_few_screens(name, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [f"scripts/train_{name}.py", "--help"])
    with pytest.raises(SystemExit):
        arguments.show_help(name)
    said = capsys.readouterr().out
    assert said.startswith(f"usage: train_{name}.py") and len(said.splitlines()) < 120
    assert f"[runs/{name}]" in said
    assert all(protocol in said for protocol in PROTOCOLS)
    assert "Which data, and who is trained and tested on." in said and "--help-all shows all" in said


def test_no_script_imports_what_is_large_for_its_help():
    code = (
        "import runpy, sys\n"
        f"for file in {[str(file) for file in SCRIPTS]}:\n"
        "    sys.argv = [file, '--help']\n"
        "    try:\n"
        "        runpy.run_path(file, run_name='__main__')\n"
        "    except SystemExit as end:\n"
        "        assert not end.code, file\n"
        "    assert not {'torch', 'transformers', 'datasets', 'numpy'} & sys.modules.keys(), file\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("usage: ") >= len(SCRIPTS) == 18
