"""The views of training clips: which one a row asks for, an epoch or one of several that are kept."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from datasets import Dataset

from hf_ser.augment.specification import parse_augmentation


class View:
    """Number of the current view (epoch), shared with all loader workers however they were started."""

    def __init__(self):
        # Shared memory that a pickle for a spawned worker refers to; a multiprocessing.Value could not be pickled for
        # the fingerprints of `datasets`.
        self._epoch = torch.zeros(1, dtype=torch.int64).share_memory_()

    def set(self, epoch: int | None) -> None:
        """Set the view, before the loader of an epoch starts; None is the unchanged clip."""
        self._epoch[0] = -1 if epoch is None else int(epoch)

    def get(self) -> int | None:
        epoch = int(self._epoch[0])
        return None if epoch < 0 else epoch

    def __deepcopy__(self, memo) -> "View":
        return self  # `datasets` deep-copies transforms, and every copy must see the epoch


def number_of_views(augment: str | None, cache_views: int, is_solved: bool) -> int:
    """How many changed views of a clip there are; 0 for a new one in every epoch.

    Args:
        augment: As of `--augment`.
        cache_views: As it was given, or 0.
        is_solved: Whether the head is solved for, without epochs in which to meet new views: it has one for each turn
            of the changes where no number was given.

    Raises:
        ValueError: views of clips that nothing changes, or too few for the turns.
    """
    if not augment:
        if cache_views:
            raise ValueError(
                f"--cache_views is {cache_views}: found no --augment, and so nothing for views of a clip to differ by. "
                "Expected one: add it, or leave --cache_views out."
            )
        return 0
    turns = len(parse_augmentation(augment))
    if is_solved and not cache_views:
        return turns
    if 0 < cache_views < turns:
        raise ValueError(
            f"--cache_views is {cache_views}, --augment {augment}: found fewer views of a clip than turns, {turns}, so "
            f"that the last are never used. Expected as many, or a multiple: give --cache_views {turns}."
        )
    return cache_views


def with_views(dataset: Dataset, view: View, cache_views: int = 0) -> Dataset:
    """Add a column `view`, the current view, to the rows of a data set after its own transform.

    Args:
        dataset: Training rows, as `hf_ser.inputs.targets` returns them.
        view: Set to the epoch before each epoch.
        cache_views: Number of views, used in turn; 0 for a new one each epoch.
    """
    inner = dataset.format["format_kwargs"].get("transform") if dataset.format["type"] == "custom" else None
    return dataset.with_transform(SetView(view, cache_views, inner))


@dataclass(frozen=True, eq=False)
class SetView:
    """Transform of a data set that adds the current view to its rows."""

    view: View
    cache_views: int = 0
    inner: Callable[[dict[str, list]], dict[str, list]] | None = None

    def __call__(self, rows: dict[str, list]) -> dict[str, list]:
        """Add the column `view` to a batch of columns."""
        rows = rows if self.inner is None else self.inner(rows)
        epoch = self.view.get()
        number = epoch % self.cache_views if self.cache_views and epoch is not None else epoch
        return {**rows, "view": [number] * len(next(iter(rows.values())))}
