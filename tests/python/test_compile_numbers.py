"""Python numbers among the arguments of a compiled function mean what they mean to Python."""

import fractions
import math
import operator

import pytest

import adjoint as ad

ONE = ad.tensor(1.0)
TABLE = {2: 5.0, 2.5: 6.0}


def both(f, *args):
    """The outcome of `f` and of `f` compiled, twice: an item, or the name of an error."""

    def outcome(g):
        try:
            return g(*args).tolist()
        except Exception as error:
            return type(error).__name__

    compiled = ad.compile(f)
    return outcome(f), [outcome(compiled), outcome(compiled)]


# ---- exact comparisons --------------------------------------------------------------------------


@pytest.mark.parametrize("compare", [operator.lt, operator.le, operator.eq, operator.gt])
@pytest.mark.parametrize("n", [3, 2**53, 2**53 - 1, -(2**53)])
def test_an_int_and_a_float_are_compared_exactly(compare, n):
    for f in (
        lambda n, x: ad.where(compare(n + 1, 9007199254740992.0), x, -x),
        lambda n, x: ad.where(compare(-9007199254740992.0, n - 1), x, -x),
        lambda n, x: ad.where(compare(2.0**60, n * 128 + 1), x, -x),
    ):
        want, got = both(f, n, ONE)
        assert got == [want, want]


def test_comparisons_by_hand():
    f = ad.compile(lambda n, x: ad.where((n + 1) > 9007199254740992.0, x, -x))
    assert f(2**53, ONE).item() == 1.0  # 2**53 + 1 is no double
    assert f(2**53 - 1, ONE).item() == -1.0
    assert f(3, ONE).item() == -1.0
    g = ad.compile(lambda a, x: ad.where(a < 2**53 + 1, x, -x))
    assert g(2.0**53, ONE).item() == 1.0
    h = ad.compile(lambda n, x: ad.where(n < 1000.0, x, -x))
    assert [h(n, ONE).item() for n in (5, 6, 1000)] == [1.0, 1.0, -1.0]
    assert h.cache_info()["programs"] == 1  # small numbers stay inputs


# ---- wide ints ----------------------------------------------------------------------------------


def test_ints_wider_than_64_bits():
    x = ad.tensor(1.0)
    assert ad.compile(lambda n: x * (n * 2**70))(2).item() == 2.0**71
    assert ad.compile(lambda n: x * (n + 2**70))(2).item() == 2.0**70
    assert ad.compile(lambda n: x * (2**70 // n))(2).item() == 2.0**69
    assert ad.compile(lambda n: x * (n / 2**70))(2).item() == 2.0**-69
    f = ad.compile(lambda n: ad.where(n < 2**70, x, -x))
    assert [f(n).item() for n in (2, -5, 2.5, math.inf)] == [1.0, 1.0, 1.0, -1.0]
    g = ad.compile(lambda n: ad.where(n * 2**40 < -(2**90), x, -x))
    assert [g(n).item() for n in (2, -(2**53))] == [-1.0, 1.0]


@pytest.mark.parametrize("n", [3, 2**53, 2**53 - 1])
def test_wide_ints_are_rounded_once_in_float32(n):
    x = ad.tensor(1.0, dtype=ad.float32)
    for f in (lambda n: x * (n * 64 + 33), lambda n: x + (n * 3), lambda n: x - (n * 512 + 1)):
        want, got = both(f, n)
        assert got == [want, want]


def test_an_int_that_does_not_fit_the_tensor_it_meets():
    x = ad.tensor(3, dtype=ad.int8)
    for f in (lambda n: n / x, lambda n: (-n) / x, lambda n: ad.atan2(x, n), lambda n: x + n):
        assert both(f, 2**40) == ("OverflowError", ["OverflowError"] * 2)
        want, got = both(f, 100)
        assert got == [want, want]


# ---- protocols ----------------------------------------------------------------------------------

PROTOCOLS = {
    "round": lambda n: ONE * round(n),
    "round to a digit": lambda n: ONE * round(n, 1),
    "trunc": lambda n: ONE * math.trunc(n),
    "floor": lambda n: ONE * math.floor(n),
    "ceil": lambda n: ONE * math.ceil(n),
    "divmod": lambda n: ONE * divmod(n, 2)[0] + divmod(7, n)[1],
    "pow": lambda n: ONE * pow(n, 2, 7),
    "pow of others": lambda n: ONE * pow(3, n, 7) + pow(3, 2, n),
    "bit_length": lambda n: ONE * n.bit_length(),
    "is_integer": lambda n: ONE * n.is_integer(),
    "real": lambda n: ONE * n.real,
    "imag": lambda n: ONE * n.imag,
    "conjugate": lambda n: ONE * n.conjugate(),
    "numerator": lambda n: ONE * n.numerator,
    "as_integer_ratio": lambda n: ONE * n.as_integer_ratio()[1],
    "hasattr": lambda n: ONE * hasattr(n, "is_integer"),
    "dict": lambda n: ONE * TABLE[n],
    "list": lambda n: ONE * [1.0, 2.0, 3.0][n],
    "set": lambda n: ONE * (n in {2, 3}),
    "hash": lambda n: ONE * hash(n),
    "invert": lambda n: ONE * (~n),
    "minus a bool": lambda n: ONE * -(n > 1),
    "invert a bool": lambda n: ONE * (~(n > 1)),
    "abs of a bool": lambda n: ONE * abs(n > 1),
    "sum": lambda n: ONE * sum([n, n]),
    "complex": lambda n: ONE * abs(n + 1j),
    "fraction": lambda n: ONE * float(fractions.Fraction(1, 3) * n if n == 2 else n),
    "after operators": lambda n: ONE * round(-n * 3 + 1),
    "in a checkpoint": lambda n: ad.checkpoint(lambda m: ONE * round(m))(n),
    "no such attribute": lambda n: ONE * n.no_such_thing,
}


@pytest.mark.parametrize("name", PROTOCOLS)
@pytest.mark.parametrize("n", [2, 3, 2.5, 2.0, -0.0, 2**53])
def test_protocols_of_numbers(name, n):
    want, got = both(PROTOCOLS[name], n)
    assert got == [want, want]


def test_a_number_is_part_of_the_key_only_where_it_must_be():
    f = ad.compile(lambda n, x: x * n + abs(-n))
    assert [f(n, ONE).item() for n in (1, 2, 3)] == [2.0, 4.0, 6.0]
    assert f.cache_info()["programs"] == 1
    g = ad.compile(lambda n, x: x * round(n))
    assert [g(n, ONE).item() for n in (0.5, 1.5, 2.5)] == [0.0, 2.0, 2.0]


@pytest.mark.parametrize("use", [math.trunc, hash, lambda t: pow(t, 2, 7)])
def test_tensors_have_no_more_than_before(use):
    t = ad.tensor(2)
    with pytest.raises(TypeError):
        use(t)
    with pytest.raises(TypeError):
        ad.compile(lambda x: use(x))(t)
    for name in ("bit_length", "real", "is_integer", "conjugate"):
        assert not hasattr(t, name)


NARROW = ad.tensor(3.0, dtype=ad.float32)


@pytest.mark.parametrize(
    "f",
    [
        lambda n: ad.checkpoint(lambda m: NARROW * m)(n),
        lambda n: ad.cond(NARROW > 0, lambda m: NARROW * m, lambda m: NARROW, n),
        lambda n: ad.checkpoint(lambda x, m: (x * m, m))(NARROW, n)[1] * NARROW,
    ],
)
def test_numbers_stay_numbers_in_functions_of_functions(f):
    compiled = ad.compile(f)
    for n in (2, 2.5):
        assert compiled(n).dtype == f(n).dtype == ad.float32
        assert compiled(n).item() == f(n).item() == 3.0 * n
