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
        Classes from 0 to C-1. A label outside makes the loss nan rather than quietly wrong: values
        are not looked at, so that the loss compiles.

    Returns
    -------
    Tensor of shape ()

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
            " ad.astype(labels, ad.int64), or ad.argmax for one-hot rows"
        )
    classes = logits.shape[1]
    labels = ad.astype(labels, ad.int64)  # a class count need not fit in the labels' own dtype
    # The shift cancels in value and in gradient; only without it does exp overflow.
    shifted = logits - ad.stop_gradient(ad.max(logits, axis=1, keepdims=True))
    log_norm = ad.log(ad.sum(ad.exp(shifted), axis=1))
    column = ad.reshape(labels, (-1, 1))
    is_label = column == ad.arange(classes, dtype=ad.int64)
    picked = ad.sum(ad.where(is_label, shifted, 0.0), axis=1)
    known = (labels >= 0) & (labels < classes)
    return ad.mean(ad.where(known, log_norm - picked, float("nan")))


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
