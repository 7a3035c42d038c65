"""The table of a model: shapes, counts, and that the model is left as it was."""

from __future__ import annotations

from typing import Any

import pytest

import adjoint as ad
from adjoint import nn


class Net(nn.Module):
    """Calls one layer twice, another never, and returns two outputs."""

    def __init__(self) -> None:
        self.twice = nn.Linear(3, 3, bias=False)
        self.heads = {"a": nn.Linear(3, 2), "never": nn.Linear(7, 7)}
        self.scale = ad.tensor(2.0, dtype=ad.float32, requires_grad=True)
        self.register_buffer("seen", ad.zeros((), dtype=ad.float32))

    def forward(self, x: Any, shift: Any = 0.0) -> Any:
        assert not self.training
        self.seen = self.seen + 1.0
        hidden = ad.tanh(self.twice(self.twice(x))) * self.scale
        return {"head": self.heads["a"](hidden), "hidden": hidden + shift}


def inputs() -> ad.Tensor:
    return ad.ones((5, 3), dtype=ad.float32)


def test_shapes_and_counts() -> None:
    rows = {row.name: row for row in nn.summary(Net(), inputs()).rows}
    assert list(rows) == ["", "twice", "heads.a", "heads.never"]
    assert rows[""].kind == "Net" and rows[""].parameters == 1
    assert sorted(rows[""].outputs) == [(5, 2), (5, 3)]
    assert rows["twice"] == ("twice", "Linear", ((5, 3),), 9, 2)
    assert rows["heads.a"] == ("heads.a", "Linear", ((5, 2),), 8, 1)
    assert rows["heads.never"] == ("heads.never", "Linear", (), 56, 0)


def test_totals_count_shared_parameters_once_and_frozen_ones_apart() -> None:
    tied = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    tied[1].weight = tied[0].weight
    tied[0].requires_grad_(False)
    table = nn.summary(tied)
    assert (table.parameters, table.trainable, table.nbytes) == (16 + 4 + 4, 4, 24 * 4)
    assert "24 parameters, 20 of them frozen: 96 bytes" in str(table)


def test_the_model_is_left_as_it_was() -> None:
    net = Net()
    net.heads["a"].eval()
    first = nn.summary(net, inputs(), shift=1.0)
    assert net.training and net.twice.training and not net.heads["a"].training
    assert net.seen.item() == 0.0
    assert all(p.grad is None for p in net.parameters())
    assert str(nn.summary(net, inputs())) == str(first)
    with pytest.raises(ValueError, match="in_features=3"):
        nn.summary(net, ad.ones((5, 4), dtype=ad.float32))
    assert net.training and net.seen.item() == 0.0


def test_the_text() -> None:
    text = str(nn.summary(Net(), inputs())).splitlines()
    assert text[0].split() == ["layer", "output", "parameters"]
    assert text[3].split() == ["twice:", "Linear", "(5,", "3)", "×2", "9"]
    assert text[-1] == "74 parameters, all trainable: 296 bytes"
    without = str(nn.summary(Net())).splitlines()
    assert without[3].split() == ["twice:", "Linear", "9"]


def test_calls_in_other_places_are_not_noted() -> None:
    outer = nn.Linear(3, 2)
    nn.summary(outer, inputs())
    outer(inputs())
    assert nn.summary(outer).rows[0].calls == 0


@pytest.mark.parametrize("model", [None, lambda x: x, nn.Linear, {"a": 1}])
def test_what_is_no_model_is_refused(model: Any) -> None:
    with pytest.raises(TypeError, match=r"\[summary\] the model must be a Module"):
        nn.summary(model)
