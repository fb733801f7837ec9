"""The trainer of models that learn by gradient descent: frozen encoders stay fixed, own objectives, stages."""

from datasets import Dataset
from peft import PeftModel
from transformers import TrainerCallback

from hf_ser.models.modeling_ser import is_frozen
from hf_ser.training.building import Candidate
from hf_ser.training.objective import Objective, class_weights
from hf_ser.training.predicting import PredictingTrainer, answers_in
from hf_ser.training.schedule import Patience, Stages, parse_stages, split_groups, stage_schedule


class SerTrainer(PredictingTrainer):
    """Trains a `Candidate` by gradient descent.

    Args:
        candidate, labels, kwargs: As of PredictingTrainer.
        view: A `View`, whose epoch is set as training goes on; or None.

    Raises:
        ValueError: settings and model do not go together.
    """

    def __init__(self, candidate: Candidate, labels: list[str], view=None, **kwargs):
        args = kwargs["args"]
        check_model(candidate, args)
        self.stages = Stages(parse_stages(args.stages), candidate.model, candidate.encoders) if args.stages else None
        if self.stages and args.ddp_find_unused_parameters is None:
            args.ddp_find_unused_parameters = True  # what a stage leaves alone never gets a gradient
        super().__init__(candidate, labels, **kwargs)
        if self.is_fsdp_enabled and isinstance(candidate.model, PeftModel):
            raise ValueError(
                "--lora: found FSDP, under which it was never tested. Expected whole weights in every process: use "
                "multi_gpu.yaml, or leave out --lora."
            )
        weights = None
        if power := args.class_weights:
            weights = class_weights(labels_of(self.train_dataset), len(labels), power)
        self.objective = Objective(args, weights)
        views = Views(view) if view is not None else None
        patience = Patience(args.early_stopping_patience) if args.early_stopping_patience else None
        for callback in (patience, self.stages, views):
            if callback is not None:
                self.add_callback(callback)

    def _run_epoch(self, *args, **kwargs):
        # Trainer asks whether to stop only behind a step: a run resumed where its patience ended would go on.
        if not self.control.should_training_stop:
            super()._run_epoch(*args, **kwargs)

    def compute_loss(self, model, inputs, return_outputs=False, **kwargs):
        """As PredictingTrainer's where the objective is plain, else by the objective."""
        # Trainer sets the whole model to training; a frozen encoder is a fixed function, without dropout. One whose
        # features were read is not run.
        for modality, encoder in self.encoders.items():
            if f"{modality}_hidden" not in inputs and is_frozen(encoder):
                encoder.eval()
        if self.objective.is_plain:
            return super().compute_loss(model, inputs, return_outputs, **kwargs)
        outputs = model(**{name: value for name, value in inputs.items() if name != "labels"})
        weight = getattr(self.model.config, "branch_loss_weight", 0.0)
        loss = self.objective.of_outputs(outputs, inputs["labels"], weight)
        return (loss, answers_in(loss, outputs)) if return_outputs else loss

    def create_optimizer(self, model=None):
        """As Trainer's, with a learning rate for each part where the arguments set some apart."""
        made = self.optimizer is None
        optimizer = super().create_optimizer(model)
        if made and (self.args.head_learning_rate is not None or self.stages):
            split_groups(optimizer, self.encoders, self.args)
        return optimizer

    def create_scheduler(self, num_training_steps: int, optimizer=None):
        """As Trainer's, or one cycle a stage."""
        if self.stages and self.lr_scheduler is None:
            stages, trained = self.stages.stages, self.stages.trained
            optimizer = optimizer or self.optimizer
            self.lr_scheduler = stage_schedule(optimizer, stages, trained, self.args, num_training_steps)
            self._created_lr_scheduler = True
        return super().create_scheduler(num_training_steps, optimizer)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model=None) -> None:
        # peft lets all that it loads be trained, also what is to stay as it is.
        trained = {name: parameter.requires_grad for name, parameter in self.model.named_parameters()}
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        for name, parameter in self.model.named_parameters():
            parameter.requires_grad_(trained[name])


class Views(TrainerCallback):
    """Tells a `View` the epoch, so that a clip is changed otherwise in each; also in a run that is resumed."""

    def __init__(self, view):
        self.view = view

    def on_epoch_begin(self, args, state, control, **kwargs):
        """Set the epoch; with `cache_views` the rows take so many views in turn."""
        self.view.set(int(state.epoch or 0))


def labels_of(dataset) -> list[int]:
    """The class of each row, whatever it is trained towards."""
    if isinstance(dataset, Dataset):
        return dataset.with_format(None)["label"][:]  # without its transform, which would read all of the audio
    return [row["label"] for row in dataset]


def check_model(candidate: Candidate, args) -> None:
    """Make sure that the settings suit the model.

    Raises:
        ValueError: gradient checkpointing of a model that has none.
    """
    known = any(hasattr(module, "gradient_checkpointing") for module in candidate.model.modules())
    if args.gradient_checkpointing and not known:
        kind = candidate.model.config.model_type
        raise ValueError(
            f"--gradient_checkpointing true: {kind} does not support it. Expected a transformer with layers to compute "
            "again: leave it out, or lower --per_device_train_batch_size and raise --gradient_accumulation_steps."
        )
