"""Writes ``optim_goldens.npz``: what PyTorch's optimizers and schedules do, in float64.

``python tests/python/data/make_optim_goldens.py``; needs torch, nothing of this library.
"""

import sys
from pathlib import Path

import numpy as np
import torch

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import optim_problems as op  # noqa: E402


def trajectory(problem: str, name: str, options: dict) -> np.ndarray:
    """All parameters in one row, at each of the steps that are kept."""

    def make(values):
        return torch.tensor(values, dtype=torch.float64)

    params = [make(start).requires_grad_() for start in op.STARTS[problem]]
    optimizer = getattr(torch.optim, name)(params, foreach=False, **options)
    rows = []
    for step in range(1, op.STEPS + 1):
        optimizer.zero_grad()
        op.objective(problem, torch, make, params, step, options).backward()
        optimizer.step()
        if step in op.KEPT:
            rows.append(np.concatenate([p.detach().numpy().ravel() for p in params]))
    return np.array(rows)


def rates(scheduler: str, options: dict) -> np.ndarray:
    weight = torch.ones(1, requires_grad=True)
    optimizer = torch.optim.SGD([weight], lr=op.BASE)
    options = dict(options)
    if scheduler == "OneCycleLR":
        options["cycle_momentum"] = False
    schedule = getattr(torch.optim.lr_scheduler, scheduler)(optimizer, **options)
    out = []
    for step in range(op.SCHEDULE_STEPS):
        out.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if step < op.SCHEDULE_STEPS - 1:
            schedule.step()
    return np.array(out, dtype=np.float64)


def sequence() -> np.ndarray:
    """A warm-up, a cosine, and a constant tail."""
    from torch.optim import lr_scheduler as s

    optimizer = torch.optim.SGD([torch.ones(1, requires_grad=True)], lr=op.BASE)
    parts = [
        s.LinearLR(optimizer, 0.1, 1.0, 10),
        s.CosineAnnealingLR(optimizer, 30, 0.01),
        s.ConstantLR(optimizer, 0.05, 1000),
    ]
    schedule = s.SequentialLR(optimizer, parts, [10, 40])
    out = []
    for _ in range(op.SCHEDULE_STEPS):
        out.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return np.array(out, dtype=np.float64)


def plateau(options: dict) -> np.ndarray:
    optimizer = torch.optim.SGD([torch.ones(1, requires_grad=True)], lr=op.BASE)
    schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, **options)
    out = []
    for metric in op.METRICS:
        schedule.step(metric)
        out.append(optimizer.param_groups[0]["lr"])
    return np.array(out, dtype=np.float64)


def averages() -> dict[str, np.ndarray]:
    """PyTorch's averages of parameters that follow a fixed path."""
    from torch.optim import swa_utils

    out = {}
    makers = {
        "ema": swa_utils.AveragedModel(
            torch.nn.Linear(2, 1, bias=False).double(),
            multi_avg_fn=swa_utils.get_ema_multi_avg_fn(0.9),
        ),
        "mean": swa_utils.AveragedModel(torch.nn.Linear(2, 1, bias=False).double()),
    }
    for name, averaged in makers.items():
        model = torch.nn.Linear(2, 1, bias=False).double()
        rows = []
        for step in range(20):
            with torch.no_grad():
                model.weight.copy_(torch.tensor([[np.cos(0.3 * step), 0.1 * step]]))
            averaged.update_parameters(model)
            rows.append(averaged.module.weight.detach().numpy().ravel().copy())
        out[f"average {name}"] = np.array(rows)
    return out


def main() -> None:
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)  # of counts and products in the state too
    data = {
        op.key(problem, name, options): trajectory(problem, name, options)
        for problem in op.PROBLEMS
        for name, options in op.SETTINGS
    }
    for scheduler, options, _, _ in op.SCHEDULES:
        data[f"{scheduler} {options}"] = rates(scheduler, options)
    data["sequence"] = sequence()
    for options in op.PLATEAUS:
        data[f"plateau {options}"] = plateau(options)
    data.update(averages())
    for name, values in data.items():
        assert np.isfinite(values).all(), name
    np.savez_compressed(HERE / "optim_goldens.npz", torch=torch.__version__, **data)


if __name__ == "__main__":
    main()
