"""Batched decoding of encoded windows into tokens: one loop for both back ends on torch."""

from collections.abc import Sequence

import torch
from torch import Tensor

from hf_ser.transcripts.recogniser import Hypothesis, StepwiseRecogniser


def decode(
    recogniser: StepwiseRecogniser,
    features: Tensor,
    initial_tokens: Sequence[Sequence[int]],
    temperature: float,
    seeds: Sequence[int],
    max_tokens: int | None = None,
) -> list[Hypothesis]:
    """Decode windows token by token; each hypothesis depends on its own row alone.

    At temperature 0 the most probable token is chosen. Otherwise a token is sampled from the softmax of the logits
    divided by the temperature, by adding Gumbel noise (Gumbel 1954) from a generator seeded for each row. Finished rows
    leave the batch.

    Args:
        recogniser: The model.
        features, initial_tokens, temperature, seeds, max_tokens: As `Recogniser.decode` takes them.
    """
    rows = [_Row(seed) for seed in seeds]
    active = list(range(len(rows)))
    limit = min(max_tokens or recogniser.max_tokens, recogniser.max_tokens)
    # The model has positions for twice its longest answer, including the prompt; the last token needs none.
    limit = min(limit, 2 * recogniser.max_tokens + 1 - len(initial_tokens[0]))
    tokens = torch.tensor([list(row) for row in initial_tokens], device=features.device)
    state = recogniser.decoder(features)
    try:
        with torch.inference_mode():
            logits = state.step(tokens)
            _note_no_speech(recogniser, rows, tokens, logits)
            for n_generated in range(limit):
                chosen = _choose(recogniser, logits[:, -1], n_generated, temperature, [rows[row] for row in active])
                kept = _compacted([token != recogniser.end for token in chosen])
                if not kept or n_generated + 1 == limit:
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
    """Hypothesis of one row while it is decoded."""

    def __init__(self, seed: int):
        # On the CPU, so that all devices draw the same numbers.
        self.generator = torch.Generator().manual_seed(seed)
        self.tokens, self.logprob, self.no_speech_prob = [], 0.0, float("nan")

    def hypothesis(self) -> Hypothesis:
        return Hypothesis(tuple(self.tokens), self.logprob / (len(self.tokens) + 1), self.no_speech_prob)


def _note_no_speech(recogniser: StepwiseRecogniser, rows: list[_Row], tokens: Tensor, logits: Tensor) -> None:
    if recogniser.no_speech is None:
        return
    # The last start token: a prompt comes before it.
    place = (tokens[0] == recogniser.start).nonzero()[-1, 0]
    for row, probability in zip(rows, logits[:, place].softmax(-1)[:, recogniser.no_speech].tolist(), strict=True):
        row.no_speech_prob = probability


def _choose(
    recogniser: StepwiseRecogniser, logits: Tensor, n_generated: int, temperature: float, rows: list[_Row]
) -> list[int]:
    """Choose the next token of each row, and add it and its log probability to the row.

    Shapes:
        logits: `(rows, vocabulary)`.
    """
    recogniser.suppress(logits, n_generated)
    scores = logits if temperature == 0 else logits / temperature + _gumbel(rows, logits)
    chosen = scores.argmax(-1)
    # Only of the chosen token: a softmax over 50,000 takes longer than the rest of the step.
    logprobs = logits.gather(-1, chosen[:, None])[:, 0] - logits.logsumexp(-1)
    for row, token, logprob in zip(rows, chosen.tolist(), logprobs.tolist(), strict=True):
        row.logprob += logprob
        if token != recogniser.end:
            row.tokens.append(token)
    return chosen.tolist()


def _compacted(unfinished: list[bool]) -> list[int]:
    """Positions of the unfinished rows; the last ones fill the gaps, so that few rows move."""
    n_kept = sum(unfinished)
    last = (place for place in range(n_kept, len(unfinished)) if unfinished[place])
    return [place if unfinished[place] else next(last) for place in range(n_kept)]


def keep_rows(state: Tensor, rows: Tensor) -> Tensor:
    """Select rows of a decoder's state, for the `keep` of both back ends; `state` may be overwritten.

    The keys and values of the audio take most of a decoder's memory (37 MB a row of Whisper-base in 30 s), so only rows
    that change their position are copied.

    Shapes:
        state: `(rows, ...)`; rows: `(kept,)`; returns `(kept, ...)`.
    """
    moved = (rows != torch.arange(len(rows), device=rows.device)).nonzero()[:, 0]
    if (rows[moved] < len(rows)).any():  # it would be overwritten before it is read
        return state[rows]
    state[moved] = state[rows[moved]]
    return state[: len(rows)]


def _gumbel(rows: list[_Row], logits: Tensor) -> Tensor:
    noise = [torch.rand(logits.shape[-1], generator=row.generator).clamp(1e-20) for row in rows]
    return -torch.log(-torch.log(torch.stack(noise))).to(logits.device)
