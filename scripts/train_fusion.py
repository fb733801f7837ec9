"""Train a model of audio and text.

accelerate launch scripts/train_fusion.py                       # the embedded default, no data or network
accelerate launch scripts/train_fusion.py RECIPE.yaml [--flags] # a recipe, flags override it
"""

from hf_ser.cli import parse_early, run, show_next

from hf_ser.training.early import check_command_line

if __name__ == "__main__":
    parse_early(lambda: check_command_line("fusion"))

from hf_ser.training.tasks import next_commands, parse_task, run_task


def main() -> None:
    """Train and test a model."""
    given = parse_task("fusion")
    show_next(*next_commands("fusion", run_task("fusion", given), given))


if __name__ == "__main__":
    run(main, continues=True)
