"""Which columns of a sparse matrix of derivatives can be found together, and where its entries are.

A directional derivative along the sum of several unit vectors is the sum of these columns. If no
two of them have an entry in the same row, each entry can be read off. Finding few such groups is
colouring a graph; here greedily, with the sets of colours as the bits of integers, so that the
cost is in the number of entries.

.. [1] A. R. Curtis, M. J. D. Powell, J. K. Reid, "On the estimation of sparse Jacobian matrices",
   IMA J. Appl. Math. 13 (1974) 117-119.
.. [2] T. F. Coleman, J. J. Moré, "Estimation of sparse Jacobian matrices and graph coloring
   problems", SIAM J. Numer. Anal. 20 (1983) 187-209.
.. [3] T. F. Coleman, J. J. Moré, "Estimation of sparse Hessian matrices and graph coloring
   problems", Math. Program. 28 (1984) 243-270.
.. [4] A. H. Gebremedhin, F. Manne, A. Pothen, "What color is your Jacobian? Graph coloring for
   computing derivatives", SIAM Rev. 47 (2005) 629-705.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

import adjoint as ad

__all__ = [
    "Colouring",
    "Pattern",
    "colour_columns",
    "colour_either",
    "colour_symmetric",
    "constant",
]

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Colouring:
    """The colour of each column of a pattern, or -1 where a column has no entries."""

    rows: Indices
    cols: Indices
    colours: Indices
    symmetric: bool = False

    @property
    def count(self) -> int:
        return int(self.colours.max(initial=-1)) + 1

    def seeds(self, size: int) -> npt.NDArray[np.float64]:
        """Return the directions, one row per colour: the sums of its unit vectors."""
        rows = np.zeros((max(self.count, 1), size))
        (columns,) = np.nonzero(self.colours[:size] >= 0)
        rows[self.colours[columns], columns] = 1.0
        return rows

    def places(self, size: int) -> Indices:
        """Return where the entries are in the flattened derivatives, of `size` elements each."""
        direct = self.colours[self.cols] * size + self.rows
        if not self.symmetric:
            return direct
        # An entry whose row has another column of its colour is found as its mirror image.
        ends = np.concatenate([self.rows, self.cols]), np.concatenate([self.cols, self.rows])
        every = _different(ends[0] * size + ends[1])
        crowd = np.sort(self.colours[every % size] * size + every // size)
        alone = np.searchsorted(crowd, direct, "right") - np.searchsorted(crowd, direct) == 1
        return np.where(alone, direct, self.colours[self.rows] * size + self.cols)


@dataclass(frozen=True)
class Pattern:
    """The places of the entries asked for, and the form in which they were given.

    Parameters
    ----------
    name : str
        The function whose errors these are.
    rows, cols : ndarray of int
        One entry per place.
    shape : tuple of int, or None
        What the matrix must be like; None if only the places were given.
    sparse : object, or None
        The sparse matrix of SciPy that was given, in coordinates, and its own format.
    """

    name: str
    rows: Indices
    cols: Indices
    shape: tuple[int, int] | None
    sparse: Any = None
    format: str = ""

    @classmethod
    def read(cls, name: str, given: Any) -> Pattern:
        """Understand a dense array of bools, a pair of index arrays or a SciPy sparse matrix."""
        if hasattr(given, "tocoo"):
            found = given.tocoo(copy=True)
            found.sum_duplicates()
            return cls(name, *_indices(found.row, found.col), found.shape, found, given.format)
        if isinstance(given, (tuple, list)) and len(given) == 2:
            rows, cols = (np.asarray(part) for part in given)
            if all(part.dtype.kind in "iu" or part.size == 0 for part in (rows, cols)):
                return cls._of_places(name, rows, cols)
        dense = np.asarray(given)
        if dense.ndim != 2 or dense.dtype != np.bool_:
            raise ValueError(
                f"[{name}] sparsity is a 2-D array of bools, a pair (rows, cols) of integer arrays "
                f"or a SciPy sparse matrix, not an array of shape {dense.shape} and dtype "
                f"{dense.dtype}"
            )
        return cls(name, *_indices(*np.nonzero(dense)), dense.shape)

    @classmethod
    def _of_places(cls, name: str, rows: Any, cols: Any) -> Pattern:
        if rows.ndim != 1 or rows.shape != cols.shape:
            raise ValueError(
                f"[{name}] sparsity: rows and cols are two 1-D arrays of one length, not of shapes "
                f"{rows.shape} and {cols.shape}"
            )
        if rows.size and min(rows.min(), cols.min()) < 0:
            raise ValueError(f"[{name}] sparsity: an index is negative")
        return cls(name, *_indices(rows, cols), None)

    def check(self, outputs: int, inputs: int) -> None:
        """Raise if a matrix of `outputs` rows and `inputs` columns does not fit."""
        if self.shape is None:
            row, col = int(self.rows.max(initial=-1)), int(self.cols.max(initial=-1))
            if row < outputs and col < inputs:
                return
            found = f"has indices up to ({row}, {col})"
        elif self.shape == (outputs, inputs):
            return
        else:
            found = f"has shape {self.shape}"
        raise ValueError(
            f"[{self.name}] sparsity {found}, the matrix of derivatives has shape "
            f"{(outputs, inputs)}: outputs times inputs, both flattened"
        )

    def shaped(self, values: ad.Tensor, shape: tuple[int, ...]) -> Any:
        """Return the entries in the form of the pattern; `shape` is that of a dense result."""
        if self.sparse is not None:
            entries = (np.asarray(values), (self.rows, self.cols))
            return type(self.sparse)(entries, shape=self.shape).asformat(self.format)
        if self.shape is None:
            return values
        full = ad.zeros(self.shape, dtype=values.dtype)
        full[constant(self.rows), constant(self.cols)] = values
        return ad.reshape(full, shape)


def _indices(rows: Any, cols: Any) -> tuple[Indices, Indices]:
    return np.asarray(rows, np.int64), np.asarray(cols, np.int64)


def constant(array: npt.NDArray[Any]) -> ad.Tensor:
    """Return an array that nobody writes to as a tensor, without a copy."""
    return ad.asarray(array, copy=False)


def _different(values: Indices) -> Indices:
    """Return the different values, none negative, in ascending order."""
    values = np.sort(values)
    return values[np.diff(values, prepend=-1) > 0]


def _lists(keys: Indices, values: Indices, size: int) -> list[list[int]]:
    """Return, for each key below `size`, its different values in ascending order."""
    stride = int(values.max(initial=0)) + 1
    pairs = _different(keys * stride + values)
    ends = np.cumsum(np.bincount(pairs // stride, minlength=size)).tolist()
    flat = (pairs % stride).tolist()
    return [flat[start:end] for start, end in zip([0, *ends], ends, strict=False)]


def _lowest(taken: int) -> int:
    """Return the lowest colour that is not taken, as a bit."""
    return ~taken & (taken + 1)


def colour_columns(rows: Indices, cols: Indices) -> Colouring:
    """Colour columns so that none with an entry in the same row have the same colour.

    Columns that meet many others come first [2]_. Rows know which colours they have seen, so that
    no two columns are compared and a full row costs no more than its entries.

    Examples
    --------
    >>> import numpy as np
    >>> from adjoint.transforms.coloring import colour_columns
    >>> bidiagonal = np.eye(5) + np.eye(5, k=1)
    >>> colour_columns(*np.nonzero(bidiagonal)).count
    2
    """
    size = int(cols.max(initial=-1)) + 1
    members = _lists(cols, rows, size)
    meets = np.bincount(rows)[rows]
    order = np.argsort(-np.bincount(cols, weights=meets, minlength=size), kind="stable")
    seen = [0] * (int(rows.max(initial=-1)) + 1)
    colours = np.full(size, -1)
    for column in order.tolist():
        taken = 0
        for row in members[column]:
            taken |= seen[row]
        colour = _lowest(taken)
        for row in members[column]:
            seen[row] |= colour
        if members[column]:
            colours[column] = colour.bit_length() - 1
    return Colouring(rows, cols, colours)


def colour_either(rows: Indices, cols: Indices) -> tuple[Colouring, bool]:
    """Return the colouring of columns or of rows that has fewer, and whether it is of columns."""
    columns = colour_columns(rows, cols)
    # The entries of one column need as many colours of rows.
    if columns.count <= np.bincount(cols, minlength=1).max():
        return columns, True
    of_rows = colour_columns(cols, rows)
    return (columns, True) if columns.count <= of_rows.count else (of_rows, False)


class _Stars:
    """A growing colouring of a graph in which no path of four vertices has two colours only.

    Two colours then make up stars: a centre, and the leaves around it.
    """

    def __init__(self, neighbours: list[list[int]]) -> None:
        self.neighbours = neighbours
        self.colour = [0] * len(neighbours)  # a bit; 0 while there is none
        self.near = [0] * len(neighbours)  # the colours of the neighbours
        self.twice = [0] * len(neighbours)  # those that two or more neighbours have
        self.centres = [0] * len(neighbours)  # the colours of the centres of which it is a leaf
        self.first: dict[tuple[int, int], int] = {}  # (vertex, colour) -> its neighbour of it

    def add(self, vertex: int) -> None:
        taken = self.near[vertex]
        for w in self.neighbours[vertex]:
            if self.colour[w]:  # vertex, the leaf w, its centre, another leaf
                taken |= self.centres[w]
            if self.colour[w] & self.twice[vertex]:  # one of the same colour, vertex, w, any
                taken |= self.near[w]
        colour = self.colour[vertex] = _lowest(taken)
        for w in self.neighbours[vertex]:
            if self.colour[w] & self.twice[vertex]:
                self.centres[w] |= colour
            if not self.near[w] & colour:
                self.near[w] |= colour
                self.first[w, colour] = vertex
                continue
            self.twice[w] |= colour
            self.centres[vertex] |= self.colour[w]
            self.centres[self.first[w, colour]] |= self.colour[w]


def colour_symmetric(rows: Indices, cols: Indices) -> Colouring:
    """Colour the columns of a symmetric matrix so that each entry can be read off in one place.

    An entry (i, j) and its mirror image are found if column j is alone of its colour in row i, or
    column i in row j: a star colouring [3]_, [4]_. An arrow, which needs a colour per column where
    symmetry is not used, needs two.

    Examples
    --------
    >>> import numpy as np
    >>> from adjoint.transforms.coloring import colour_symmetric
    >>> arrow = np.eye(6)
    >>> arrow[0] = arrow[:, 0] = 1
    >>> colour_symmetric(*np.nonzero(arrow)).count
    2
    """
    size = int(max(rows.max(initial=-1), cols.max(initial=-1))) + 1
    off = rows != cols
    ends = np.concatenate([rows[off], cols[off]]), np.concatenate([cols[off], rows[off]])
    stars = _Stars(_lists(*ends, size))
    order = np.argsort([-len(n) for n in stars.neighbours], kind="stable")
    for vertex in order.tolist():
        stars.add(vertex)
    colours = np.array([c.bit_length() - 1 for c in stars.colour], np.int64)
    empty = np.bincount(np.concatenate([rows, cols]), minlength=size) == 0
    colours[empty] = -1
    return Colouring(rows, cols, colours, symmetric=True)
