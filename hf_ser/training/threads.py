"""How many processor threads a model is computed with."""

import os

import torch
from torch import nn

SMALL = 5_000_000
"""Parameters below which a model is computed faster by one thread of a processor."""


def choose_threads(model: nn.Module, args) -> None:
    """Set the processor threads of this process by the size of the model, where OMP_NUM_THREADS does not say them.

    Small models get one thread and large ones their share of the processor. On two busy cores two threads were measured
    to be seven times slower than one for a small CNN, for they wait for each other at every layer; for the same reason
    batches are made by no workers of their own unless `--dataloader_num_workers` says so.
    """
    if "OMP_NUM_THREADS" not in os.environ and args.device.type == "cpu":
        processes = int(os.environ.get("LOCAL_WORLD_SIZE", 1))
        torch.set_num_threads(threads_for(count_parameters(model)[0], processes))


def threads_for(parameters: int, processes: int) -> int:
    """Processor threads of each process for a model with so many parameters to compute with."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return 1 if parameters < SMALL else max(cores // processes, 1)


def count_parameters(model: nn.Module) -> tuple[int, int]:
    """All parameters, and those that are trained."""
    parameters = list(model.parameters())
    return sum(p.numel() for p in parameters), sum(p.numel() for p in parameters if p.requires_grad)
