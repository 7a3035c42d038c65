"""Distributions against SciPy's, at fixed seeds; and the streams, in every transform."""

import copy
import os
import pickle
import subprocess
import sys
import threading

import numpy as np
import pytest
import scipy.stats

import adjoint as ad

COUNT = 20_000
# A correct sampler passes at a given seed with this probability, and stays passing.
LEAST = 1e-4


def agrees(draws, distribution, *args):
    return scipy.stats.kstest(np.asarray(draws), distribution, args=args).pvalue > LEAST


def counts_agree(draws, distribution):
    """Pearson's test over values, the rare ones together."""
    values, seen = np.unique(draws.numpy(), return_counts=True)
    expected = distribution.pmf(values) * draws.size
    common = expected > 10
    seen = np.append(seen[common], draws.size - seen[common].sum())
    expected = np.append(expected[common], draws.size - expected[common].sum())
    kept = expected > 1e-6 * draws.size
    assert seen[~kept].sum() <= 1
    seen, expected = seen[kept], expected[kept]
    return scipy.stats.chisquare(seen, expected * seen.sum() / expected.sum()).pvalue > LEAST


def generator(seed=11):
    return ad.random.Generator(seed)


# ---- Distributions ------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [ad.float32, ad.float64])
def test_exponential(dtype):
    draws = generator().exponential((COUNT,), 3.0, dtype=dtype)
    assert draws.dtype == dtype
    assert agrees(draws, "expon", 0, 3)


@pytest.mark.parametrize("a", [0.1, 0.5, 1.0, 1.5, 10.0, 1e4, 1e12])
def test_gamma(a):
    assert agrees(generator().gamma(a, 2.0, (COUNT,)), "gamma", a, 0, 2)


def test_gamma_of_almost_nothing():
    draws = generator().gamma(1e-3, shape=(COUNT,)).numpy()
    # P(X < x) = x^a / Gamma(a + 1) here, of which all below the least number is at 0.
    at_zero = np.exp(1e-3 * np.log(5e-324))
    assert abs((draws == 0).mean() - at_zero) < 0.02
    assert agrees(np.log(draws[draws > 0]) * 1e-3, lambda t: (np.exp(t) - at_zero) / (1 - at_zero))
    assert generator().gamma(0.0, shape=3).tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize(("a", "b"), [(0.5, 0.5), (2.0, 5.0), (1.0, 1.0), (300.0, 0.2), (3.0, 1e3)])
def test_beta(a, b):
    assert agrees(generator().beta(a, b, (COUNT,)), "beta", a, b)


def test_beta_of_almost_nothing():
    draws = generator().beta(1e-3, 1e-3, (COUNT,)).numpy()
    assert np.isfinite(draws).all()
    assert abs((draws < 0.5).mean() - 0.5) < 0.02
    assert ((draws > 1e-9) & (draws < 1 - 1e-9)).mean() < 0.05


@pytest.mark.parametrize("lam", [0.01, 1.0, 5.0, 9.99, 10.0, 30.0, 200.0, 3000.0])
def test_poisson(lam):
    draws = generator().poisson(lam, (COUNT,))
    assert draws.dtype == ad.int64
    assert counts_agree(draws, scipy.stats.poisson(lam))


@pytest.mark.parametrize("lam", [1e9, 1e13, 1e18])
def test_poisson_of_large_means(lam):
    draws = generator().poisson(lam, (COUNT,)).numpy() - lam
    spread = np.random.default_rng(0).random(COUNT) - 0.5
    assert agrees((draws + spread) / np.sqrt(lam), "norm")


@pytest.mark.parametrize(
    ("n", "p"),
    [
        (1, 0.3),
        (10, 0.5),
        (10, 0.99),
        (100, 0.05),
        (100, 0.2),
        (1000, 0.7),
        (10**9, 1e-9),
        (10**9, 1e-7),
        (10**6, 0.9999),
    ],
)
def test_binomial(n, p):
    draws = generator().binomial(n, p, (COUNT,))
    assert draws.dtype == ad.int64
    assert counts_agree(draws, scipy.stats.binom(n, p))


@pytest.mark.parametrize(("n", "p"), [(10**8, 0.3), (10**12, 0.6), (2**53, 0.25)])
def test_binomial_of_many(n, p):
    draws = generator().binomial(n, p, (COUNT,)).numpy()
    spread = np.random.default_rng(0).random(COUNT) - 0.5
    assert agrees((draws - n * p + spread) / np.sqrt(n * p * (1 - p)), "norm")


def test_certain_outcomes():
    g = generator()
    assert not g.bernoulli(0.0, (1000,)).any() and g.bernoulli(1.0, (1000,)).all()
    assert g.binomial(7, ad.tensor([0.0, 1.0])).tolist() == [0, 7]
    assert g.binomial(0, 0.5, 3).tolist() == [0, 0, 0]
    assert g.poisson(0.0, 3).tolist() == [0, 0, 0]
    assert g.bernoulli().dtype == ad.bool


@pytest.mark.parametrize(
    ("lower", "upper"),
    [
        (-1, 1),
        (-np.inf, np.inf),
        (0, np.inf),
        (5, np.inf),
        (-np.inf, -8),
        (30, 31),
        (-0.1, 6),
        (2, 2.001),
        (-7, -3),
        (-40, 40),
    ],
)
def test_truncated_normal(lower, upper):
    draws = generator().truncated_normal(lower, upper, (COUNT,)).numpy()
    assert ((draws >= lower) & (draws <= upper)).all()
    assert agrees(draws, "truncnorm", lower, upper)


def test_truncated_normal_far_out():
    draws = generator().truncated_normal(1e4, ad.inf, (COUNT,)).numpy()
    assert agrees((draws - 1e4) * 1e4, "expon")


def test_categorical():
    p = np.array([0.1, 0.0, 0.2, 0.7])
    with np.errstate(divide="ignore"):
        logits = np.log(p) + 3
    seen = np.bincount(generator().categorical(logits, shape=(COUNT,)).numpy(), minlength=4)
    assert seen[1] == 0
    assert scipy.stats.chisquare(seen[p > 0], COUNT * p[p > 0]).pvalue > LEAST
    rows = np.log([[0.5, 0.5], [0.1, 0.9]])
    draws = generator().categorical(rows, shape=(COUNT, 2)).numpy()
    assert np.allclose(draws.mean(0), [0.5, 0.9], atol=0.02)
    assert generator().categorical(ad.zeros((3, 4, 5)), axis=1).shape == (3, 5)
    narrow = generator().categorical(ad.asarray(rows)[:, None, :], shape=(6, 2, 3))
    assert narrow.shape == (6, 2, 3)


def test_choice():
    g, p = generator(), np.array([1.0, 0.0, 2.0, 7.0])
    seen = np.bincount(g.choice(4, (COUNT,), p=p).numpy(), minlength=4)
    assert scipy.stats.chisquare(seen[p > 0], COUNT * p[p > 0] / 10).pvalue > LEAST
    even = np.bincount(g.choice(5, (COUNT,)).numpy(), minlength=5)
    assert scipy.stats.chisquare(even).pvalue > LEAST
    assert sorted(g.choice(6, (6,), replace=False).tolist()) == [0, 1, 2, 3, 4, 5]
    # First drawn of two without replacement: 1/10, 2/10, 7/10.
    first = [g.choice(4, (2,), replace=False, p=p).tolist() for _ in range(2000)]
    assert all(a != b and 1 not in (a, b) for a, b in first)
    assert np.allclose(np.bincount([a for a, _ in first]) / 2000, [0.1, 0, 0.2, 0.7], atol=0.04)
    x = ad.asarray(np.arange(12.0).reshape(3, 4))
    assert g.choice(x, (2, 5), axis=1).shape == (3, 2, 5)
    assert set(g.choice(x, 7)[:, 0].tolist()) <= {0.0, 4.0, 8.0}


def test_permutation():
    g = generator()
    orders = {tuple(g.permutation(3).tolist()) for _ in range(200)}
    assert len(orders) == 6
    x = ad.asarray(np.arange(12).reshape(3, 4))
    shuffled = g.permutation(x, axis=1)
    assert sorted(shuffled[0].tolist()) == [0, 1, 2, 3]
    assert (shuffled[1] - shuffled[0]).tolist() == [4, 4, 4, 4]


# ---- Shapes and parameters ----------------------------------------------------------------------


def test_the_shape_is_that_of_the_parameters():
    g, row, column = generator(), ad.ones(3), ad.ones((2, 1))
    for draw in (
        g.normal(mean=row, std=column),
        g.uniform(low=row - 2, high=column),
        g.exponential(scale=row * column),
        g.gamma(row, column),
        g.beta(row, column),
        g.poisson(row * column),
        g.binomial(column, row),
        g.bernoulli(row * column),
        g.truncated_normal(row - 2, column),
    ):
        assert draw.shape == (2, 3)
    values = g.normal(mean=ad.zeros(3)).tolist()
    assert len(set(values)) == 3
    assert g.gamma(row, shape=(4, 3)).shape == (4, 3)
    assert g.poisson().shape == () and g.exponential().shape == ()


@pytest.mark.parametrize(
    "draw",
    [
        lambda g: g.gamma(-1.0),
        lambda g: g.gamma(ad.nan),
        lambda g: g.gamma(1.0, -1.0),
        lambda g: g.beta(0.0, 1.0),
        lambda g: g.beta(1.0, ad.inf),
        lambda g: g.poisson(ad.tensor([1.0, -1.0])),
        lambda g: g.poisson(1e19),
        lambda g: g.binomial(5, 1.1),
        lambda g: g.binomial(-1, 0.5),
        lambda g: g.binomial(2.5, 0.1),
        lambda g: g.bernoulli(ad.nan),
        lambda g: g.categorical([ad.nan, 1.0]),
        lambda g: g.categorical([-ad.inf, -ad.inf]),
        lambda g: g.categorical(ad.zeros((3, 2)), shape=(4,)),
        lambda g: g.truncated_normal(1.0, 1.0),
        lambda g: g.truncated_normal(ad.nan, 1.0),
        lambda g: g.exponential((2,), -1.0),
        lambda g: g.choice(3, 4, replace=False),
        lambda g: g.choice(3, 2, replace=False, p=[1.0, 0.0, 0.0]),
        lambda g: g.choice(3, 2, p=[1.0, -1.0, 0.0]),
        lambda g: g.choice(3, 2, p=[1.0, 1.0]),
        lambda g: g.choice(0),
        lambda g: g.choice(ad.zeros((0,)), 2),
        lambda g: g.normal((), ad.ones(3)),
        lambda g: g.poisson(ad.ones(3), (2,)),
        lambda g: g.gamma(ad.ones(3), ad.ones(2)),
        lambda g: g.seed(-1),
    ],
)
def test_bad_parameters_raise_and_draw_nothing(draw):
    g = generator()
    with pytest.raises(ValueError, match=r"^\[\w+\] "):
        draw(g)
    assert g.state.tolist() == [11, 0]


def test_one_number_that_is_no_int_has_no_entries():
    for bad in (2.0, np.float64(2.0), ad.tensor(1.5), "ab", None):
        with pytest.raises(TypeError):
            generator().permutation(bad)
        with pytest.raises(TypeError):
            generator().choice(bad)


def test_bad_parameters_raise_in_transforms():
    f = ad.compile(lambda lam: generator().poisson(lam))
    assert f(2.0).tolist() == generator().poisson(2.0).tolist()
    with pytest.raises(ValueError, match="poisson"):
        f(-1.0)
    with pytest.raises(ValueError, match="gamma"):
        ad.vmap(lambda a: generator().gamma(a))(ad.tensor([1.0, -1.0]))


# ---- Derivatives --------------------------------------------------------------------------------


def test_scales_are_differentiable():
    unit = generator().exponential((4,))
    slope = ad.jacobian(lambda s: generator().exponential((4,), s))(2.0)
    np.testing.assert_allclose(slope.numpy(), unit.numpy(), rtol=1e-15)
    unit = generator().gamma(2.5, 1.0, (4,))
    slope = ad.jacobian(lambda s: generator().gamma(2.5, s, (4,)))(2.0)
    np.testing.assert_allclose(slope.numpy(), unit.numpy(), rtol=1e-15)


@pytest.mark.parametrize(("lower", "upper"), [(-0.5, 1.0), (0.3, 1.7), (-3.0, -1.0), (5.0, 6.0)])
def test_truncated_normal_moves_with_its_limits(lower, upper):
    def draw(low, high):
        return generator().truncated_normal(low, high, (5,))

    step = 1e-5
    for i in range(2):
        at = [lower, upper]
        slope = ad.jacobian(draw, i)(*at).numpy()
        curve = ad.jacobian(lambda *a, i=i: ad.jacobian(draw, i)(*a), i)(*at).numpy()
        ends, slopes = [], []
        for sign in (1, -1):
            moved = at.copy()
            moved[i] += sign * step
            ends.append(draw(*moved).numpy())
            slopes.append(ad.jacobian(draw, i)(*moved).numpy())
        np.testing.assert_allclose(slope, (ends[0] - ends[1]) / (2 * step), rtol=1e-6, atol=1e-9)
        np.testing.assert_allclose(
            curve, (slopes[0] - slopes[1]) / (2 * step), rtol=1e-5, atol=1e-8
        )
    point = (ad.tensor(lower), ad.tensor(upper))
    both = ad.jvp(draw, point, (ad.tensor(1.0), ad.tensor(1.0)))[1].numpy()
    parts = [ad.jacobian(draw, i)(lower, upper).numpy() for i in range(2)]
    np.testing.assert_allclose(both, parts[0] + parts[1], rtol=1e-12)


def test_limits_at_infinity_have_the_slope_0():
    f = ad.grad(lambda a, b: generator().truncated_normal(a, b, (5,)).sum(), argnums=(0, 1))
    assert [x.item() for x in f(-ad.inf, ad.inf)] == [0.0, 0.0]
    low, high = (x.item() for x in f(5.0, ad.inf))
    assert low > 0 and high == 0.0


def test_shape_parameters_have_no_derivative():
    for f in (lambda a: generator().gamma(a), lambda a: generator().beta(a, 1.0)):
        with pytest.raises(TypeError, match="no derivative"):
            ad.grad(f)(2.0)
        with pytest.raises(TypeError, match="no derivative"):
            ad.jvp(f, (ad.tensor(2.0),), (ad.tensor(1.0),))
        assert ad.grad(lambda a, f=f: a * f(ad.stop_gradient(a)))(2.0).item() == f(2.0).item()


def test_entries_are_differentiable():
    picks = generator().choice(4, (6,)).numpy()
    slope = ad.grad(lambda x: generator().choice(x, (6,)).sum())(ad.ones(4))
    np.testing.assert_array_equal(slope.numpy(), np.bincount(picks, minlength=4))


# ---- Streams ------------------------------------------------------------------------------------

DRAWS = {
    "exponential": lambda g: g.exponential((500,)),
    "gamma": lambda g: g.gamma(0.5, 1.0, (500,)),
    "beta": lambda g: g.beta(2.0, 3.0, (500,)),
    "poisson": lambda g: g.poisson(50.0, (500,)),
    "binomial": lambda g: g.binomial(100, 0.3, (500,)),
    "bernoulli": lambda g: g.bernoulli(0.3, (500,)),
    "truncated_normal": lambda g: g.truncated_normal(-1.0, 2.0, (500,)),
    "categorical": lambda g: g.categorical(ad.zeros(7), shape=(500,)),
    "choice": lambda g: g.choice(500, (50,)),
    "permutation": lambda g: g.permutation(500),
    "uniform": lambda g: g.uniform((500,)),
    "integers": lambda g: g.integers(100, shape=(500,)),
}


@pytest.mark.parametrize("name", DRAWS)
def test_streams_in_transforms(name):
    draw, plain = DRAWS[name], generator()
    want = [draw(plain).numpy() for _ in range(3)]
    assert (want[0] != want[1]).any()
    g = generator()
    f = ad.compile(lambda: draw(g))
    for expected in want:
        np.testing.assert_array_equal(f().numpy(), expected)
    assert g.state.tolist() == plain.state.tolist()
    g = generator()
    x = ad.tensor(2.0, requires_grad=True)
    y = ad.checkpoint(lambda x: x * draw(g))(x)
    ad.sum(y).backward()
    np.testing.assert_allclose(x.grad.item(), want[0].astype(float).sum(), rtol=1e-12)
    np.testing.assert_array_equal(draw(g).numpy(), want[1])


@pytest.mark.parametrize("name", DRAWS)
def test_members_of_a_batch_draw_their_own(name):
    def run():
        g = generator()
        return ad.vmap(lambda x: DRAWS[name](g) + x)(ad.zeros(3)).numpy()

    rows = run()
    assert (rows[0] != rows[1]).any() and (rows[1] != rows[2]).any()
    np.testing.assert_array_equal(rows, run())


@pytest.mark.parametrize("name", DRAWS)
def test_loops_refuse_generators_from_outside(name):
    g = generator()
    with pytest.raises(RuntimeError, match="generator"):
        ad.scan(lambda c, x: (c, DRAWS[name](g)), ad.tensor(0.0), ad.ones(2))
    with pytest.raises(RuntimeError, match="generator"):
        ad.cond(True, lambda: DRAWS[name](g), lambda: DRAWS[name](g))


def test_batched_parameters():
    lam = ad.tensor([1.0, 50.0, 4000.0])
    g = generator()
    rows = ad.vmap(lambda x: g.poisson(x, (400,)))(lam).numpy()
    assert np.allclose(rows.mean(1), lam.numpy(), rtol=0.2)
    inside = ad.vmap(lambda x: generator().poisson(x, (4,)))(lam).numpy()
    for row, x in zip(inside, lam.tolist(), strict=True):
        assert row.tolist() == generator().poisson(x, (4,)).tolist()
    logits = ad.tensor([[0.0, 100.0, 0.0], [100.0, 0.0, 0.0]])
    for shape in (None, (4,)):
        found = ad.vmap(lambda x, s=shape: generator().categorical(x, shape=s))(logits).numpy()
        assert (found.reshape(2, -1) == [[1], [0]]).all()


def test_draws_are_those_of_the_formula():
    bits = ad._core._random_bits(generator().state.detach(), (1000,)).numpy()
    unit = ((bits >> np.uint64(12)).astype(float) + 0.5) * 2.0**-52
    np.testing.assert_allclose(generator().exponential((1000,)).numpy(), -np.log(unit), rtol=1e-14)
    np.testing.assert_array_equal(generator().bernoulli(0.3, (1000,)).numpy(), unit < 0.3)
    counts = generator().poisson(4.0, (1000,)).numpy()
    np.testing.assert_array_equal(counts, scipy.stats.poisson(4.0).ppf(unit))
    between = generator().truncated_normal(-1.0, 2.0, (1000,)).numpy()
    np.testing.assert_allclose(between, scipy.stats.truncnorm.ppf(unit, -1, 2), atol=1e-12)
    far = generator().truncated_normal(8.0, 9.0, (1000,)).numpy()
    np.testing.assert_allclose(far, scipy.stats.truncnorm.ppf(unit, 8, 9), rtol=1e-12)


def test_bits_are_those_of_every_machine():
    code = (
        "import adjoint as ad, hashlib, sys; sys.path.insert(0, sys.argv[1]); "
        "from test_random_variates import DRAWS, generator; "
        "print([hashlib.sha256(bytes(f(generator()))).hexdigest() for f in DRAWS.values()])"
    )
    here = __file__.rsplit("/", 1)[0]

    def digests(**variables):
        env = {**os.environ, **variables}
        done = subprocess.run(
            [sys.executable, "-c", code, here], env=env, check=True, capture_output=True, text=True
        )
        return done.stdout

    assert digests(ADJOINT_ISA="baseline", ADJOINT_NUM_THREADS="1") == digests()


def test_threads_do_not_change_a_draw():
    results = []
    before = ad.get_num_threads()
    for n in (1, 3):
        ad.set_num_threads(n)
        results.append(generator().gamma(0.7, shape=(50_000,)).numpy())
    ad.set_num_threads(before)
    np.testing.assert_array_equal(*results)


def test_split():
    parent = generator()
    children = parent.split(3)
    keys = [child.state.tolist()[0] for child in children]
    # The keys are words of the parent's stream: of blocks 0 and 1 of Philox under key 11.
    bits = generator().integers(0, 2**32, (3,)).numpy()
    assert [key >> 32 for key in keys] == bits.tolist()
    assert parent.state.tolist() == [11, 2]
    draws = [child.normal((2000,)).numpy() for child in [parent, *children]]
    for i in range(4):
        for j in range(i):
            assert abs(np.corrcoef(draws[i], draws[j])[0, 1]) < 0.08
    again = generator().split(3)
    np.testing.assert_array_equal(again[2].normal((2000,)).numpy(), draws[3])
    compiled = ad.compile(lambda: generator().split(2)[1].uniform((3,)))
    assert compiled().tolist() == generator().split(2)[1].uniform((3,)).tolist()


def test_the_default_stream():
    ad.random.seed(11)
    assert ad.random.normal((3,)).tolist() == generator().normal((3,)).tolist()
    f = ad.compile(lambda x: x + ad.random.uniform((2,)))
    ad.random.seed(11)
    got = [f(0.0).tolist(), f(0.0).tolist()]
    ad.random.seed(11)
    assert got == [ad.random.uniform((2,)).tolist() for _ in range(2)]
    drawn = []

    def draw():
        for _ in range(200):
            drawn.append(ad.random.integers(2**62).item())

    threads = [threading.Thread(target=draw) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(set(drawn)) == 800


def test_unseeded_processes_differ():
    code = "import adjoint as ad; print(ad.random.uniform().item())"
    runs = [subprocess.run([sys.executable, "-c", code], capture_output=True) for _ in range(2)]
    assert runs[0].returncode == 0 and runs[0].stdout != runs[1].stdout


def test_first_use_inside_a_trace():
    code = (
        "import adjoint as ad\n"
        "f = ad.compile(lambda x: x + ad.random.uniform((2,)))\n"
        "a, b = f(0.0), f(0.0)\n"
        "assert a.tolist() != b.tolist()\n"
        "ad.random.seed(3)\n"
        "assert f(0.0).tolist() == ad.random.Generator(3).uniform((2,)).tolist()\n"
        "ad.random.uniform((2,)).numpy()\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_generators_are_copied_and_pickled():
    g = generator()
    g.gamma(2.0)
    for other in (copy.deepcopy(g), pickle.loads(pickle.dumps(g))):
        assert other.gamma(2.0).item() == copy.deepcopy(g).gamma(2.0).item()


@pytest.mark.parametrize("a, b", [(5e-324, 5e-324), (1e-310, 3e-310), (1e-308, 3e-308)])
def test_beta_of_tiny_parameters_is_zero_or_one(a, b):
    n = 20000
    x = ad.random.Generator(0).beta(a, b, (n,)).numpy()
    assert np.isin(x, (0.0, 1.0)).all()
    share = a / (a + b)
    assert abs(x.mean() - share) < 5 * np.sqrt(share * (1 - share) / n)
