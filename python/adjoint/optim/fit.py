"""Curve fitting: the parameters of a model from data, with their covariance."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any

import numpy as np

import adjoint as ad
from adjoint._arguments import check_callable, check_flag
from adjoint.optim.arguments import check_call, make_limits
from adjoint.optim.bounds import read_bounds
from adjoint.optim.functions import Derived
from adjoint.optim.objective import Array, Flat, is_array
from adjoint.optim.options import check_known
from adjoint.optim.residuals import least_squares, loss_weights, solve
from adjoint.optim.words import solver, warn
from adjoint.transforms.custom import differentiated

__all__ = ["curve_fit"]

WHO = "curve_fit"
# What `curve_fit` has parameters of its own for, and the others of `least_squares`.
_OWN = ("residuals", "x0", "method", "args", "bounds")
_TAKEN: dict[str, Any] = {
    name: parameter.default
    for name, parameter in inspect.signature(least_squares).parameters.items()
    if name not in _OWN
}
_LIMITS, _SOLVED = (
    [name for name in inspect.signature(f).parameters if name in _TAKEN]
    for f in (make_limits, solve)
)


@solver
def curve_fit(
    model: Callable[..., Any],
    xdata: Any,
    ydata: Any,
    p0: Any = None,
    sigma: Any = None,
    absolute_sigma: bool = False,
    bounds: Any = None,
    method: str = "lm",
    full_output: bool = False,
    **options: Any,
) -> Any:
    """Fit a model to data by least squares.

    Parameters
    ----------
    model : callable
        ``model(xdata, *params)`` returns what `ydata` should be. Where `p0` is a dict or nested, it
        is called ``model(xdata, params)`` with parameters of that structure.
    xdata : array or pytree of arrays
        Passed to the model, as tensors; a list or tuple of numbers stands for an array.
    ydata : array
    p0 : sequence of numbers, or pytree, optional
        Where to start. If it is left out, there is one parameter for each positional argument of
        the model but the first, and it is 1 where the bounds allow that: else the middle of both,
        or one from the only end.
    sigma : array, optional
        Standard deviations of `ydata`, of its shape, or the covariance matrix of its elements,
        which is symmetric.
    absolute_sigma : bool, default False
        Whether `sigma` is meant as it is; else only ratios count, and the covariance is scaled so
        that the residuals agree with it.
    bounds, method
        As for `least_squares`.
    full_output : bool, default False
        Return the `Result` as well.
    **options
        ``loss``, ``loss_scale``, ``tol``, ``maxiter``, ``maxfun``, ``maxtime``, ``callback``,
        ``progress`` and ``options`` of `least_squares`.

    Returns
    -------
    popt : Tensor, or pytree
        The parameters, like `p0`; a vector if that is a sequence.
    pcov : Tensor
        Their covariance, by the flattened parameters; inf where the data do not determine them. It
        is ``inv(J^T J)`` with J the Jacobian of the weighted residuals, times ``2 cost / (m - n)``
        of m values and n parameters unless `absolute_sigma`. With a robust loss, J is scaled so
        that ``J^T J`` models the curvature of the cost, as SciPy does: a value far out counts
        neither in J nor, fully, in the cost.

    Raises
    ------
    RuntimeError
        If no fit is found.

    Examples
    --------
    >>> import adjoint as ad
    >>> x = ad.linspace(0, 4, 50)
    >>> y = 2.5 * ad.exp(-1.3 * x) + 0.5
    >>> popt, pcov = ad.optim.curve_fit(lambda x, a, b, c: a * ad.exp(-b * x) + c, x, y)
    >>> [round(v, 6) for v in popt.tolist()]
    [2.5, 1.3, 0.5]
    """
    check_callable(WHO, model=model)
    absolute_sigma = check_flag(WHO, "absolute_sigma", absolute_sigma)
    full_output = check_flag(WHO, "full_output", full_output)
    given = _data("xdata", xdata) if is_array(xdata) else xdata
    x = ad.tree.map(lambda leaf: _data("xdata", leaf), given)
    y = _data("ydata", ydata)
    if not y.size:
        raise ValueError(f"[{WHO}] ydata must have at least one element, not shape {y.shape}")
    start = _start(model, bounds) if p0 is None else p0
    plain, flat = _is_plain(start), Flat(WHO, start, "p0")
    if plain:
        start = flat.start
    count = flat.size if plain else 1
    check_call(WHO, "model", model, 1 + count, f"xdata and the {count} of p0")
    whiten, weights = _whitening(sigma, y)

    residuals = _Fitted(model, whiten, said=plain)

    check_known(WHO, "it", options, _TAKEN)
    taken = {**_TAKEN, **options}
    limits = make_limits(WHO, **{name: taken[name] for name in _LIMITS})
    result = solve(
        WHO,
        residuals,
        start,
        method=method,
        args=(x, y, weights),
        bounds=bounds,
        limits=limits,
        name="p0",
        **{name: taken[name] for name in _SOLVED},
    )
    if not result.success:
        raise RuntimeError(f"[{WHO}] no fit was found: {result.reason}")
    count = result.fun.size
    cov = _covariance(result, taken["loss"], taken["loss_scale"], count, absolute_sigma)
    if full_output:
        return result.x, cov, result
    return result.x, cov


class _Fitted(Derived):
    """The weighted differences of a model and the data."""

    def __call__(self, params: Any, x: Any, y: ad.Tensor, weights: Any) -> ad.Tensor:
        model, whiten = self.functions
        parts = [params[i] for i in range(params.shape[0])] if self.said else [params]
        white: ad.Tensor = whiten(_compared(model(x, *parts), y), weights)
        return white


def _data(name: str, value: Any) -> ad.Tensor:
    """Return data as a tensor of finite real numbers; integers stand for float64."""
    try:
        x = ad.asarray(value)
    except (TypeError, ValueError, OverflowError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"[{WHO}] {name} must be numbers: {error}") from None
    x = ad.astype(x, ad.float64) if x.dtype.kind in "iub" else x
    if not bool(ad.all(ad.isfinite(x))):
        raise ValueError(f"[{WHO}] {name} must be finite")
    return x


def _compared(modelled: Any, y: ad.Tensor) -> ad.Tensor:
    """Return the difference of a model and the data, which it must not broadcast."""
    out = ad.asarray(modelled)
    if out.shape not in (y.shape, ()):
        raise ValueError(
            f"[{WHO}] the model must return what is like ydata: shapes {out.shape} and {y.shape}"
        )
    return out - y


def _is_plain(start: Any) -> bool:
    if isinstance(start, dict):
        return False
    if isinstance(start, (list, tuple)):
        return all(
            np.ndim(v.numpy() if isinstance(v, ad.Tensor) else v) == 0 and not isinstance(v, dict)
            for v in start
        )
    return np.ndim(start.numpy() if isinstance(start, ad.Tensor) else start) <= 1


def _start(model: Callable[..., Any], bounds: Any) -> Array:
    """Return where to start: one number for each positional argument of a model but the first."""
    kinds = [p.kind for p in inspect.signature(model).parameters.values()]
    positional = [k for k in kinds if k in (k.POSITIONAL_ONLY, k.POSITIONAL_OR_KEYWORD)]
    if len(positional) < 2 or any(k is k.VAR_POSITIONAL for k in kinds):
        raise ValueError(f"[{WHO}] the number of parameters is not known: give p0")
    ones = np.ones(len(positional) - 1)
    box = read_bounds(WHO, bounds, Flat(WHO, ones, "p0"))
    if box is None:
        return ones
    low, high = box
    middle = 0.5 * np.where(np.isfinite(low), low, high - 2.0)
    middle += 0.5 * np.where(np.isfinite(high), high, low + 2.0)
    return np.where((low <= ones) & (ones <= high), ones, middle)


def _whitening(sigma: Any, y: ad.Tensor) -> tuple[Callable[[ad.Tensor, Any], ad.Tensor], Any]:
    """Return what makes residuals of equal weight of them, and its second argument."""
    if sigma is None:
        return _unweighted, None
    given = _data("sigma", sigma)
    if given.shape in (y.shape, ()):
        if not bool(ad.all(given > 0)):
            raise ValueError(f"[{WHO}] sigma must be positive")
        return _weighted, given
    if given.shape == (y.size, y.size):
        least = math.sqrt(ad.finfo(given.dtype).eps) * ad.max(ad.abs(given))
        if bool(ad.any(ad.abs(given - given.T) > least)):
            raise ValueError(f"[{WHO}] sigma as a matrix must be symmetric")
        try:
            factor = ad.linalg.cholesky(given)
        except ad.linalg.LinAlgError:
            raise ValueError(f"[{WHO}] sigma as a matrix must be positive definite") from None
        return _decorrelated, factor
    raise ValueError(
        f"[{WHO}] sigma must be of the shape of ydata, or a covariance matrix of it: shapes "
        f"{given.shape} and {y.shape}"
    )


def _unweighted(r: ad.Tensor, _: Any) -> ad.Tensor:
    return r


def _weighted(r: ad.Tensor, sigma: ad.Tensor) -> ad.Tensor:
    return r / sigma


def _decorrelated(r: ad.Tensor, factor: ad.Tensor) -> ad.Tensor:
    white: ad.Tensor = ad.linalg.solve_triangular(factor, ad.reshape(r, (-1,)), lower=True)
    return white


def _covariance(result: Any, loss: str, loss_scale: float, count: int, absolute: bool) -> ad.Tensor:
    """Return the inverse of what models the Hessian of the cost, scaled by the cost."""
    weighted = result.jac * loss_weights(loss, loss_scale, result.fun)[1][:, None]
    jacobian = np.array(weighted.numpy(), float)
    n = jacobian.shape[1]
    scale = np.linalg.norm(jacobian, axis=0)
    known = scale > 0
    _, s, vt = np.linalg.svd(jacobian / np.where(known, scale, 1.0), full_matrices=False)
    cut = np.finfo(float).eps * max(jacobian.shape) * (s[0] if s.size else 0.0)
    if len(s) < n or (s <= cut).any() or not known.all() or (count <= n and not absolute):
        warn(
            f"[{WHO}] the data do not determine all parameters: the covariance is not known",
            RuntimeWarning,
        )
        return ad.asarray(np.full((n, n), math.inf), dtype=result.jac.dtype)
    if differentiated([weighted]):
        inverse: ad.Tensor = ad.linalg.inv(weighted.T @ weighted)
        return inverse if absolute else inverse * (2 * result.cost / (count - n))
    half = vt.T / s / scale[:, None]
    cov = half @ half.T
    if not absolute:
        cov = cov * (2 * result.cost / (count - n))
    return ad.asarray(cov, dtype=result.jac.dtype)
