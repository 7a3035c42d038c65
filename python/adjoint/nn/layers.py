"""Layers: a linear map, the activations that need no settings, and their composition."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import adjoint as ad
from adjoint._arguments import check_count, check_flag
from adjoint.nn._walk import is_module
from adjoint.nn.module import Module

__all__ = ["Linear", "ReLU", "Sequential", "Tanh"]


class Linear(Module):
    r"""The affine map :math:`x W^\top + b` over the last axis.

    Parameters
    ----------
    in_features, out_features : int
        Both at least 1.
    bias : bool, default True
    dtype : DType, default float32
        Of the parameters and of what the layer accepts.
    generator : Generator, optional
        Source of the initial values; the default stream of `ad.random` if left out.

    Attributes
    ----------
    weight : Tensor of shape (out_features, in_features)
    bias : Tensor of shape (out_features,), or None

    Notes
    -----
    Both start uniform in :math:`\pm 1/\sqrt{\text{in\_features}}`, as PyTorch's layer does; for
    the weight this is the uniform rule of He et al. [1]_ for a leaky slope of :math:`\sqrt 5`.

    References
    ----------
    .. [1] K. He, X. Zhang, S. Ren and J. Sun, "Delving deep into rectifiers: surpassing human-level
       performance on ImageNet classification", ICCV, 2015.

    Examples
    --------
    >>> import adjoint as ad
    >>> layer = ad.nn.Linear(3, 2, generator=ad.random.Generator(0))
    >>> layer(ad.zeros((5, 3), dtype=ad.float32)).shape
    (5, 2)
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        dtype: ad.DType | None = None,
        generator: ad.random.Generator | None = None,
    ) -> None:
        in_features = check_count("Linear", "in_features", in_features, least=1)
        out_features = check_count("Linear", "out_features", out_features, least=1)
        bias = check_flag("Linear", "bias", bias)
        dtype = ad.float32 if dtype is None else ad.DType(dtype)
        if not ad.isdtype(dtype, "real floating"):
            raise TypeError(f"[Linear] dtype must be a real floating type, got {dtype}")
        if generator is None:
            generator = ad.random._default
        if not isinstance(generator, ad.random.Generator):
            raise TypeError(
                "[Linear] generator must be an ad.random.Generator, not a "
                f"{type(generator).__name__}"
            )
        bound = 1.0 / math.sqrt(in_features)

        def initial(shape: tuple[int, ...], name: str) -> ad.Tensor:
            values = generator.uniform(shape, -bound, bound, dtype=dtype)
            return ad.tensor(values, requires_grad=True, name=name)

        self.in_features = in_features
        self.out_features = out_features
        self.weight = initial((out_features, in_features), "weight")
        self.bias = initial((out_features,), "bias") if bias else None

    def forward(self, x: ad.Tensor) -> ad.Tensor:
        """Map the last axis of `x`, of length ``in_features``; earlier axes are batches."""
        x = ad.asarray(x)
        if x.dtype != self.weight.dtype:
            raise TypeError(
                f"[Linear] input of dtype {x.dtype} for parameters of dtype {self.weight.dtype}: "
                f"convert the input by ad.astype(x, {_public_name(self.weight.dtype)}), or build "
                f"the layer with dtype={_public_name(x.dtype)}"
            )
        if x.ndim == 0 or x.shape[-1] != self.in_features:
            raise ValueError(
                f"[Linear] input of shape {x.shape}: the last axis must have "
                f"in_features={self.in_features} entries"
            )
        out = ad.matmul(x, self.weight.T)
        return out if self.bias is None else out + self.bias

    def extra_repr(self) -> str:
        """Return the sizes, as `repr` shows them."""
        return f"{self.in_features}, {self.out_features}, bias={self.bias is not None}"


class ReLU(Module):
    """Keep what is positive, else 0; the derivative at 0 is 0.

    Examples
    --------
    >>> import adjoint as ad
    >>> ad.nn.ReLU()(ad.tensor([-1.0, 2.0])).numpy().tolist()
    [0.0, 2.0]
    """

    def forward(self, x: ad.Tensor) -> ad.Tensor:
        """Return `x` where it is positive, and 0 elsewhere; of the same shape."""
        return ad.relu(x)


class Tanh(Module):
    """The hyperbolic tangent, entry by entry.

    Examples
    --------
    >>> import adjoint as ad
    >>> ad.nn.Tanh()(ad.tensor([0.0])).numpy().tolist()
    [0.0]
    """

    def forward(self, x: ad.Tensor) -> ad.Tensor:
        """Return the hyperbolic tangent of each element."""
        return ad.tanh(x)


class Sequential(Module):
    """Modules applied one after the other.

    Parameters
    ----------
    *layers : Module

    Examples
    --------
    >>> import adjoint as ad
    >>> g = ad.random.Generator(0)
    >>> Linear, ReLU = ad.nn.Linear, ad.nn.ReLU
    >>> model = ad.nn.Sequential(Linear(4, 8, generator=g), ReLU(), Linear(8, 1, generator=g))
    >>> list(model.state_dict())
    ['0.weight', '0.bias', '2.weight', '2.bias']
    """

    def __init__(self, *layers: Module) -> None:
        for i, layer in enumerate(layers):
            if not isinstance(layer, Module):
                raise TypeError(
                    f"[Sequential] layer {i} is a {type(layer).__name__}, not a Module: for a "
                    "function, write a Module whose forward calls it"
                )
            setattr(self, str(i), layer)

    def forward(self, x: Any) -> Any:
        """Return what the last layer makes of what the ones before it make of `x`."""
        for layer in self:
            x = layer(x)
        return x

    def __iter__(self) -> Iterator[Module]:
        return filter(is_module, vars(self).values())

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __getitem__(self, index: int) -> Module:
        return list(self)[index]


def _public_name(dtype: ad.DType) -> str:
    return f"ad.{str(dtype).rpartition('.')[2]}"
