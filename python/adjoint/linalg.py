"""Linear algebra: factors, solutions, spectra and norms of matrices, and stacks of them.

The last two axes are a matrix; those before them count matrices, and broadcast where there are
several operands. Names and results follow the array standard; what it lacks has the name of NumPy
or SciPy. Integers are taken to float64. The work is LAPACK's, one matrix at a time on one thread,
many on several. Every function has derivatives of every order, in both modes.

A matrix that is singular, or not positive definite, or whose factors do not converge raises
`LinAlgError`, which names it if there are several. One with an infinity or nan gives nan where its
factors cannot be found.

>>> import adjoint as ad
>>> a = ad.tensor([[4.0, 2.0], [2.0, 3.0]])
>>> ad.linalg.solve(a, ad.tensor([2.0, 1.0])).tolist()
[0.5, 0.0]
"""

from adjoint import _core

__all__ = [  # noqa: PLE0604
    "LinAlgError",  # noqa: F822
    *(name for name in vars(_core.linalg) if not name.startswith("_")),
]

globals().update(
    (name, value) for name, value in vars(_core.linalg).items() if not name.startswith("__")
)


def __getattr__(name: str) -> type[ValueError]:
    if name != "LinAlgError":
        from adjoint._words import unknown

        raise unknown("linalg", name)
    # Made at first need: it is also what NumPy raises, and NumPy takes a while to import.
    from numpy.linalg import LinAlgError as base

    text = """A matrix is singular or otherwise not what an operation needs, or nothing converged.

    Examples
    --------
    >>> import adjoint as ad
    >>> ad.linalg.inv(ad.zeros((2, 2)))
    Traceback (most recent call last):
        ...
    adjoint.linalg.LinAlgError: [inv] the matrix is singular
    """
    made = type("LinAlgError", (base,), {"__doc__": text, "__module__": __name__})
    globals()[name] = made
    return made


def __dir__() -> list[str]:
    return sorted(__all__)
