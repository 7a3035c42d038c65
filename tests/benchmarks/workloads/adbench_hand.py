"""ADBench's hand tracking: a skinned hand of 22 bones and 544 vertices against 100 points.

26 parameters pose the hand: a rotation, a translation and four angles per finger. The residuals
are the differences between points and vertices ("simple"), or places on triangles with two
coordinates each, which are parameters too ("complicated"): its Jacobian is two columns for these
and 26 dense ones.
"""

from workloads import adbench

CASES = ("simple objective", "simple jacobian", "complicated objective", "complicated jacobian")
UNIT = "s"
TOLERANCE = adbench.TOLERANCE
BARS = adbench.BARS
BONES, VERTICES, POINTS = 22, 544, 100


class Model:
    """A hand: who is whose parent, matrices (bones, 4, 4), vertices (v, 3), weights (bones, v)."""

    def __init__(self, parents, relatives, inverse_absolutes, vertices, weights):
        self.parents, self.relatives, self.inverse_absolutes = parents, relatives, inverse_absolutes
        self.vertices, self.weights = vertices, weights


def affine(rng, count):
    """Return rotations with a small translation."""
    import numpy as np

    matrices = np.tile(np.eye(4), (count, 1, 1))
    matrices[:, :3, :3] = np.linalg.qr(rng.standard_normal((count, 3, 3)))[0]
    matrices[:, :3, 3] = 0.1 * rng.standard_normal((count, 3))
    return matrices


def data():
    """Return the hand, (theta, coordinates), the corners of triangles (points, 3), the points."""
    import numpy as np

    rng = np.random.default_rng(26)
    # Wrist, five fingers of four bones, forearm.
    fingers = [0 if joint == 0 else 4 * finger + joint for finger in range(5) for joint in range(4)]
    parents = [-1, *fingers, 0]
    relatives = affine(rng, BONES)
    absolutes = []
    for bone, parent in enumerate(parents):
        above = absolutes[parent] if parent >= 0 else np.eye(4)
        absolutes.append(above @ relatives[bone])
    weights = rng.uniform(size=(BONES, VERTICES)) * (rng.uniform(size=(BONES, VERTICES)) < 0.15)
    weights[0] += 0.1
    model = Model(
        parents,
        relatives,
        np.linalg.inv(absolutes),
        0.1 * rng.standard_normal((VERTICES, 3)),
        weights / weights.sum(0),
    )
    parameters = rng.standard_normal(26), rng.uniform(size=(POINTS, 2)) / 2
    corners = rng.integers(0, VERTICES, (POINTS, 3))
    return model, parameters, corners, rng.standard_normal((POINTS, 3))


def by_depth(parents):
    """Return the bones level by level: (bones, positions of their parents in the level above)."""
    levels, above = [], [-1]
    while above:
        level = [b for b, parent in enumerate(parents) if parent in above]
        if level:
            levels.append((level, [above.index(parents[b]) for b in level]))
        above = level
    return levels


def vertices_of(xp, model):
    """Return the function from theta to the positions of all vertices, (3, v)."""
    import numpy as np

    levels = by_depth(model.parents)
    order = [bone for level, _ in levels for bone in level]
    # Finger f bends in the last three of its joints, and spreads in the first of these.
    bends, spreads = np.full(BONES, 26), np.full(BONES, 26)
    for finger in range(5):
        bends[4 * finger + 2 : 4 * finger + 5] = np.array([6, 8, 9]) + 4 * finger
        spreads[4 * finger + 2] = 7 + 4 * finger
    bends, spreads = xp.asarray(bends[order]), xp.asarray(spreads[order])
    # Rz Rx of homogeneous coordinates, entry by entry, out of the ten values there are.
    entries = xp.asarray([0, 2, 5, 8, 1, 3, 6, 8, 8, 4, 7, 8, 8, 8, 8, 9])
    zero, one = xp.asarray(np.zeros(BONES)), xp.asarray(np.ones(BONES))
    base = xp.asarray(model.relatives[order])
    back = xp.asarray(model.inverse_absolutes[order])
    ends = np.cumsum([0, *(len(level) for level, _ in levels)])
    parents = [xp.asarray(positions) for _, positions in levels]
    # A vertex is the sum over bones of weight times transform times position: one matrix product.
    homogeneous = np.concatenate([model.vertices.T, np.ones((1, len(model.vertices)))])
    skin = model.weights[order][:, None, :] * homogeneous
    skin = xp.asarray(skin.reshape(4 * BONES, -1))
    cross = np.zeros((9, 3))
    cross[[1, 2, 3, 5, 6, 7], [2, 1, 2, 0, 1, 0]] = [-1, 1, 1, -1, -1, 1]
    cross, identity, none = xp.asarray(cross), xp.asarray(np.eye(3)), xp.asarray(np.zeros(1))

    def vertices(theta):
        angles = xp.concat((theta, none), 0)
        bent, spread = xp.take(angles, bends, 0), xp.take(angles, spreads, 0)
        cx, sx, cz, sz = xp.cos(bent), xp.sin(bent), xp.cos(spread), xp.sin(spread)
        values = (cz, sz, -sz * cx, cz * cx, sx, sz * sx, -cz * sx, cx, zero, one)
        turns = xp.reshape(xp.take(xp.stack(values, 0), entries, 0).T, (BONES, 4, 4))
        relatives = base @ turns
        absolutes = [relatives[:1]]
        for k in range(1, len(levels)):
            own = relatives[int(ends[k]) : int(ends[k + 1])]
            absolutes.append(xp.take(absolutes[-1], parents[k], 0) @ own)
        transforms = (xp.concat(absolutes, 0) @ back)[:, :3, :]
        posed = xp.reshape(transforms.mT, (4 * BONES, 3)).T @ skin
        return rotation(theta[:3]) @ posed + theta[3:6, None]

    def rotation(angles):
        size = xp.sqrt(xp.sum(angles * angles))
        axis = angles / size
        cos, sin = xp.cos(size), xp.sin(size)
        turned = (1.0 - cos) * axis[:, None] * axis + sin * xp.reshape(cross @ axis, (3, 3))
        return xp.where(size < 1e-4, identity, cos * identity + turned)

    return vertices


def residuals_of(xp, kind, model, corners, points):
    """Return the function of theta, or of the coordinates and theta, to 3 residuals per point."""
    vertices = vertices_of(xp, model)
    count = len(points)
    points = xp.asarray(points.T.copy())
    a, b, c = (xp.asarray(corners[:, k]) for k in range(3))

    def simple(theta):
        return xp.reshape((points - xp.take(vertices(theta), a, 1)).T, (-1,))

    def complicated(parameters):
        at = vertices(parameters[2 * count :])
        u, v = xp.reshape(parameters[: 2 * count], (count, 2)).T
        first, second, third = (xp.take(at, corner, 1) for corner in (a, b, c))
        hand = u * first + v * second + (1.0 - u - v) * third
        return xp.reshape((points - hand).T, (-1,))

    return simple if kind == "simple" else complicated


def compressed(count):
    """Return (rows, columns) of the complicated Jacobian's entries, 28 to a row."""
    import numpy as np

    rows = np.repeat(np.arange(3 * count), 28)
    columns = np.empty((count, 3, 28), int)
    columns[:, :, :2] = (2 * np.arange(count)[:, None] + np.arange(2))[:, None, :]
    columns[:, :, 2:] = 2 * count + np.arange(26)
    return rows, columns.reshape(-1)


def directions(count):
    """Return the 28 directions that peers without patterns need: pairs together, then theta."""
    import numpy as np

    seeds = np.zeros((28, 2 * count + 26))
    seeds[0, : 2 * count : 2] = seeds[1, 1 : 2 * count : 2] = 1
    seeds[2:, 2 * count :] = np.eye(26)
    return seeds


def jacobian_of(library, xp, kind, f, count):
    if library == "adjoint":
        import adjoint as ad

        if kind == "simple":
            return ad.jacobian(f)
        entries = ad.jacobian(f, sparsity=compressed(count))
        return lambda x: ad.reshape(entries(x), (3 * count, 28))
    if library == "torch":
        from torch.func import jacfwd, jvp, vmap
    else:
        from jax import jacfwd, jvp, vmap
    if kind == "simple":
        return jacfwd(f)
    seeds = xp.asarray(directions(count))
    return lambda x: vmap(lambda seed: jvp(f, (x,), (seed,))[1])(seeds).T


def by_definition(theta, coordinates, model, corners, points):
    """The residuals bone by bone, with coordinates or without, for a complex theta too."""
    import numpy as np

    absolutes, at = [], 0
    for bone, parent in enumerate(model.parents):
        finger, joint = divmod(bone - 1, 4)
        bend = spread = 0.0
        if 0 <= finger < 5 and joint > 0:
            bend = theta[6 + 4 * finger + (0, 0, 2, 3)[joint]]
            spread = theta[7 + 4 * finger] if joint == 1 else 0.0
        rx, rz = np.eye(4, dtype=theta.dtype), np.eye(4, dtype=theta.dtype)
        rx[1:3, 1:3] = [[np.cos(bend), -np.sin(bend)], [np.sin(bend), np.cos(bend)]]
        rz[:2, :2] = [[np.cos(spread), -np.sin(spread)], [np.sin(spread), np.cos(spread)]]
        above = absolutes[parent] if parent >= 0 else np.eye(4)
        absolutes.append(above @ model.relatives[bone] @ rz @ rx)
        homogeneous = np.concatenate([model.vertices, np.ones((len(model.vertices), 1))], 1)
        posed = homogeneous @ (absolutes[bone] @ model.inverse_absolutes[bone]).T
        at = at + model.weights[bone][:, None] * posed[:, :3]
    size = np.sqrt((theta[:3] ** 2).sum())
    x, y, z = theta[:3] / size
    k = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    at = at @ (np.eye(3) + np.sin(size) * k + (1 - np.cos(size)) * k @ k).T + theta[3:6]
    if coordinates is None:
        return (points - at[corners[:, 0]]).reshape(-1)
    weights = np.stack([*coordinates.T, 1 - coordinates.sum(1)], 1)
    return (points - np.einsum("pk,pki->pi", weights, at[corners])).reshape(-1)


def reference(case, instance=None):
    """The definition, and complex steps; those of the coordinates are known in closed form."""
    import numpy as np

    kind, _, what = case.partition(" ")
    model, (theta, coordinates), corners, points = instance or data()
    hand = model, corners, points
    if kind == "simple":
        coordinates = None
    if what == "objective":
        return by_definition(theta, coordinates, *hand)
    dense = adbench.complex_step(lambda t: by_definition(t, coordinates, *hand), theta)
    if kind == "simple":
        return dense
    # Along the first two edges of the triangle.
    rims = [by_definition(theta, np.tile(e, (len(points), 1)), *hand) for e in ((1, 0), (0, 1))]
    rim = by_definition(theta, np.zeros((len(points), 2)), *hand)
    return np.concatenate([np.stack([r - rim for r in rims], 1), dense], 1)


def function_of(library, case, instance):
    """Return the function of a case and the vector of its parameters."""
    import numpy as np

    kind, _, what = case.partition(" ")
    _, xp = adbench.names(library)
    model, (theta, coordinates), corners, points = instance
    f = residuals_of(xp, kind, model, corners, points)
    if what == "jacobian":
        f = jacobian_of(library, xp, kind, f, len(points))
    x = theta if kind == "simple" else np.concatenate([coordinates.reshape(-1), theta])
    return f, xp.asarray(x)


def factory(library, compiled, case):
    f, x = function_of(library, case, data())
    return adbench.run(library, compiled, f, x)


VARIANTS = adbench.variants(factory)
