"""100 layers of tanh(x @ w), in blocks of 10 kept or computed again; not itself measured."""

LAYERS = 100
BLOCK = 10
ROWS, WIDTH = 4096, 256


def data():
    import numpy as np

    rng = np.random.default_rng(11)
    weights = rng.standard_normal((LAYERS, WIDTH, WIDTH)) / np.sqrt(WIDTH)
    return rng.standard_normal((ROWS, WIDTH)).astype("float32"), weights.astype("float32")


def reference(case):
    """By back-propagation written out."""
    import numpy as np

    x, weights = (a.astype(np.float64) for a in data())
    values = [x]
    for w in weights:
        values.append(np.tanh(values[-1] @ w))
    cotangent = np.ones_like(x)
    found = []
    for w, before, after in zip(weights[::-1], values[-2::-1], values[:0:-1], strict=True):
        cotangent = cotangent * (1 - after**2)
        found.insert(0, before.T @ cotangent)
        cotangent = cotangent @ w.T
    return found


def block_of(tanh):
    def block(x, weights):
        for w in weights:
            x = tanh(x @ w)
        return x

    return block


def adjoint(way):
    """The input and the function that gives the gradients of the weights."""
    import adjoint as ad

    x, weights = data()
    x, weights = ad.asarray(x), [ad.asarray(w) for w in weights]
    block = block_of(ad.tanh)
    if way != "kept":
        block = ad.checkpoint(block)

    def loss(weights):
        y = x
        for i in range(0, LAYERS, BLOCK):
            y = block(y, weights[i : i + BLOCK])
        return ad.sum(y)

    gradient = ad.grad(loss)

    def run():
        found = gradient(weights)
        ad.eval(found)
        return found

    return x, run


def torch(way):
    import torch
    from torch.utils.checkpoint import checkpoint

    x, weights = data()
    x = torch.from_numpy(x)
    weights = [torch.from_numpy(w).requires_grad_() for w in weights]
    block = block_of(torch.tanh)

    def run():
        y = x
        for i in range(0, LAYERS, BLOCK):
            part = weights[i : i + BLOCK]
            y = block(y, part) if way == "kept" else checkpoint(block, y, part, use_reentrant=False)
        return torch.autograd.grad(y.sum(), weights)

    return run
