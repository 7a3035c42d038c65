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
