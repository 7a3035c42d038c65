"""First-order optimizers and schedules against trajectories that PyTorch made.

The data are those of `data/make_optim_goldens.py`.
"""

from pathlib import Path

import numpy as np
import pytest

import adjoint as ad
import optim_problems as op

GOLDENS = np.load(Path(__file__).parent / "data" / "optim_goldens.npz")
each_setting = pytest.mark.parametrize(
    ("name", "options"), op.SETTINGS, ids=[f"{i}-{n}" for i, (n, _) in enumerate(op.SETTINGS)]
)
each_problem = pytest.mark.parametrize("problem", op.PROBLEMS)


def start(problem):
    return [ad.tensor(s, dtype=ad.float64, requires_grad=True) for s in op.STARTS[problem]]


def flat(params):
    return np.concatenate([p.numpy().ravel() for p in params])


def run(problem, options, params, opt, steps, wrap=lambda f: f):
    """Parameters at the steps that are kept."""

    def train(late):
        opt.zero_grad()
        step = op.LATE if late else 1
        op.objective(problem, ad, ad.tensor, params, step, options).backward()
        opt.step()

    train = wrap(train)
    rows = []
    for step in steps:
        train(step >= op.LATE)
        if step in op.KEPT:
            rows.append(flat(params))
    return np.array(rows)


@each_problem
@each_setting
def test_trajectories_are_pytorchs(problem, name, options):
    params = start(problem)
    opt = getattr(ad.optim, name)(params, **op.ours(options))
    found = run(problem, options, params, opt, range(1, op.STEPS + 1))
    wanted = GOLDENS[op.key(problem, name, options)]
    np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-12)


# ---- Schedules -----------------------------------------------------------------------------------

each_schedule = pytest.mark.parametrize(
    ("theirs", "their_options", "ours", "options"),
    op.SCHEDULES,
    ids=[f"{i}-{s[0]}" for i, s in enumerate(op.SCHEDULES)],
)


@each_schedule
def test_schedules_are_pytorchs(theirs, their_options, ours, options):
    schedule = getattr(ad.optim, ours)(op.BASE, **options)
    wanted = GOLDENS[f"{theirs} {their_options}"]
    found = [schedule(step).item() for step in range(op.SCHEDULE_STEPS)]
    np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-14)
    steps = ad.arange(op.SCHEDULE_STEPS)
    assert schedule(steps).tolist() == ad.compile(schedule)(steps).tolist() == found


def test_a_sequence_of_schedules_is_pytorchs():
    schedule = ad.optim.sequence_schedule(
        [
            ad.optim.linear_schedule(op.BASE, start=0.1, steps=10),
            ad.optim.cosine_schedule(op.BASE, steps=30, end=0.01),
            ad.optim.constant_schedule(op.BASE, factor=0.05, steps=1000),
        ],
        [10, 40],
    )
    found = schedule(ad.arange(op.SCHEDULE_STEPS)).numpy()
    np.testing.assert_allclose(found, GOLDENS["sequence"], rtol=1e-12)


@pytest.mark.parametrize("options", op.PLATEAUS, ids=str)
@pytest.mark.parametrize("wrap", [lambda f: f, ad.compile], ids=["eager", "compiled"])
def test_reduction_on_a_plateau_is_pytorchs(options, wrap):
    names = {"min_lr": "min_learning_rate"}
    own = {names.get(name, name): value for name, value in options.items()}
    opt = ad.optim.SGD([ad.tensor(1.0, requires_grad=True)], op.BASE)
    plateau = ad.optim.ReduceOnPlateau(opt, **own)
    step = wrap(plateau.step)
    found = []
    for metric in op.METRICS:
        step(ad.tensor(metric))
        found.append(opt.learning_rate)
    np.testing.assert_allclose(found, GOLDENS[f"plateau {options}"], rtol=1e-12)


@pytest.mark.parametrize(("name", "decay"), [("ema", 0.9), ("mean", None)])
def test_averages_are_pytorchs(name, decay):
    w = ad.tensor([[0.0, 0.0]], requires_grad=True)
    average = ad.optim.WeightAverage([w], decay=decay)
    found = []
    for step in range(20):
        with ad.no_grad():
            w.rebind_(ad.tensor([[np.cos(0.3 * step), 0.1 * step]]))
        average.step()
        found.append(average.average[0].numpy().ravel())
    np.testing.assert_allclose(found, GOLDENS[f"average {name}"], rtol=1e-12, atol=1e-15)
