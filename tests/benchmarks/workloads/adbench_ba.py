"""ADBench's bundle adjustment: 31843 observations of 7776 points by 49 cameras.

An observation's reprojection error depends on 11 parameters of a camera, 3 of a point and a
weight. The Jacobian is the block of each observation, 2 by 15, and the derivative of the error of
its weight: the entries of the sparse matrix, in its order.
"""

from workloads import adbench

CASES = ("objective", "jacobian")
UNIT = "s"
TOLERANCE = adbench.TOLERANCE
BARS = adbench.BARS


def data(cameras=49, points=7776, observations=31843):
    """Return the cameras, points and weights, who sees what (2, observations), and where."""
    import numpy as np

    rng = np.random.default_rng(11)
    cams = rng.standard_normal((cameras, 11))
    cams[:, 3:6] = 30 + 10 * cams[:, 3:6]
    cams[:, 6] = 400 + 20 * cams[:, 6]
    cams[:, 9:] *= 0.01
    k = np.arange(observations)
    seen = np.stack([k % cameras, k % points])
    measured = 100 * rng.standard_normal((observations, 2))
    return (cams, rng.standard_normal((points, 3)), rng.uniform(size=observations)), seen, measured


def rotated(xp, angles, point):
    """Rodrigues' formula, component by component; no rotation is by less than an angle above 0."""
    a, b, c = angles
    theta = xp.sqrt(a * a + b * b + c * c)
    cos, sin = xp.cos(theta), xp.sin(theta)
    a, b, c = a / theta, b / theta, c / theta
    x, y, z = point
    along = (a * x + b * y + c * z) * (1.0 - cos)
    return (
        x * cos + (b * z - c * y) * sin + a * along,
        y * cos + (c * x - a * z) * sin + b * along,
        z * cos + (a * y - b * x) * sin + c * along,
    )


def projected(xp, p):
    """Return where a camera (11 parameters) sees a point (the next 3)."""
    centre = p[11] - p[3], p[12] - p[4], p[13] - p[5]
    x, y, z = rotated(xp, (p[0], p[1], p[2]), centre)
    u, v = x / z, y / z
    square = u * u + v * v
    scale = (1.0 + p[9] * square + p[10] * square * square) * p[6]
    return u * scale + p[7], v * scale + p[8]


def reprojection(xp, p, measured):
    """Return the two errors of an observation."""
    u, v = projected(xp, p)
    return xp.stack((p[14] * (u - measured[0]), p[14] * (v - measured[1])), 0)


def gathered(xp, seen, cams, points, weights):
    """Return the 15 parameters of each observation, parameter by parameter."""
    of_cameras = [xp.take(cams[:, k], seen[0], 0) for k in range(11)]
    return (*of_cameras, *(xp.take(points[:, k], seen[1], 0) for k in range(3)), weights)


def mapped(library, f):
    if library == "adjoint":
        import adjoint as ad

        return ad.vmap(f)
    if library == "torch":
        import torch

        return torch.func.vmap(f)
    import jax

    return jax.vmap(f)


def jacobian_of(library, f):
    if library == "adjoint":
        import adjoint as ad

        return ad.jacobian(f)
    if library == "torch":
        import torch

        return torch.func.jacrev(f)
    import jax

    return jax.jacrev(f)


def function_of(library, case, seen, measured):
    """Return the function of cameras, points and weights."""
    _, xp = adbench.names(library)
    seen, measured = [xp.asarray(s) for s in seen], xp.asarray(measured)

    def errors(p, measured):
        return reprojection(xp, p, measured)

    by_observation = errors if case == "objective" else jacobian_of(library, errors)

    def f(cams, points, weights):
        found = mapped(library, by_observation)(gathered(xp, seen, cams, points, weights), measured)
        if case == "objective":
            return found, 1.0 - weights * weights
        return xp.stack(found, 2), -2.0 * weights

    return f


def reference(case, instance=None):
    """The same in NumPy with matrices of rotation; derivatives by complex steps."""
    import numpy as np

    (cams, points, weights), seen, measured = instance or data()

    def errors(p):
        angles, centred = p[:, :3], p[:, 11:14] - p[:, 3:6]
        theta = np.sqrt((angles * angles).sum(1))[:, None]
        k = np.zeros((len(p), 3, 3), p.dtype)
        for i in range(3):
            k[:, i - 1, i - 2], k[:, i - 2, i - 1] = angles[:, i], -angles[:, i]
        once = np.einsum("pij,pj->pi", k, centred)
        twice = np.einsum("pij,pj->pi", k, once)
        x = centred + once * np.sin(theta) / theta + twice * (1 - np.cos(theta)) / theta**2
        image = x[:, :2] / x[:, 2:]
        square = (image * image).sum(1, keepdims=True)
        image = image * (1 + p[:, 9:10] * square + p[:, 10:11] * square**2)
        return p[:, 14:] * (image * p[:, 6:7] + p[:, 7:9] - measured)

    p = np.concatenate([cams[seen[0]], points[seen[1]], weights[:, None]], 1)
    if case == "objective":
        return [errors(p), 1 - weights**2]
    columns = [errors(p + 1e-100j * row).imag / 1e-100 for row in np.eye(15)]
    return [np.stack(columns, axis=2), -2 * weights]


def factory(library, compiled, case):
    _, xp = adbench.names(library)
    parameters, seen, measured = data()
    f = function_of(library, case, seen, measured)
    return adbench.run(library, compiled, f, *map(xp.asarray, parameters))


VARIANTS = adbench.variants(factory)
