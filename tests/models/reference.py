"""What the families' tests against a slow forward share: plain layers on a network's weights, and the comparison."""

import torch
from torch import nn
from torch.nn import functional as F


def plain_layers(state, training):
    """Return conv(x, name, stride) and bn(x, name) on the tensors of `state`; groups follow from the weight's shape."""

    def conv(x, name, stride=1):
        weight = state[f"{name}.weight"]
        groups = x.shape[1] // weight.shape[1]
        return F.conv2d(x, weight, state.get(f"{name}.bias"), stride, weight.shape[2] // 2, groups=groups)

    def bn(x, name, eps=1e-5):
        mean, var = state[f"{name}.running_mean"].clone(), state[f"{name}.running_var"].clone()
        return F.batch_norm(x, mean, var, state[f"{name}.weight"], state[f"{name}.bias"], training, eps=eps)

    return conv, bn


def linear(x, state):
    logits = x @ state["classifier.weight"].T
    return logits + state["classifier.bias"] if "classifier.bias" in state else logits


def assert_equal_to(reference, model, images, *, training, **expected):
    """Compare logits and all gradients with those of `reference(conv, bn, state, images, **expected)`, in float64."""
    model.double().train(training)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                for tensor in (module.weight, module.bias):
                    tensor.add_(torch.rand_like(tensor) - 0.5)
                for tensor in (module.running_mean, module.running_var):
                    tensor.add_(torch.rand_like(tensor) * 0.5)
    state = {**dict(model.named_buffers()), **dict(model.named_parameters())}
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}

    wanted = reference(*plain_layers(state, training), state, images.double(), **expected)
    wanted_gradients = torch.autograd.grad(wanted.square().sum(), list(trained.values()))
    logits = model(images.double())
    gradients = torch.autograd.grad(logits.square().sum(), list(trained.values()))
    torch.testing.assert_close(logits, wanted, rtol=1e-9, atol=1e-9)
    for name, ours, theirs in zip(trained, gradients, wanted_gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6, msg=lambda m, name=name: f"{name}: {m}")


def assert_freshly_drawn(model, mode):
    """Compare initial weights with the rules of `pictorch.models.init`, within six standard errors."""
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d):
            out, per_group, *kernel = module.weight.shape
            std = (2 / (kernel[0] * kernel[1] * (out if mode == "fan_out" else per_group))) ** 0.5
            assert abs(module.weight.std() - std) < 6 * std / (2 * module.weight.numel()) ** 0.5, name
        elif isinstance(module, nn.BatchNorm2d):
            assert module.weight.eq(1).all(), name
        elif isinstance(module, nn.Linear):
            bound = module.in_features**-0.5
            assert 0.9 * bound < module.weight.abs().max() <= bound, name
        else:
            continue
        assert module.bias is None or module.bias.eq(0).all(), name


def params(model):
    return sum(p.numel() for p in model.parameters() if p.requires_grad)
