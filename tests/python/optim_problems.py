"""Problems and settings that trajectories of first-order optimizers are compared on.

Written for any library with `sum`, `tanh` and `exp`: `data/make_optim_goldens.py` runs them in
PyTorch, `test_optim_goldens.py` here. In each problem the last parameter has no gradient before
step `LATE`.
"""

from __future__ import annotations

from typing import Any

STEPS = 100
LATE = 7
KEPT = (1, 2, 3, 5, 7, 8, 9, 12, 20, 35, 60, 100)  # the steps whose parameters are stored

STARTS: dict[str, list[Any]] = {
    "quadratic": [[[1.5, -2.0], [0.25, 3.0]], [0.5, -1.0], 0.75],
    "rosenbrock": [[-1.2, 1.0], [0.7, 1.3]],
    "network": [[[0.3, -0.7, 0.45], [-0.2, 0.6, 0.9]], [0.8, -0.5, 0.35], [0.1, -0.3, 0.2]],
}
INPUTS = [[-1.0, 0.5], [0.25, 1.5], [1.25, -0.75], [0.5, 0.3], [-0.4, -1.1], [2.0, 0.1]]
TARGETS = [0.5, -1.0, 0.75, 0.2, 1.5, -0.6]


def quadratic(lib: Any, make: Any, params: list[Any], late: bool) -> Any:
    """Two convex terms, and one that couples what comes late."""
    w, b, c = params
    target, curvature = make([[0.0, 1.0], [-1.0, 2.0]]), make([[1.0, 4.0], [0.5, 2.0]])
    loss = lib.sum(curvature * (w - target) ** 2) + lib.sum(make([3.0, 0.1]) * (b - 2.0) ** 2)
    return loss + (c * b[0] - 1.0) ** 2 if late else loss


def rosenbrock(lib: Any, make: Any, params: list[Any], late: bool) -> Any:
    """A curved valley, and a second one."""
    loss = 0.0
    for p in params if late else params[:-1]:
        loss = loss + 5.0 * (p[1] - p[0] ** 2) ** 2 + (1.0 - p[0]) ** 2
    return loss


def network(lib: Any, make: Any, params: list[Any], late: bool) -> Any:
    """A hidden layer whose biases come late."""
    hidden, out, bias = params
    x = make(INPUTS) @ hidden
    y = lib.tanh(x + bias if late else x) @ out
    return lib.sum((y - make(TARGETS)) ** 2) + 0.1 * lib.sum(lib.exp(-y))


PROBLEMS = {"quadratic": quadratic, "rosenbrock": rosenbrock, "network": network}


def objective(
    problem: str, lib: Any, make: Any, params: list[Any], step: int, options: dict[str, Any]
) -> Any:
    """The loss at a step, counted from 1; where it is to be maximized, its negative."""
    loss = PROBLEMS[problem](lib, make, params, step >= LATE)
    return -loss if options.get("maximize") else loss


# By PyTorch's names.
SETTINGS: list[tuple[str, dict[str, Any]]] = [
    ("SGD", {"lr": 0.01}),
    ("SGD", {"lr": 0.01, "momentum": 0.9}),
    ("SGD", {"lr": 0.01, "momentum": 0.9, "dampening": 0.3}),
    ("SGD", {"lr": 0.01, "momentum": 0.8, "nesterov": True}),
    ("SGD", {"lr": 0.01, "momentum": 0.8, "dampening": 1.0, "weight_decay": 0.1}),
    ("SGD", {"lr": 0.01, "weight_decay": 0.1}),
    ("SGD", {"lr": 0.01, "momentum": 0.5, "nesterov": True, "maximize": True}),
    ("Adagrad", {"lr": 0.1}),
    ("Adagrad", {"lr": 0.1, "lr_decay": 0.05}),
    ("Adagrad", {"lr": 0.1, "weight_decay": 0.1, "initial_accumulator_value": 0.2, "eps": 1e-3}),
    ("Adagrad", {"lr": 0.1, "lr_decay": 0.1, "maximize": True}),
    ("Adadelta", {"lr": 1.0}),
    ("Adadelta", {"lr": 0.1, "rho": 0.8, "eps": 1e-4, "weight_decay": 0.1}),
    ("Adadelta", {"lr": 0.5, "rho": 0.5, "maximize": True}),
    ("RMSprop", {"lr": 0.002}),
    ("RMSprop", {"lr": 0.002, "momentum": 0.9}),
    ("RMSprop", {"lr": 0.002, "centered": True, "alpha": 0.9, "eps": 1e-4}),
    ("RMSprop", {"lr": 0.002, "centered": True, "momentum": 0.5, "eps": 1e-3, "weight_decay": 0.1}),
    ("RMSprop", {"lr": 0.002, "alpha": 0.5, "maximize": True}),
    ("Adam", {"lr": 0.01}),
    ("Adam", {"lr": 0.01, "betas": (0.7, 0.99), "eps": 1e-3}),
    ("Adam", {"lr": 0.01, "weight_decay": 0.1}),
    ("Adam", {"lr": 0.01, "amsgrad": True, "betas": (0.8, 0.7)}),
    ("Adam", {"lr": 0.01, "amsgrad": True, "weight_decay": 0.1, "maximize": True}),
    ("AdamW", {"lr": 0.01}),
    ("AdamW", {"lr": 0.01, "weight_decay": 0.3, "betas": (0.7, 0.95), "eps": 1e-4}),
    ("AdamW", {"lr": 0.01, "amsgrad": True, "weight_decay": 0.0}),
    ("AdamW", {"lr": 0.01, "amsgrad": True, "weight_decay": 0.2, "maximize": True}),
    ("NAdam", {"lr": 0.01}),
    ("NAdam", {"lr": 0.01, "betas": (0.8, 0.99), "eps": 1e-4, "momentum_decay": 0.02}),
    ("NAdam", {"lr": 0.01, "weight_decay": 0.1}),
    ("NAdam", {"lr": 0.01, "weight_decay": 0.1, "decoupled_weight_decay": True}),
    ("NAdam", {"lr": 0.01, "maximize": True}),
    ("RAdam", {"lr": 0.01}),
    ("RAdam", {"lr": 0.01, "betas": (0.8, 0.9), "eps": 1e-4}),
    ("RAdam", {"lr": 0.01, "weight_decay": 0.1}),
    ("RAdam", {"lr": 0.01, "weight_decay": 0.1, "decoupled_weight_decay": True}),
    ("RAdam", {"lr": 0.01, "maximize": True}),
    ("Adamax", {"lr": 0.01}),
    ("Adamax", {"lr": 0.01, "betas": (0.8, 0.98), "eps": 1e-3, "weight_decay": 0.1}),
    ("Adamax", {"lr": 0.01, "maximize": True}),
    ("Rprop", {"lr": 0.01}),
    ("Rprop", {"lr": 0.02, "etas": (0.6, 1.1), "step_sizes": (1e-3, 0.1)}),
    ("Rprop", {"lr": 0.01, "step_sizes": (1e-4, 0.2), "maximize": True}),
]
PAIRS = {
    "betas": ("beta1", "beta2"),
    "etas": ("eta_minus", "eta_plus"),
    "step_sizes": ("min_step", "max_step"),
}


def ours(options: dict[str, Any]) -> dict[str, Any]:
    """What PyTorch's options are called here."""
    out = {}
    for name, value in options.items():
        if name in PAIRS:
            out.update(zip(PAIRS[name], value, strict=True))
        else:
            out[name.replace("lr", "learning_rate")] = value
    return out


def key(problem: str, name: str, options: dict[str, Any]) -> str:
    return f"{problem} {name} {options}"


SCHEDULE_STEPS = 60
BASE = 0.4
# PyTorch's class and options, our function and options; BASE is the rate that is scaled.
SCHEDULES: list[tuple[str, dict[str, Any], str, dict[str, Any]]] = [
    ("StepLR", {"step_size": 7, "gamma": 0.3}, "step_schedule", {"step_size": 7, "gamma": 0.3}),
    ("StepLR", {"step_size": 1}, "step_schedule", {"step_size": 1}),
    (
        "MultiStepLR",
        {"milestones": [3, 10, 10, 25], "gamma": 0.5},
        "multi_step_schedule",
        {"milestones": [3, 10, 10, 25], "gamma": 0.5},
    ),
    ("ExponentialLR", {"gamma": 0.93}, "exponential_schedule", {"gamma": 0.93}),
    ("CosineAnnealingLR", {"T_max": 20}, "cosine_schedule", {"steps": 20}),
    (
        "CosineAnnealingLR",
        {"T_max": 60, "eta_min": 0.05},
        "cosine_schedule",
        {"steps": 60, "end": 0.05},
    ),
    (
        "CosineAnnealingWarmRestarts",
        {"T_0": 7, "eta_min": 0.01},
        "cosine_restarts_schedule",
        {"steps": 7, "end": 0.01},
    ),
    (
        "CosineAnnealingWarmRestarts",
        {"T_0": 3, "T_mult": 2},
        "cosine_restarts_schedule",
        {"steps": 3, "growth": 2},
    ),
    ("LinearLR", {}, "linear_schedule", {}),
    (
        "LinearLR",
        {"start_factor": 0.1, "end_factor": 0.8, "total_iters": 20},
        "linear_schedule",
        {"start": 0.1, "end": 0.8, "steps": 20},
    ),
    (
        "PolynomialLR",
        {"total_iters": 40, "power": 2.0},
        "polynomial_schedule",
        {"steps": 40, "power": 2.0},
    ),
    ("PolynomialLR", {}, "polynomial_schedule", {}),
    (
        "ConstantLR",
        {"factor": 0.25, "total_iters": 9},
        "constant_schedule",
        {"factor": 0.25, "steps": 9},
    ),
    ("OneCycleLR", {"max_lr": 0.4, "total_steps": 60}, "one_cycle_schedule", {"steps": 60}),
    (
        "OneCycleLR",
        {
            "max_lr": 0.4,
            "total_steps": 60,
            "pct_start": 0.2,
            "anneal_strategy": "linear",
            "div_factor": 10.0,
            "final_div_factor": 50.0,
        },
        "one_cycle_schedule",
        {"steps": 60, "warmup": 0.2, "anneal": "linear", "start_div": 10.0, "end_div": 50.0},
    ),
    (
        "OneCycleLR",
        {"max_lr": 0.4, "total_steps": 60, "three_phase": True},
        "one_cycle_schedule",
        {"steps": 60, "three_phase": True},
    ),
]
PLATEAUS: list[dict[str, Any]] = [
    {"factor": 0.5, "patience": 2},
    {"factor": 0.1, "patience": 0, "cooldown": 3, "threshold": 0.05, "threshold_mode": "abs"},
    {"mode": "max", "factor": 0.3, "patience": 1, "min_lr": 0.02, "threshold": 0.01},
    {"factor": 0.2, "patience": 1, "eps": 0.03},
]
METRICS = [1.0, 0.9, 0.91, 0.92, 0.9, 0.89, 0.5, 0.6, 0.51, 0.52, 0.5, 0.49, 0.4, 0.39, 0.38]
METRICS = [
    *METRICS,
    0.4,
    0.42,
    0.41,
    0.4,
    0.3,
    0.31,
    0.32,
    0.33,
    0.35,
    0.3,
    0.29,
    0.31,
    0.3,
    0.3,
    0.3,
]
