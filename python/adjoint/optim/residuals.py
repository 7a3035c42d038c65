"""Least squares: the smallest sum of squares, or of a loss that minds outliers less."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

import adjoint as ad
from adjoint._arguments import check_at_least_zero, check_choice, check_number
from adjoint.optim.arguments import as_args, check_call, constants, make_limits
from adjoint.optim.bounds import check_x0, read_bounds
from adjoint.optim.differences import difference_points
from adjoint.optim.functions import Functions, kept_functions
from adjoint.optim.implicit import attach_least_squares
from adjoint.optim.levenberg_marquardt import Tolerances, gauss_newton, levenberg_marquardt
from adjoint.optim.objective import Array, Flat, Limits, Objective, Stop
from adjoint.optim.options import check_known, read_options
from adjoint.optim.result import Result
from adjoint.optim.words import solver

__all__ = ["Residuals", "ended", "least_squares", "loss_weights", "pure_residuals", "solve"]

WHO = "least_squares"
MOST_ITERATIONS = 10_000  # where nothing is said
METHODS = {"lm": levenberg_marquardt, "gauss-newton": gauss_newton}
_OPTIONS = ["compile", "jacobian", *Tolerances._fields]
_NAMES = {"lm": "lm", "levenberg-marquardt": "lm", "trf": "lm", "gauss-newton": "gauss-newton"}


# ---- Losses: rho(z) of the squared residual, with two derivatives --------------------------------


def _linear(z: Array) -> tuple[Array, Array, Array]:
    return z, np.ones_like(z), np.zeros_like(z)


def _soft_l1(z: Array) -> tuple[Array, Array, Array]:
    root = np.sqrt(1 + z)
    return 2 * (root - 1), 1 / root, -0.5 / root**3


def _huber(z: Array) -> tuple[Array, Array, Array]:
    small = z <= 1
    root = np.sqrt(np.where(small, 1.0, z))
    return (
        np.where(small, z, 2 * root - 1),
        np.where(small, 1.0, 1 / root),
        np.where(small, 0.0, -0.5 / root**3),
    )


def _cauchy(z: Array) -> tuple[Array, Array, Array]:
    return np.log1p(z), 1 / (1 + z), -1 / (1 + z) ** 2


def _arctan(z: Array) -> tuple[Array, Array, Array]:
    return np.arctan(z), 1 / (1 + z**2), -2 * z / (1 + z**2) ** 2


LOSSES: dict[str, Callable[[Array], tuple[Array, Array, Array]]] = {
    "linear": _linear,
    "soft_l1": _soft_l1,
    "huber": _huber,
    "cauchy": _cauchy,
    "arctan": _arctan,
}


def loss_weights(loss: str, loss_scale: float, r: Any) -> tuple[Any, Any]:
    """Return the slope of a loss and the weights of the Jacobian whose squares model it.

    B. Triggs, P. McLauchlan, R. Hartley, A. Fitzgibbon, "Bundle adjustment - a modern synthesis",
    LNCS 1883 (2000) 298-372, section 4.3.

    Examples
    --------
    >>> import numpy as np
    >>> from adjoint.optim.residuals import loss_weights
    >>> slope, weight = loss_weights("soft_l1", 1.0, np.array([0.0, np.sqrt(3.0)]))
    >>> [round(float(s), 6) for s in slope], [round(float(w) ** 2, 6) for w in weight]
    ([1.0, 0.5], [1.0, 0.125])
    """
    z = (r / loss_scale) ** 2
    _, first, second = LOSSES[loss](z)
    return first, np.sqrt(np.maximum(first + 2 * second * z, np.finfo(float).eps))


@solver
def least_squares(
    residuals: Callable[..., Any],
    x0: Any,
    method: str = "lm",
    args: tuple[Any, ...] = (),
    bounds: Any = None,
    loss: str = "linear",
    loss_scale: float = 1.0,
    tol: float | None = None,
    maxiter: int | None = None,
    maxfun: int | None = None,
    maxtime: float | None = None,
    callback: Callable[[Result], Any] | None = None,
    progress: bool = False,
    options: Mapping[str, Any] | None = None,
) -> Result:
    """Minimize half the sum of the squared residuals.

    Parameters
    ----------
    residuals : callable
        ``residuals(x, *args)`` returns a tensor of any shape, or a pytree of them.
    x0 : number, array, Tensor, or pytree of them
        Where to start; the result is like it.
    method : {"lm", "gauss-newton"}
        Levenberg-Marquardt with Moré's scaling [1]_, as a trust-region method; or Gauss-Newton with
        halved steps, for problems with small residuals and a good start. "trf" is taken for "lm",
        as both keep bounds here.
    args : tuple, optional
        Further arguments of `residuals`. The solution is differentiable in the tensors among them.
    bounds : optional
        As for `minimize`.
    loss : {"linear", "soft_l1", "huber", "cauchy", "arctan"}
        What is summed of each squared residual z: z, ``2 (sqrt(1 + z) - 1)``, z up to 1 and
        ``2 sqrt(z) - 1`` above, ``log(1 + z)``, ``arctan(z)``.
    loss_scale : float, default 1.0
        The residual from which on the loss counts less; they are divided by it first.
    tol : float, optional
        Relative tolerance of the parameters and of the sum of squares, by default 1e-10 and 1e-15
        (1e-5 and 1e-7 in float32).
    maxiter, maxfun, maxtime, callback, progress
        As for `minimize`.
    options : mapping, optional
        ``ftol``, ``xtol``, ``gtol``; ``factor`` of "lm": the first radius beside the scaled
        parameters, 1; ``compile`` as for `minimize`; ``jacobian``: "auto", "2-point" or
        "3-point" for finite differences, or a function of the same arguments.

    Returns
    -------
    Result
        With `cost`, half of the sum, `fun`, the residuals, `jac`, and `grad`.

    Raises
    ------
    TypeError, ValueError
        If an argument is of another kind, an option unknown, or `x0` outside of the bounds.

    References
    ----------
    .. [1] J. J. Moré, "The Levenberg-Marquardt algorithm: implementation and theory", Lecture Notes
       in Mathematics 630 (1978) 105-116.

    Examples
    --------
    >>> import adjoint as ad
    >>> t = ad.linspace(0, 1, 20)
    >>> y = 2.0 * ad.exp(-3.0 * t)
    >>> residuals = lambda p: p[0] * ad.exp(-p[1] * t) - y
    >>> result = ad.optim.least_squares(residuals, [1.0, 1.0])
    >>> [round(v, 6) for v in result.x.tolist()]
    [2.0, 3.0]
    """
    args = as_args(args)
    check_call(WHO, "residuals", residuals, 1 + len(args), f"x0 and the {len(args)} of args")
    limits = make_limits(WHO, maxiter, maxfun, maxtime, callback, progress, tol)
    return solve(WHO, residuals, x0, method, args, bounds, loss, loss_scale, tol, limits, options)


def solve(
    who: str,
    residuals: Callable[..., Any],
    x0: Any,
    method: str,
    args: tuple[Any, ...],
    bounds: Any,
    loss: str,
    loss_scale: float,
    tol: float | None,
    limits: Limits,
    options: Mapping[str, Any] | None,
    name: str = "x0",
    attach: Callable[[Result, Any, tuple[Any, ...], Any], None] = attach_least_squares,
) -> Result:
    """Check the arguments of `least_squares` and its like, and run the method.

    `attach` makes a result what is differentiated: of the result, the problem, `args` and `bounds`.
    """
    if not isinstance(method, str) or method.lower() not in _NAMES:
        check_choice(who, "method", method, tuple(_NAMES))
    check_choice(who, "loss", loss, tuple(LOSSES))
    check_at_least_zero(who, "loss_scale", loss_scale, positive=True)
    flat = Flat(who, x0, name)
    box = read_bounds(who, bounds, flat)
    check_x0(who, flat, box)
    given = read_options(who, options)
    chosen = _NAMES[method.lower()]
    known = [*_OPTIONS, "factor"] if chosen == "lm" else _OPTIONS
    check_known(who, f"the method {method!r}", given, known)
    tolerances = _tolerances(flat, tol, given)
    scale = check_number(who, "loss_scale", loss_scale)
    problem = Residuals(who, residuals, flat, constants(args), limits, loss, scale, given)
    problem.bounds = box
    extra = {"factor": given["factor"]} if "factor" in given else {}
    if limits.maxiter == math.inf:
        limits.maxiter = MOST_ITERATIONS
    try:
        stop = ended(METHODS[chosen], problem, tolerances, **extra)
        result = problem.result(chosen, stop)
    except BaseException as error:
        problem.leave(error, chosen)
        raise
    attach(result, problem, args, bounds)
    limits.progress.close(result.nit, result.nfev, problem.best_f, result.reason)
    flat.keep_trained(result.x)
    return result


def ended(run: Callable[..., None], *args: Any, **options: Any) -> Stop:
    """Run a method, and return why it has ended.

    Examples
    --------
    >>> from adjoint.optim.objective import Stop
    >>> from adjoint.optim.residuals import ended
    >>> def method():
    ...     raise Stop("it has converged", True)
    >>> ended(method).reason
    'it has converged'
    """
    try:
        run(*args, **options)
    except Stop as end:
        return end
    raise AssertionError("a method ends by Stop")


def _tolerances(flat: Flat, tol: float | None, given: dict[str, Any]) -> Tolerances:
    if tol is not None:
        usual = Tolerances(ftol=float(tol), xtol=float(tol), gtol=0.0)
    elif flat.single:
        usual = Tolerances(ftol=1e-7, xtol=1e-5, gtol=1e-6)
    else:
        usual = Tolerances(ftol=1e-15, xtol=1e-10, gtol=1e-14)
    return usual._replace(**{n: v for n, v in given.items() if n in Tolerances._fields})


def pure_residuals(f: Callable[..., Any], flat: Flat, who: str) -> Functions:
    """Return the residuals and their Jacobian as functions of ``(vector, args)``.

    Examples
    --------
    >>> import adjoint as ad
    >>> from adjoint.optim.objective import Flat
    >>> from adjoint.optim.residuals import pure_residuals
    >>> functions = pure_residuals(lambda x, a: x * a, Flat("least_squares", [1.0, 2.0]), "it")
    >>> functions["jacobian"](ad.ones(2), (3.0,)).tolist()
    [[3.0, 0.0], [0.0, 3.0]]
    """

    def value(vector: ad.Tensor, args: tuple[Any, ...]) -> Any:
        leaves = ad.tree.leaves(f(flat.unflatten(vector), *args))
        parts = [_vector(leaf, who) for leaf in leaves]
        if not sum(part.size for part in parts):
            raise ValueError(f"[{who}] the function returns no residuals")
        return ad.concat(parts) if len(parts) > 1 else parts[0]

    return {"value": value, "jacobian": ad.jacobian(value)}


def _vector(leaf: Any, who: str) -> ad.Tensor:
    try:
        part = ad.reshape(ad.asarray(leaf), (-1,))
    except TypeError as error:
        raise TypeError(f"[{who}] the function must return numbers: {error}") from None
    if not ad.isdtype(part.dtype, "real floating"):
        raise TypeError(f"[{who}] residuals must be real floating numbers, not {part.dtype}")
    return part


class _Point(NamedTuple):
    """What is known of a point."""

    x: Array
    r: Array
    jacobian: Array | None


class Residuals(Objective):
    """Residuals of one flat vector, as the methods for sums of squares see them.

    The value of a point is its cost; the best point comes with its residuals and its Jacobian.
    """

    _missing = "the Jacobian is needed, and the function gives none"
    _ways_out = (
        "Write it with this library's functions, or take options={'jacobian': '2-point'} for "
        "finite differences"
    )

    def __init__(
        self,
        who: str,
        f: Callable[..., Any],
        flat: Flat,
        args: tuple[Any, ...],
        limits: Limits,
        loss: str,
        loss_scale: float,
        options: dict[str, Any],
    ) -> None:
        super().__init__(
            f,
            flat,
            args,
            limits,
            who=who,
            compiled=options.get("compile", True),
            gradient=options.get("jacobian", "auto"),
            functions=kept_functions(
                f, ("residuals", flat.key, who), lambda: pure_residuals(f, flat, who)
            ),
        )
        self.loss, self.loss_scale, self.linear = loss, loss_scale, loss == "linear"
        self.rho = LOSSES[loss]
        self.best_r, self.count = np.zeros(0), 0
        self.best_jacobian: Array | None = None
        self._last: _Point | None = None  # that was evaluated
        self._at: _Point | None = None  # where the method stands

    def evaluate(self, x: Array) -> Array:
        """Return the residuals at a point in float64."""
        self._count(f=1)
        out = self.call("value", ad.asarray(x.astype(self.flat.np_dtype)))
        self.note_captured(out)
        self.count = out.size
        return np.array(out.numpy(), float)

    def residuals(self, x: Array) -> tuple[float, Array]:
        """Return the cost and the residuals at a point."""
        r = self.evaluate(x)
        self._last = _Point(x, r, None)
        with np.errstate(over="ignore", invalid="ignore"):
            cost = float(self.total(r))
        if math.isnan(cost):
            cost = math.inf
        return self.see(x, cost), r

    def _value(self, x: Array) -> float:
        return self.residuals(x)[0]

    def value(self, x: Array) -> float:
        return self.residuals(x)[0]

    def _known(self, x: Array) -> _Point | None:
        """Return what is known of a point."""
        for point in (self._at, self._last):
            if point is not None and np.array_equal(point.x, x):
                return point
        return None

    def _keep(self, x: Array, f: float, g: Array | None) -> None:
        point = self._known(x)
        assert point is not None
        self.best_f, self.best_x = f, x.astype(self.flat.np_dtype)
        self.best_r, self.best_jacobian = point.r, point.jacobian

    def _to_compile(self, name: str) -> bool:
        return name != "value" or self.automatic  # where the Jacobian compiles, they do

    def total(self, r: Any) -> Any:
        """Return the cost of residuals, an array or a tensor."""
        if self.linear:
            return 0.5 * (r @ r)
        return 0.5 * self.loss_scale**2 * self.rho((r / self.loss_scale) ** 2)[0].sum()

    def jacobian(self, x: Array) -> Array:
        """Return the Jacobian at a point in float64."""
        self.ngev += 1
        if self.gradient == "auto":
            out = np.array(
                self.call("jacobian", ad.asarray(x.astype(self.flat.np_dtype))).numpy(), float
            )
            if self.ngev == 1 and not out.any():
                self._check_jacobian(x)
        elif callable(self.gradient):
            given = self.gradient(self.flat.unflatten(x.astype(self.flat.np_dtype)), *self.args)
            out = self._given(given, x.size)
        else:
            out = self._differences(x)
        out = out.reshape(-1, x.size)
        if not np.isfinite(out).all():
            raise Stop("the Jacobian is not finite")
        point = self._known(x)
        if point is not None:
            self._at = point._replace(jacobian=out)
        if np.array_equal(x, self.best_x):
            self.best_jacobian = out
        return out

    def _given(self, given: Any, size: int) -> Array:
        """Return a Jacobian of the user's as a matrix: its axes are those of residuals and x."""
        try:
            if given is None:
                raise TypeError("does it return?")
            out = np.array(given.numpy() if isinstance(given, ad.Tensor) else given, float)
        except (TypeError, ValueError) as error:
            raise TypeError(
                f"[{self.who}] the Jacobian must return an array of numbers, not a "
                f"{type(given).__name__}: {error}"
            ) from None
        splits = [(out.shape[:i], out.shape[i:]) for i in range(out.ndim + 1)]
        if (self.count, size) not in [(math.prod(a), math.prod(b)) for a, b in splits]:
            hint = " (it is transposed)" if out.shape == (size, self.count) else ""
            raise ValueError(
                f"[{self.who}] the Jacobian must have a row for each residual and a column for "
                f"each parameter: shapes {out.shape}{hint} and {(self.count, size)}"
            )
        return out

    def _check_jacobian(self, x: Any) -> None:
        """Raise if there is no Jacobian: of what is no tensor computed from x it would be 0."""
        marked = ad.tensor(x.astype(self.flat.np_dtype), requires_grad=True)
        if not self.functions["value"](marked, self.args).requires_grad:
            self.no_gradient("what it returns is no tensor that was computed from x")

    def _differences(self, x: Array) -> Array:
        known = self._known(x)
        r = self.residuals(x)[1] if known is None else known.r
        here, columns = self._last, []
        x = x.astype(self.flat.np_dtype)
        for i in range(x.size):
            ahead, behind = difference_points(x, i, self.gradient == "3-point", *self.box())
            if ahead is x:  # bounds leave no room: it is a constant
                columns.append(np.zeros_like(r))
                continue
            base = r if behind is x else self.residuals(behind)[1]
            columns.append((self.residuals(ahead)[1] - base) / float(ahead[i] - behind[i]))
        self._last = here
        return np.array(columns).T

    def weighted(self, r: Array, jacobian: Array) -> tuple[Array, Array]:
        """Return residuals and Jacobian whose squares model the loss."""
        first, weight = loss_weights(self.loss, self.loss_scale, r)
        return r * first / weight, jacobian * weight[:, None]

    def arrive(self, x: Array) -> tuple[float, Array, Array]:
        """Return cost, residuals and Jacobian, as the loss weights them, where a method goes on."""
        known = self._known(x)
        r = self.residuals(x)[1] if known is None else known.r
        cost = float(self.total(r))
        if not math.isfinite(cost):  # at x0 alone: no method goes where they are not
            self.best_r = r
            raise Stop(f"the residuals are not finite at x0: their sum of squares is {2 * cost}")
        return cost, *self.weighted(r, self.jacobian(x))

    def intermediate(self, x: Any, f: float, g: Any = None) -> Result:
        """Return how things stand, with the residuals, the cost and the Jacobian."""
        out = super().intermediate(x, f)
        point = self._known(np.asarray(x, float))
        if point is not None:
            self._describe(out, f, point.r, point.jacobian)
        return out

    def _describe(self, out: Result, cost: float, r: Array, jacobian: Array | None) -> None:
        out.cost, out.fun = cost, ad.asarray(np.array(r), dtype=self.flat.dtype)
        if jacobian is not None:
            out.jac = ad.asarray(np.array(jacobian), dtype=self.flat.dtype)
            weighted, columns = self.weighted(r, jacobian)
            out.grad = self._tree(columns.T @ weighted)

    def result(self, method: str, stop: Stop, *, whole: bool = True) -> Result:
        """Return the result with what is particular to residuals."""
        if whole and self.best_jacobian is None and self.ngev and math.isfinite(self.best_f):
            with contextlib.suppress(Stop):
                self.jacobian(self.best_x.astype(float))
        out = super().result(method, stop, whole=whole)
        cost = self.best_f if math.isfinite(self.best_f) else math.nan
        self._describe(out, cost, self.best_r, self.best_jacobian)
        return out
