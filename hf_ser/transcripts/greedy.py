"""Windows that were encoded to what is said in them: one loop for all back ends, in batches."""

from collections.abc import Sequence

import torch
from torch import Tensor

from hf_ser.transcripts.recogniser import Hypothesis, Recogniser


def decode(
    recogniser: Recogniser,
    features: Tensor,
    openings: Sequence[Sequence[int]],
    temperature: float,
    seeds: Sequence[int],
    max_tokens: int | None = None,
) -> list[Hypothesis]:
    """Decode some windows token by token; an answer depends on its own row alone.

    At temperature 0 the most probable token is taken. Above, one is drawn from the softmax of the logits divided by the
    temperature, as the largest of these plus Gumbel noise (Gumbel 1954), whose generator is seeded for each row. Rows
    whose answer has ended leave the batch.

    Args:
        recogniser: The model.
        features: Of its encoder.
        openings: Tokens before the answer of each row, all of one length.
        temperature: Of the sampling.
        seeds: Of the noise of each row; unused at temperature 0.
        max_tokens: Longest answer; None is the model's.

    Shapes:
        features: `(rows, positions, width)`.
    """
    rows = [_Row(seed) for seed in seeds]
    active = list(range(len(rows)))
    limit = min(max_tokens or recogniser.max_tokens, recogniser.max_tokens)
    # After a long prompt: the model has positions for twice its longest answer, and the last token needs none.
    limit = min(limit, 2 * recogniser.max_tokens + 1 - len(openings[0]))
    tokens = torch.tensor([list(opening) for opening in openings], device=features.device)
    state = recogniser.decoder(features)
    try:
        with torch.inference_mode():
            logits = state.step(tokens)
            _note_no_speech(recogniser, rows, tokens, logits)
            for said in range(limit):
                chosen = _choose(recogniser, logits[:, -1], said, temperature, [rows[row] for row in active])
                kept = _going_on([token != recogniser.end for token in chosen])
                if not kept or said + 1 == limit:
                    break
                if len(kept) < len(active):
                    state.keep(torch.tensor(kept, device=features.device))
                    active = [active[place] for place in kept]
                new = [[chosen[place]] for place in kept]
                logits = state.step(torch.tensor(new, device=features.device))
    finally:
        state.close()
    return [row.hypothesis() for row in rows]


class _Row:
    """One answer as it grows."""

    def __init__(self, seed: int):
        # On the CPU, so that all devices draw alike.
        self.generator = torch.Generator().manual_seed(seed)
        self.tokens, self.logprob, self.no_speech_prob = [], 0.0, float("nan")

    def hypothesis(self) -> Hypothesis:
        return Hypothesis(tuple(self.tokens), self.logprob / (len(self.tokens) + 1), self.no_speech_prob)


def _note_no_speech(recogniser: Recogniser, rows: list[_Row], tokens: Tensor, logits: Tensor) -> None:
    if recogniser.no_speech is None:
        return
    # The last start token: a prompt stands before it.
    place = (tokens[0] == recogniser.start).nonzero()[-1, 0]
    for row, probability in zip(rows, logits[:, place].softmax(-1)[:, recogniser.no_speech].tolist(), strict=True):
        row.no_speech_prob = probability


def _choose(recogniser: Recogniser, logits: Tensor, said: int, temperature: float, rows: list[_Row]) -> list[int]:
    """The next token of each row, added to its answer with its log probability.

    Shapes:
        logits: `(rows, vocabulary)`.
    """
    recogniser.suppress(logits, said)
    scores = logits if temperature == 0 else logits / temperature + _gumbel(rows, logits)
    chosen = scores.argmax(-1)
    # Of the one token: a softmax over 50,000 would take longer than the rest of the step.
    logprobs = logits.gather(-1, chosen[:, None])[:, 0] - logits.logsumexp(-1)
    for row, token, logprob in zip(rows, chosen.tolist(), logprobs.tolist(), strict=True):
        row.logprob += logprob
        if token != recogniser.end:
            row.tokens.append(token)
    return chosen.tolist()


def _going_on(goes_on: list[bool]) -> list[int]:
    """The places of the rows that go on, in an order in which few have to move: the last ones fill the gaps."""
    n_kept = sum(goes_on)
    last = (place for place in range(n_kept, len(goes_on)) if goes_on[place])
    return [place if goes_on[place] else next(last) for place in range(n_kept)]


def keep_rows(held: Tensor, rows: Tensor) -> Tensor:
    """Some rows of what a decoder holds, for the `keep` of all back ends; `held` may be overwritten.

    The keys and values of the sound are by far the most that a decoder holds (37 MB a row of Whisper-base in 30 s), so
    only rows that change their place are copied.

    Shapes:
        held: `(rows, ...)`; rows: `(kept,)`; returns `(kept, ...)`.
    """
    moved = (rows != torch.arange(len(rows), device=rows.device)).nonzero()[:, 0]
    if (rows[moved] < len(rows)).any():  # it would be overwritten before it is read
        return held[rows]
    held[moved] = held[rows[moved]]
    return held[: len(rows)]


def _gumbel(rows: list[_Row], logits: Tensor) -> Tensor:
    noise = [torch.rand(logits.shape[-1], generator=row.generator).clamp(1e-20) for row in rows]
    return -torch.log(-torch.log(torch.stack(noise))).to(logits.device)
