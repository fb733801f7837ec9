"""Annotations of every corpus come on one scale, and a scale that is not known is asked for."""

import numpy as np
import pytest

from hf_ser.inputs.dimensions import dimensions_of, stated_scale
from hf_ser.inputs.targets import dimension_targets

ROWS = [(f"r{number}", ("sad", "happy")[number % 2], f"s{number}", None) for number in range(4)]


def data(dataset_of, corpora, **columns):
    return dataset_of(ROWS, corpus=list(corpora), **columns)


def test_each_corpus_by_its_own_scale(dataset_of):
    corpora = ["iemocap", "msp_podcast", "iemocap", "msp_podcast"]
    found = dimensions_of(data(dataset_of, corpora, valence=[1.0, 1.0, 5.0, 7.0], activation=[3.0, 4.0, None, 2.5]))
    assert list(found) == ["valence", "arousal"]
    np.testing.assert_allclose(found["valence"], [-1, -1, 1, 1])
    np.testing.assert_allclose(found["arousal"], [0, 0, np.nan, -0.5])


def test_the_scale_of_a_table_is_stated(dataset_of):
    table = data(dataset_of, ["table"] * 4, valence=[0.0, 25.0, 100.0, None])
    np.testing.assert_allclose(dimensions_of(table, (0.0, 100.0))["valence"], [-1, -0.5, 1, np.nan])
    with pytest.raises(ValueError, match=r"table: found values of valence from 0 to 100, and no scale. .*=1,5"):
        dimensions_of(table)
    with pytest.raises(ValueError, match=r"--dimension_scale 1,7: expected no value outside the scale"):
        dimensions_of(table, (1.0, 7.0))


def test_data_without_any_is_refused(dataset_of):
    with pytest.raises(ValueError, match=r"Found no valence, arousal or dominance in any of 4 rows.* iemocap, msp_"):
        dimensions_of(data(dataset_of, ["ravdess"] * 4, valence=[None] * 4))


@pytest.mark.parametrize("text", ["1", "7,1", "1-7", "a,b", "1,1"])
def test_a_scale_has_two_ends(text):
    with pytest.raises(ValueError, match=r"--dimension_scale is .*expected the lowest and the highest value"):
        stated_scale(text)


def test_a_stated_scale():
    assert stated_scale("-1, 1") == (-1.0, 1.0)
    assert stated_scale(None) is None


def test_targets_are_the_label_and_the_dimensions(dataset_of):
    rows = data(dataset_of, ["table"] * 4)
    known = {"valence": np.array([0.5, np.nan, -1.0, 1.0])}
    assert dimension_targets(rows, known, with_labels=True)["r0"] == [0.0, 1.0, 0.5]
    alone = dimension_targets(rows, known, with_labels=False)
    assert alone["r2"] == [-1.0] and np.isnan(alone["r1"][0])
