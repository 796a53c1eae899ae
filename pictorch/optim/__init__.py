"""How parameters move: parameter groups, optimisers, schedules, averages."""

import inspect
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pictorch.config.errors import UserError, nearest
from pictorch.optim.adabound import AdaBound
from pictorch.optim.groups import freeze, head, parameter_groups
from pictorch.optim.lamb import LAMB
from pictorch.optim.lars import LARS
from pictorch.optim.lion import Lion
from pictorch.optim.muon import Muon
from pictorch.optim.sam import SAM

__all__ = ["clip", "create", "freeze", "head", "make_capturable", "parameter_groups", "set_lr", "step"]

# fused: one kernel over all parameters; the same updates as the loop over parameters, to rounding.
OPTIMIZERS: dict[str, tuple[Callable[..., torch.optim.Optimizer], dict[str, Any]]] = {
    "sgd": (torch.optim.SGD, {"fused": True}),
    "adam": (torch.optim.Adam, {"fused": True}),
    "adamw": (torch.optim.AdamW, {"fused": True}),
    "adabound": (AdaBound, {}),
    "adaboundw": (AdaBound, {"decoupled": True}),
    "lamb": (LAMB, {}),
    "lars": (LARS, {}),
    "lion": (Lion, {}),
    "muon": (Muon, {}),
    "sam": (SAM, {"fused": True}),
}


def create(
    model: nn.Module,
    name: str,
    *,
    lr: float | Tensor,
    weight_decay: float,
    decay_norm_and_bias: bool = True,
    decay_only: Sequence[str] | None = None,
    lr_head_factor: float = 1.0,
    head: Collection[nn.Parameter] = (),
    adamw_lr: float = 3e-4,
    **options: Any,
) -> torch.optim.Optimizer:
    """Return the optimiser `name` over the model's trainable parameters; `options` are the optimiser's own keywords.

    Every group has an "lr_factor": its learning rate is that times the schedule's. It is `lr_head_factor` for the
    parameters of `head`, and with "muon", whose groups of kernels and matrices leave `head` out, adamw_lr / lr for all
    that AdamW moves. Raises UserError for an unknown name.
    """
    if name not in OPTIMIZERS:
        raise UserError(f"there is no optimiser {name!r}{nearest(name, OPTIMIZERS)}")
    groups = parameter_groups(
        model,
        weight_decay=weight_decay,
        decay_norm_and_bias=decay_norm_and_bias,
        decay_only=decay_only,
        head=head,
        lr_head_factor=lr_head_factor,
        matrices_apart=name == "muon",
    )
    for group in groups:
        if not group.get("muon", True):
            group["lr_factor"] *= adamw_lr / float(lr)
        if group["lr_factor"] != 1:
            group["lr"] = lr * group["lr_factor"]
    kind, fixed = OPTIMIZERS[name]
    leave_compiler_out()
    # torch 2.13's fused SGD goes wrong on bfloat16 parameters on a CPU: it moves them by less than a tenth. On CUDA
    # it is the one whose learning rate can be a tensor in a captured step.
    if any(p.dtype == torch.bfloat16 and p.device.type == "cpu" for group in groups for p in group["params"]):
        fixed = {key: value for key, value in fixed.items() if key != "fused"}
    return kind(groups, lr=lr, **fixed, **options)


def leave_compiler_out() -> None:
    """Let torch's optimisers work without importing torch.compile's machinery, 1.3 s of every process that trains.

    These methods import it when they are called first, to be told to leave themselves out of what is compiled; here
    only networks are. Where another version of torch keeps that answer elsewhere, they ask for it as before.
    """
    for name in ("add_param_group", "load_state_dict", "state_dict", "zero_grad"):
        method = getattr(getattr(torch.optim.Optimizer, name), "__wrapped__", None)
        if method is not None:
            vars(method).setdefault("__dynamo_disable", method)


@torch.no_grad()
def step(optimizer: torch.optim.Optimizer) -> None:
    """Move the parameters: `optimizer.step()` without what torch wraps around it, which imports that machinery, too."""
    inspect.unwrap(type(optimizer).step)(optimizer)


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Set the learning rate, times each group's "lr_factor"."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(lr * group["lr_factor"])
        else:
            group["lr"] = lr * group["lr_factor"]


def make_capturable(optimizer: torch.optim.Optimizer, device: torch.device) -> None:
    """Have the learning rates be float32 tensors on the device, so that a captured step follows `set_lr`."""
    for group in optimizer.param_groups:
        group["lr"] = torch.tensor(float(group["lr"]), dtype=torch.float32, device=device)
        if "capturable" in group:
            group["capturable"] = True


def clip(parameters: Iterable[nn.Parameter], max_norm: float) -> Tensor:
    """Scale the gradients, in place, so that their common norm is at most `max_norm`; return the norm [] they had."""
    return nn.utils.clip_grad_norm_(parameters, max_norm, foreach=True)
