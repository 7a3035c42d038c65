"""Losses, written in public operations only: what fuses here fuses in a user's own loss."""

from __future__ import annotations

import adjoint as ad

__all__ = ["cross_entropy", "mse_loss"]


def cross_entropy(logits: ad.Tensor, labels: ad.Tensor) -> ad.Tensor:
    """Mean negative log-likelihood of the right class under the softmax of the logits.

    Parameters
    ----------
    logits : Tensor of shape (N, C), floating
    labels : Tensor of shape (N,), integer
        Classes from 0 to C-1.

    Returns
    -------
    Tensor of shape ()

    Raises
    ------
    IndexError
        If a label is none of the classes; in a compiled function when it runs.

    Examples
    --------
    >>> import adjoint as ad
    >>> loss = ad.nn.cross_entropy(ad.zeros((2, 10)), ad.asarray([3, 7]))
    >>> round(loss.item(), 6)  # log 10
    2.302585
    """
    logits, labels = ad.asarray(logits), ad.asarray(labels)
    if logits.ndim != 2 or labels.ndim != 1 or logits.shape[0] != labels.shape[0]:
        raise ValueError(
            "[cross_entropy] needs logits of shape (N, C) and labels of shape (N,), got shapes "
            f"{logits.shape} and {labels.shape}"
        )
    if not ad.isdtype(logits.dtype, "real floating"):
        raise TypeError(f"[cross_entropy] logits must be floating, got {logits.dtype}")
    if not ad.isdtype(labels.dtype, "integral"):
        raise TypeError(
            f"[cross_entropy] labels must be integer class indices, got {labels.dtype}: use "
            "ad.astype(labels, ad.int64), or ad.argmax for one-hot rows"
        )
    rows, classes = logits.shape
    labels = ad.astype(labels, ad.int64)  # a class count need not fit in the labels' own dtype
    # The shift cancels in value and in gradient; only without it does exp overflow.
    shift = ad.stop_gradient(ad.max(logits, axis=1, keepdims=True))
    log_norm = ad.log(ad.sum(ad.exp(logits - shift), axis=1))
    known = (labels >= 0) & (labels < classes)
    # What is no class is sent to the end of the logits, which `take` refuses in every mode.
    places = ad.where(known, ad.arange(rows) * classes + labels, rows * classes)
    try:
        picked = ad.take(ad.reshape(logits, (-1,)), places)
    except IndexError:
        raise IndexError(
            f"[cross_entropy] a label is none of the {classes} classes: logits of shape "
            f"{logits.shape} take labels from 0 to {classes - 1}"
        ) from None
    return ad.mean(log_norm - (picked - ad.squeeze(shift, axis=1)))


def mse_loss(pred: ad.Tensor, target: ad.Tensor) -> ad.Tensor:
    """Mean of the squared differences over all entries.

    Parameters
    ----------
    pred, target : Tensor
        Of equal shape; shapes that would only broadcast are refused, as the result would be a mean
        over pairs nobody asked for.

    Returns
    -------
    Tensor of shape ()

    Raises
    ------
    ValueError
        If the shapes differ: nothing is broadcast.

    Examples
    --------
    >>> import adjoint as ad
    >>> ad.nn.mse_loss(ad.tensor([1.0, 2.0]), ad.tensor([0.0, 4.0])).item()
    2.5
    """
    pred, target = ad.asarray(pred), ad.asarray(target)
    if pred.shape != target.shape:
        raise ValueError(
            f"[mse_loss] prediction of shape {pred.shape} and target of shape {target.shape} must "
            "be equal: reshape one of them"
        )
    difference = pred - target
    return ad.mean(difference * difference)


def __dir__() -> list[str]:
    return sorted(__all__)
