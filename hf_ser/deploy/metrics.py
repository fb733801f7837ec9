"""Counts of a server in the text format of Prometheus, written plainly: no library is needed for a few lines."""

from collections import Counter
from collections.abc import Sequence

BUCKETS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Upper ends of the histogram of seconds a request."""


class Metrics:
    """What a server has done since it started.

    Args:
        labels: Emotions of the model.
    """

    def __init__(self, labels: Sequence[str]):
        self.statuses: Counter[int] = Counter()
        self.seconds: list[int] = [0] * (len(BUCKETS) + 1)
        self.sum_of_seconds = 0.0
        self.labels: Counter[str] = Counter(dict.fromkeys(labels, 0))
        self.unsure = self.unfamiliar = 0
        self.batches = BatchCount()

    def request(self, status: int, seconds: float) -> None:
        """Count a request that was answered."""
        self.statuses[status] += 1
        self.sum_of_seconds += seconds
        self.seconds[next((i for i, end in enumerate(BUCKETS) if seconds <= end), len(BUCKETS))] += 1

    def answer(self, label: str, unsure: bool, unfamiliar: bool) -> None:
        """Count a prediction."""
        self.labels[label] += 1
        self.unsure += unsure
        self.unfamiliar += unfamiliar

    def text(self, waiting: int) -> str:
        """All counts, one a line.

        Args:
            waiting: Recordings that wait now.
        """
        total, below = sum(self.seconds), 0
        lines = [*_head("hf_ser_requests_total", "counter", "Requests for a prediction, by status of the answer.")]
        lines += [f'hf_ser_requests_total{{status="{code}"}} {count}' for code, count in sorted(self.statuses.items())]
        lines += _head("hf_ser_request_seconds", "histogram", "Seconds from a request to its answer.")
        for end, count in zip(BUCKETS, self.seconds[:-1], strict=True):
            below += count
            lines.append(f'hf_ser_request_seconds_bucket{{le="{end:g}"}} {below}')
        lines.append(f'hf_ser_request_seconds_bucket{{le="+Inf"}} {total}')
        lines.append(f"hf_ser_request_seconds_sum {self.sum_of_seconds:.6f}")
        lines.append(f"hf_ser_request_seconds_count {total}")
        lines += _head("hf_ser_answers_total", "counter", "Predictions, by emotion.")
        lines += [f'hf_ser_answers_total{{emotion="{_escaped(one)}"}} {count}' for one, count in self.labels.items()]
        lines += _head("hf_ser_unsure_total", "counter", "Predictions that are not to be relied on.")
        lines.append(f"hf_ser_unsure_total {self.unsure}")
        lines += _head("hf_ser_unfamiliar_total", "counter", "Predictions of recordings unlike the training data.")
        lines.append(f"hf_ser_unfamiliar_total {self.unfamiliar}")
        lines += _head("hf_ser_batches_total", "counter", "Runs of the model.")
        lines.append(f"hf_ser_batches_total {self.batches.number}")
        lines += _head("hf_ser_batched_recordings_total", "counter", "Recordings in them.")
        lines.append(f"hf_ser_batched_recordings_total {self.batches.recordings}")
        lines += _head("hf_ser_waiting", "gauge", "Recordings that wait for the model.")
        lines.append(f"hf_ser_waiting {waiting}")
        return "\n".join(lines) + "\n"


class BatchCount:
    """How many batches were run, of how many recordings."""

    def __init__(self):
        self.number = self.recordings = 0

    def append(self, size: int) -> None:
        """Count a batch."""
        self.number, self.recordings = self.number + 1, self.recordings + size


def _head(name: str, kind: str, about: str) -> list[str]:
    return [f"# HELP {name} {about}", f"# TYPE {name} {kind}"]


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
