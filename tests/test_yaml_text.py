"""Texts that a user wrote: a key that comes twice is refused, wherever it is."""

import json

import pytest
import yaml

from hf_ser.checks.study.plan import read_study
from hf_ser.data.split_file import read_split
from hf_ser.yaml_text import load_yaml, read_mapping, unique_keys


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a: 1\nb: 2\na: 3", "line 3: found 'a' again, which is in line 1 already"),
        ("x:\n  a: 1\n  a: 2", "line 3: found 'a' again, which is in line 2"),
        ("- {b: 1,\n   b: 2}", "line 2: found 'b' again"),
        ("a: 1\n'a': 2", "line 2: found 'a' again"),
    ],
)
def test_a_key_that_comes_twice_is_refused(text, line):
    with pytest.raises(yaml.YAMLError, match=line):
        load_yaml(text)


def test_one_name_in_several_mappings_is_read():
    assert load_yaml("a: {c: 1}\nb: {c: 2}") == {"a": {"c": 1}, "b": {"c": 2}}
    assert load_yaml("") is None


def test_a_file_that_is_no_mapping_is_named(tmp_path):
    file = tmp_path / "f.yaml"
    for raw, why in ((b"- a", "found list"), (b"\xff\xfe", "not readable as YAML"), (b"a: [", "not readable as YAML")):
        file.write_bytes(raw)
        with pytest.raises(ValueError, match=rf"f\.yaml: .*{why}"):
            read_mapping(file)


def test_a_part_that_comes_twice_in_a_split_file_is_refused(tmp_path):
    file = tmp_path / "split.json"
    file.write_text('{"train": ["a"], "test": ["b"], "train": ["c"]}')
    with pytest.raises(ValueError, match=r"split\.json: .*found the name 'train' twice"):
        read_split(file)
    assert json.loads('{"a": 1}', object_pairs_hook=unique_keys) == {"a": 1}


def test_a_system_that_comes_twice_in_a_study_is_refused(tmp_path):
    file = tmp_path / "study.yaml"
    file.write_text("systems:\n  a: train_audio.py\n  b: train_text.py\n  a: train_audio.py --seed 2\n")
    with pytest.raises(ValueError, match=r"study\.yaml: .*line 4: found 'a' again, which is in line 2"):
        read_study(file)
