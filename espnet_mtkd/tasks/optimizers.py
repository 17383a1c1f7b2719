"""Learning rates of their own for parts of a model: an upstream learns slower than its head."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from espnet_mtkd.errors import UserError


def set_learning_rates(
    optimizer: torch.optim.Optimizer, model: torch.nn.Module, rates: Mapping[str, float]
) -> None:
    """Cut the groups of a new optimizer by modules and give each module its learning rate.

    Args:
        optimizer: one that has made no step.
        model: whose parameters it has.
        rates: learning rates by name of a module, e.g. ``frontend``; of two names that fit, the
            longer one counts. Other parameters keep the optimizer's.

    Raises:
        UserError: a module does not exist or has no parameter to train, or a rate is no number.
    """
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    trainable = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    for module, rate in rates.items():
        if not isinstance(rate, (int, float)) or rate <= 0:
            raise UserError(f"module_lr: {module}: {rate!r}: must be a number above 0, as 1.0e-5")
        if not any(name.startswith(f"{module}.") for name in trainable):
            modules = sorted({name.split(".")[0] for name in trainable})
            raise UserError(
                f"module_lr: {module}: no module with parameters to train; there are "
                f"{', '.join(modules)} and what is inside them"
            )

    def module_of(parameter: torch.nn.Parameter) -> str:
        fitting = [m for m in rates if names[id(parameter)].startswith(f"{m}.")]
        return max(fitting, key=len, default="")

    groups = []
    for group in optimizer.param_groups:
        parts: dict[str, list[torch.nn.Parameter]] = {}
        for parameter in group["params"]:
            parts.setdefault(module_of(parameter), []).append(parameter)
        for module, parameters in parts.items():
            rate = rates.get(module, group["lr"])
            groups.append({**group, "params": parameters, "lr": rate})
    optimizer.param_groups[:] = groups
