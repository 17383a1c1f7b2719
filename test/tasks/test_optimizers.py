"""Learning rates by module."""

from __future__ import annotations

import pytest
import torch

from espnet_mtkd.errors import UserError
from espnet_mtkd.tasks.optimizers import set_learning_rates


def model() -> torch.nn.Module:
    inner = torch.nn.ModuleDict({"a": torch.nn.Linear(2, 2), "b": torch.nn.Linear(2, 2)})
    whole = {"frontend": inner, "front": torch.nn.Linear(2, 2), "head": torch.nn.Linear(2, 2)}
    return torch.nn.ModuleDict(whole)


def rates_of(net: torch.nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, float]:
    rates = {id(p): g["lr"] for g in optimizer.param_groups for p in g["params"]}
    assert len(rates) == sum(len(g["params"]) for g in optimizer.param_groups)
    return {name: rates[id(p)] for name, p in net.named_parameters()}


def test_the_longest_name_counts():
    net = model()
    optimizer = torch.optim.AdamW(net.parameters(), lr=1.0, weight_decay=0.5)
    set_learning_rates(optimizer, net, {"frontend": 0.1, "frontend.b": 0.01})
    rates = rates_of(net, optimizer)
    assert rates["frontend.a.weight"] == 0.1 and rates["frontend.b.bias"] == 0.01
    assert rates["front.weight"] == rates["head.bias"] == 1.0
    assert all(group["weight_decay"] == 0.5 for group in optimizer.param_groups)


def test_steps_are_of_that_size():
    net = model()
    before = {n: p.detach().clone() for n, p in net.named_parameters()}
    optimizer = torch.optim.SGD(net.parameters(), lr=1.0)
    set_learning_rates(optimizer, net, {"head": 0.25})
    sum(p.sum() for p in net.parameters()).backward()
    optimizer.step()
    for name, parameter in net.named_parameters():
        step = 0.25 if name.startswith("head") else 1.0
        torch.testing.assert_close(before[name] - parameter, torch.full_like(parameter, step))


def test_no_rates_change_nothing():
    net = model()
    optimizer = torch.optim.SGD(net.parameters(), lr=1.0)
    set_learning_rates(optimizer, net, {})
    assert len(optimizer.param_groups) == 1


@pytest.mark.parametrize(
    ("rates", "message"),
    [
        ({"upstream": 0.1}, "module_lr: upstream: no module .* there are front, frontend, head"),
        ({"fron": 0.1}, "module_lr: fron: no module"),
        ({"head": "slow"}, "module_lr: head: 'slow': must be a number above 0"),
        ({"head": 0}, "must be a number above 0"),
    ],
)
def test_mistakes(rates, message):
    net = model()
    with pytest.raises(UserError, match=message):
        set_learning_rates(torch.optim.SGD(net.parameters(), lr=1.0), net, rates)
