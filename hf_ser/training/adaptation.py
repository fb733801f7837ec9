"""How much of a pretrained encoder is trained: all of it, low-rank changes of it, or nothing."""

from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn
from transformers import PreTrainedModel

from hf_ser.models.encoders import FAMILIES, family_of
from hf_ser.models.modeling_ser import is_frozen
from hf_ser.runs.record import is_own_network

LAYERS = ("encoder.layers", "encoder.layer", "transformer.layer", "encoder.albert_layer_groups", "layers")
LAYERS += ("encoder.stages",)
"""Where the layers of transformers' encoders lie; of ResNet and ConvNeXt the stages."""
LORA_SCALE = 2
"""What the product of LoRA's matrices is multiplied by."""
BACKBONE = "network.backbone."
"""The name of an image model in the encoder that shows it spectrograms."""


def adapted(model: PreTrainedModel, encoders: dict[str, nn.Module], adapt, sources: dict[str, str]) -> nn.Module:
    """Freeze encoders or parts of them, or put LoRA on them, as AdaptArguments say; all else is trained.

    Args:
        model: The whole model.
        encoders: Its encoders by modality; where peft trains a copy of one, the copy takes its place.
        adapt: AdaptArguments.
        sources: Where each encoder came from, by modality.

    Raises:
        ValueError: one encoder is to be frozen and LoRA-trained, is not there, has no known LoRA targets, or would be
            frozen with the random weights that it is made with.
    """
    frozen, through_lora = named_encoders(adapt.freeze, encoders), named_encoders(adapt.lora, encoders)
    if both := sorted(set(frozen) & set(through_lora)):
        raise ValueError(f"--freeze and --lora both name the {both[0]} encoder: LoRA already keeps its weights.")
    for name in frozen:
        reject_fresh(f"--freeze {adapt.freeze}", name, sources[name])
        encoders[name].requires_grad_(False)
    return with_lora(model, encoders, through_lora, adapt) if through_lora else model


def named_encoders(choice: str, encoders: dict[str, nn.Module]) -> list[str]:
    """The modalities that `--freeze` or `--lora` name.

    Raises:
        ValueError: the model has no such encoder.
    """
    if choice == "none":
        return []
    names = list(encoders) if choice == "both" else [choice]
    if names[0] not in encoders:
        raise ValueError(
            f"--freeze or --lora {choice}: found no {choice} encoder in this model, which has {', '.join(encoders)}. "
            "Expected one of those: name it, or leave the flag out."
        )
    return names


def reject_fresh(flag: str, name: str, source: str) -> None:
    """Make sure that what is frozen has been trained before.

    Raises:
        ValueError: the encoder is made here.
    """
    if is_own_network(source):
        raise ValueError(
            f"{flag}: the {name} encoder is made here, with random weights. Expected a trained one to be frozen: train "
            f"it first with train_{name}.py and name its folder, or leave out {flag.split()[0]}."
        )


def layers_of(encoder: nn.Module) -> list[nn.Module]:
    """The layers of an encoder from its input to its output: of a transformer, or recurrent; empty if not known."""
    for path in (*LAYERS, *(BACKBONE + path for path in LAYERS)):
        found = encoder
        for step in path.split("."):
            found = getattr(found, step, None)
        if isinstance(found, nn.ModuleList):
            return list(found)
    return [module for module in encoder.modules() if isinstance(module, nn.RNNBase)]


def by_depth(encoder: nn.Module) -> list[list[nn.Parameter]]:
    """An encoder's parameters: what comes before its layers, each layer, and what comes after them.

    What is registered before the layers counts as before them. In the large wav2vec2 and its like that is also the
    last LayerNorm.
    """
    layers = layers_of(encoder)
    depth = {id(parameter): i for i, layer in enumerate(layers, start=1) for parameter in layer.parameters()}
    parts, met = [[] for _ in range(len(layers) + 2)], False
    for parameter in encoder.parameters():
        met = met or id(parameter) in depth
        parts[depth.get(id(parameter), len(layers) + 1 if met else 0)].append(parameter)
    return parts


def with_lora(model: PreTrainedModel, encoders: dict[str, nn.Module], names: list[str], adapt) -> PeftModel:
    """Put LoRA on the attention of some encoders.

    Raises:
        ValueError: an encoder's attention is not known.

    Source: Hu et al. 2021, LoRA: Low-Rank Adaptation of Large Language Models, eq. 3.
    """
    paths = {id(module): path for path, module in model.named_modules()}
    targets = []
    for name in names:
        config = encoders[name].config
        lora_targets = family_of(config).lora_targets
        if lora_targets is None:
            known = ", ".join(model_type for model_type, family in FAMILIES.items() if family.lora_targets)
            raise ValueError(
                f"--lora: found the {name} encoder to be {config.model_type}, for which it is not known. Expected one "
                f"of {known}: leave it out, and train the encoder whole."
            )
        targets.append(rf"{paths[id(encoders[name])]}\..*\.({lora_targets})")
    inside = {paths[id(encoder)].split(".")[0] for encoder in encoders.values()}
    # Every part beside the encoders is trained and saved whole: peft would silently freeze it.
    whole = [name for name, _ in model.named_children() if name not in inside]
    whole += [paths[id(encoders[name])] for name in encoders if name not in names and not is_frozen(encoders[name])]
    config = LoraConfig(
        r=adapt.lora_rank,
        lora_alpha=LORA_SCALE * adapt.lora_rank,
        target_modules="|".join(targets),
        modules_to_save=whole,
    )
    model = get_peft_model(model, config)
    for name in encoders:
        if paths[id(encoders[name])] in whole:
            # What is trained is peft's copy, not the module that was there.
            encoders[name] = model.base_model.model.get_submodule(paths[id(encoders[name])]).modules_to_save["default"]
    return model
