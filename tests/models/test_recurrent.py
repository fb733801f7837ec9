"""Recurrent text networks: independent of padding, saved whole."""

import pytest
import torch
from models.tiny import assert_same_answers

from hf_ser.models.recurrent import TEXT_PRESETS, TextRnnConfig, TextRnnModel

IDS = torch.tensor([[5, 3, 9, 2, 7], [4, 8, 0, 0, 0]])
MASK = (IDS != 0).long()


def network(**settings) -> TextRnnModel:
    torch.manual_seed(0)
    config = TextRnnConfig(vocab_size=10, embedding_size=4, hidden_size=8, **settings)
    return TextRnnModel(config).eval()


@pytest.mark.parametrize("settings", [*TEXT_PRESETS.values(), {"bidirectional": False}], ids=[*TEXT_PRESETS, "one way"])
def test_a_text_gives_the_same_alone_padded_and_after_reloading(settings, tmp_path):
    model = network(**settings)
    with torch.no_grad():
        hidden = model(IDS, MASK).last_hidden_state
        torch.testing.assert_close(model(IDS[1:, :2]).last_hidden_state, hidden[1:, :2])
        assert hidden.shape == (2, 5, 8)
        model.save_pretrained(tmp_path)
        reloaded = TextRnnModel.from_pretrained(tmp_path).eval()
        assert_same_answers(reloaded(IDS, MASK).last_hidden_state, hidden)
    assert (hidden[0, :2] - hidden[1, :2]).abs().max() > 1e-3


def test_the_bilstm_has_two_layers_of_lstm_in_both_directions():
    rnn = network(**TEXT_PRESETS["bilstm"]).rnn
    assert isinstance(rnn, torch.nn.LSTM) and (rnn.num_layers, rnn.bidirectional, rnn.hidden_size) == (2, True, 4)


def test_settings_that_cannot_be_are_told():
    with pytest.raises(ValueError, match="Unknown cell 'elman': expected one of gru, lstm"):
        TextRnnConfig(cell="elman")
    with pytest.raises(ValueError, match="hidden_size 9 is shared by two directions: expected an even number"):
        TextRnnConfig(hidden_size=9)
