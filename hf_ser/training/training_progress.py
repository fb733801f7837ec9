"""Progress of a training: named bars on a terminal, and a line for each epoch."""

from pathlib import Path

from tqdm import tqdm
from transformers import ProgressCallback
from transformers.trainer_utils import has_length

STRENGTHS = ("ridge_lambda", "regularisation_c")
"""How the names begin under which a head that is solved for logs the strengths of its penalties."""


class OneLineProgress(ProgressCallback):
    """Named progress bars on a terminal, and for each epoch one line that a person can read, also in a file."""

    def on_train_begin(self, args, state, control, **kwargs):
        """Show the bar of the training, with the name of its fold's folder."""
        if state.is_world_process_zero:
            name = f"training {Path(args.output_dir).parent.name}"
            if args.max_steps <= 0 and getattr(args, "early_stopping_patience", 0):
                name += (
                    f", at most {args.num_train_epochs:g} epochs"  # so the time that remains is at most what it says
                )
            self.training_bar = bar(args, name, state.max_steps, unit=" steps")
        self.current_step = 0

    def on_prediction_step(self, args, state, control, eval_dataloader=None, **kwargs):
        """Move the bar of a prediction on."""
        if state.is_world_process_zero and has_length(eval_dataloader):
            if self.prediction_bar is None:
                during = self.training_bar is not None
                name = "validation" if during else f"predicting {Path(args.output_dir).parent.name}"
                self.prediction_bar = bar(args, name, len(eval_dataloader), leave=not during)
            self.prediction_bar.update(1)

    def on_log(self, args, state, control, logs=None, **kwargs):
        """Write the figures of an epoch, or of a head that was solved for, above the bar."""
        if not state.is_world_process_zero:
            return
        main = next(iter(args.metrics))  # uar, or wer of a recogniser
        if {"inner_uar", "inner_ccc"} & set(logs):
            chosen = ", ".join(f"{name} {value:g}" for name, value in logs.items() if name.startswith(STRENGTHS))
            reached = reached_text(logs, "inner_", main)
            tqdm.write(f"solved with {chosen}" + f", {reached} on speakers left out" * bool(reached))
        elif "eval_loss" in logs and (reached := reached_text(logs, "eval_", main)):
            tqdm.write(
                f"epoch {logs['epoch']:5.1f}  validation {reached}  "
                f"loss {logs['eval_loss']:.3f}  ({logs['eval_samples_per_second']:.1f} clips/s)"
            )
        elif "loss" in logs:
            tqdm.write(f"epoch {logs['epoch']:5.1f}  training loss {float(logs['loss']):.3f}")

    def on_train_end(self, args, state, control, **kwargs):
        """Say why a bar has stopped short of its end."""
        if self.training_bar is not None and state.global_step < state.max_steps:
            chosen_by = args.metric_for_best_model
            is_named = chosen_by in ("uar", "ccc")
            what = f"{chosen_by.upper()} had not risen" if is_named else f"{chosen_by} had not become better"
            tqdm.write(
                f"stopped after epoch {state.epoch:.0f} of {args.num_train_epochs:g}: validation {what} for "
                f"{args.early_stopping_patience} evaluations"
            )
        super().on_train_end(args, state, control, **kwargs)


def reached_text(logs: dict, prefix: str, main: str) -> str:
    """The main figure in logs, a share, and the CCC, as far as they are there."""
    share, ccc = logs.get(prefix + main), logs.get(f"{prefix}ccc")
    width = 5 if prefix == "eval_" else 0
    texts = [] if share is None else [f"{main.upper()} {100 * share:{width}.1f} %"]
    return ", ".join(texts + ([] if ccc is None else [f"CCC {ccc:.3f}"]))


def bar(args, name: str, total: int, leave: bool = True, unit: str = " batches") -> tqdm:
    """A named progress bar, on a terminal unless `--disable_tqdm`."""
    hidden = args.disable_tqdm or None
    return tqdm(total=total, desc=name, leave=leave, dynamic_ncols=True, disable=hidden, unit=unit)
