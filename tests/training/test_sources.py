"""A pretrained model that is not there is found before the data are prepared, by one request and no more."""

import pytest
from huggingface_hub import constants

from hf_ser import revisions
from hf_ser.revisions import checkpoint_config
from hf_ser.training import run
from hf_ser.training.arguments import AudioArguments, DataArguments, TextArguments
from hf_ser.training.building import check_sources


@pytest.fixture
def requests(monkeypatch):
    """The requests that are made of a Hub that cannot be reached."""
    made = []

    def unreachable(url, **kwargs):
        made.append(url)
        raise ConnectionError("no route to host")

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(revisions, "get_hf_file_metadata", unreachable)
    return made


def test_a_misspelt_name_is_asked_for_once_and_the_message_says_what_was_tried(requests):
    said = (
        r"facebook/wav2vec2-bse: found neither.*the cache .* does not hold it.*could not be reached: no route to host"
    )
    with pytest.raises(FileNotFoundError, match=said):
        checkpoint_config("facebook/wav2vec2-bse")
    assert len(requests) == 1


def test_without_a_network_the_hub_is_not_looked_at(monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(revisions, "get_hf_file_metadata", None)
    with pytest.raises(FileNotFoundError, match="HF_HUB_OFFLINE is set, so the Hub was not tried"):
        checkpoint_config("user/modle@main")


@pytest.mark.parametrize(
    ("name", "found"), [("a b/c", "neither a model folder"), ("user/../x", "no such folder"), ("x" * 200, "neither")]
)
def test_what_is_no_name_at_all_is_refused(name, found, requests):
    with pytest.raises(FileNotFoundError, match=f"found {found}"):
        checkpoint_config(name)


def test_models_are_looked_for_before_the_data(requests, monkeypatch):
    monkeypatch.setattr(run, "load_or_prepare", lambda *args, **kwargs: pytest.fail("the data were prepared"))
    with pytest.raises(FileNotFoundError, match=r"^distilbert-base-uncasd: found neither"):
        run.open_data(DataArguments(), AudioArguments(), TextArguments(text_model="distilbert-base-uncasd"))
    with pytest.raises(FileNotFoundError, match=r"^runs/a/fold_2: found no such folder"):
        run.open_data(DataArguments(fold="2"), AudioArguments(audio_model="runs/a/fold_{fold}"))
    for given in ({"corpus": "table", "data_dir": "cals.csv"}, {"dataset": "runs/cals"}):
        with pytest.raises((FileNotFoundError, ValueError), match="cals"):  # before an encoder is looked for
            run.open_data(DataArguments(**given), AudioArguments(audio_model="no/such"))


def test_networks_of_ours_need_no_request(requests):
    check_sources((AudioArguments(audio_model="crnn"), TextArguments()), ["1"])
    check_sources((AudioArguments(audio_model="runs/a/fold_{fold}"),), [])  # of folds that are not known yet
    assert requests == []
