"""Which heads are solved for at once, and the settings of descent that they have no use for."""

from hf_ser.models import PRESETS, SOLVED_HEADS, TEXT_PRESETS, SerConfig
from hf_ser.models.configuration_ser import AUDIO
from hf_ser.models.networks import FITTED
from hf_ser.training.parsing import settings

OF_DESCENT = (
    *("stages", "search", "learning_rate", "head_learning_rate"),
    *("num_train_epochs", "max_steps", "warmup_steps", "lr_scheduler_type", "lr_scheduler_kwargs", "optim"),
    *("optim_args", "weight_decay", "max_grad_norm", "adam_beta1", "adam_beta2", "adam_epsilon"),
    *("label_smoothing_factor", "load_best_model_at_end", "metric_for_best_model"),
    *("gradient_accumulation_steps", "gradient_checkpointing", "torch_compile"),
)
"""Settings of the training that a fit has no use for, but for those that a study may give to all its systems."""

FITTED_HEAD = {"head": "linear", "pooling": "mean"}
"""What its head is in any case, and may be said."""


def is_solved(config: SerConfig) -> bool:
    """Whether a model's head is solved for at once: by its own kind, or by that of the network under it."""
    network = getattr(config.audio_config, "network", None)
    return config.head in SOLVED_HEADS or (config.modalities == (AUDIO,) and network in FITTED)


def has_solved_head(models: list, head) -> bool:
    """Whether the settings of a model name a head that is solved for; arguments as of `reject_descent`."""
    return head.chosen in SOLVED_HEADS or fitted_network(models) is not None


def fitted_network(models: list) -> str | None:
    """The network whose head is solved for in any case, of an audio-only model; arguments as of `reject_descent`."""
    name = getattr(models[0], "audio_model", None)
    return name if name in FITTED and len(models) == 1 else None


def reject_descent(models: list, head, adapt, training) -> None:
    """Make sure that no setting of gradient descent is given for a head that is solved for.

    Args:
        models: AudioArguments, TextArguments or both.
        head, adapt, training: HeadArguments or FusionArguments, AdaptArguments and SerTrainingArguments.

    Raises:
        ValueError: one is, the encoder has random weights, or speeds or previous turns are given for
            another head.
    """
    network, is_named = fitted_network(models), head.chosen in SOLVED_HEADS
    if not is_named and (speeds := getattr(models[0], "speeds", None)):
        raise ValueError(
            f"--speeds is {speeds}, --{'fusion' if len(models) == 2 else 'head'} {head.chosen}: found a head that does "
            f"not average over the speeds of a clip. Expected {' or '.join(SOLVED_HEADS)}; or, to change clips in "
            "training alone, --augment speed."
        )
    if not is_named and (turns := getattr(models[-1], "context", 0)):
        raise ValueError(
            f"--context is {turns}, --{'fusion' if len(models) == 2 else 'head'} {head.chosen}: found a head that "
            f"reads no previous turns. Expected {' or '.join(SOLVED_HEADS)}: add it, or leave --context out."
        )
    if not is_named and network is None:
        return
    named = {
        name: value for one in models for name, value in vars(one).items() if name in ("audio_model", "text_model")
    }
    for name, value in named.items():
        if is_named and network is None and value in (*PRESETS, *TEXT_PRESETS):
            raise ValueError(
                f"--{'fusion' if len(models) == 2 else 'head'} {head.chosen}, --{name} {value}: found a network of "
                "random weights, which such a head leaves as it is. Expected a pretrained encoder, such as "
                "openai/whisper-base for audio and sentence-transformers/all-MiniLM-L6-v2 for text, or random_kernels "
                "for audio alone, which has a ridge in any case."
            )
    of_training = settings(training)
    given = {name: of_training[name] for name in OF_DESCENT if name in of_training} | settings(adapt)
    if is_named and adapt.freeze in ("both" if len(models) == 2 else next(iter(named)).split("_")[0], "both"):
        given.pop("freeze", None)  # it is in any case
    own = FITTED_HEAD if network else {"head": head.chosen, "fusion": head.chosen, "pooling": "mean"}
    given |= {name: value for name, value in settings(head).items() if own.get(name) != value}
    solved = f"--audio_model {network}" if network else f"--{'fusion' if len(models) == 2 else 'head'} {head.chosen}"
    if training.class_weights is not None and head.chosen != "ridge" and network != "random_kernels":
        raise ValueError(
            f"--class_weights is {training.class_weights:g}, {solved}: found a logistic regression, in which all clips "
            "count alike. Expected none: leave it out, or take a ridge (--head ridge)."
        )
    if given:
        name, value = next(iter(given.items()))
        raise ValueError(
            f"--{name} is {getattr(value, 'value', value)}, {solved}: found a setting that a "
            "fit has no use for: its linear head is solved for at once, on the clips as they are. Expected none: leave "
            "it out, or take what is trained in epochs, such as "
            f"{'--fusion gated' if len(models) == 2 else '--head mlp' if not network else '--audio_model crnn'}."
        )
