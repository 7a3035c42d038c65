"""Random keys of x[...], with what NumPy makes of them.

A `Case` is an array, a key and a second key that differs in the values of its index arrays alone.
Expected values come from NumPy's own indexing of an array of positions; that an assignment lets the
last of equal indices stay is written out here, element by element.
"""

from __future__ import annotations

from typing import Any

import numpy as np

INDEX_DTYPES = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
DTYPES = ("float64",) * 5 + ("float32", "int64", "int8", "uint8", "bool")


class Case:
    def __init__(self, seed: int):
        self.rng = np.random.default_rng(seed)
        self.seed = seed
        self.large = self.chance(0.03)
        self.strict = not self.chance(0.2)  # every index is in range
        if self.large:
            shape = [(9000,), (96, 90)][self.below(2)]
        else:
            shape = tuple(
                int(self.rng.choice([0, 1, 2, 3, 4, 5], p=[0.06, 0.16, 0.2, 0.2, 0.2, 0.18]))
                for _ in range(self.below(5))
            )
        self.dtype = DTYPES[self.below(len(DTYPES))]
        self.array = self.values(shape)
        self.key = self.draw_key(shape)
        self.other = tuple(self.varied(k) for k in self.key)

    def __repr__(self) -> str:
        array = f"{self.array.dtype}{self.array.shape}"
        return f"seed {self.seed}: {array}[{self.key!r}], other key {self.other!r}"

    # ---- drawing

    def below(self, n: int) -> int:
        return int(self.rng.integers(n))

    def chance(self, p: float) -> bool:
        return bool(self.rng.random() < p)

    def values(self, shape: tuple[int, ...], dtype: str | None = None) -> np.ndarray:
        dtype = dtype or self.dtype
        if dtype == "bool":
            return np.asarray(self.rng.random(shape) < 0.5)
        if dtype.startswith("float"):
            return np.asarray(self.rng.normal(size=shape), dtype)
        return np.asarray(self.rng.integers(0, 100, size=shape), dtype)

    def draw_key(self, shape: tuple[int, ...]) -> tuple[Any, ...]:
        key: list[Any] = []
        axis = 0
        broadcast = self.draw_index_shape()
        ellipsis = False
        while axis < len(shape) and not self.chance(0.08):
            kind = self.rng.choice(
                ["int", "slice", "new", "ellipsis", "array", "mask", "bool"],
                p=[0.16, 0.2, 0.07, 0.07, 0.36, 0.1, 0.04],
            )
            if kind == "ellipsis" and not ellipsis:
                ellipsis = True
                key.append(Ellipsis)
                axis += self.below(len(shape) - axis + 1)
            elif kind == "new":
                key.append(None)
            elif kind == "bool":
                key.append(
                    [True, False, np.bool_(True), np.bool_(False), np.array(True)][self.below(5)]
                )
            elif kind == "mask":
                ndim = 1 + self.below(min(2, len(shape) - axis))
                key.append(self.draw_mask(shape[axis : axis + ndim]))
                axis += ndim
            elif kind == "slice":
                key.append(self.draw_slice(shape[axis]))
                axis += 1
            elif kind == "int":
                key.append(self.draw_int(shape[axis]))
                axis += 1
            elif kind == "array":
                key.append(self.draw_array(shape[axis], broadcast))
                axis += 1
        if self.chance(0.02):
            key.append([0, Ellipsis, None][self.below(3)])
        return tuple(key)

    def draw_index_shape(self) -> tuple[int, ...]:
        if self.large:
            return (9000,)
        return tuple(
            int(n)
            for n in self.rng.choice([0, 1, 2, 3], p=[0.05, 0.25, 0.35, 0.35], size=self.below(4))
        )

    def within(self, n: int, size: tuple[int, ...] | None = None) -> np.ndarray:
        """Indices into n entries: in range where that is possible and wanted."""
        low, high = (-n, n) if n else (-1, 1)
        if not self.strict and self.chance(0.3):
            low, high = low - 1, high + 1
        return self.rng.integers(low, high, size=size)

    def draw_int(self, n: int) -> Any:
        i = int(self.within(n))
        return [i, np.int64(i), np.int8(i) if abs(i) < 128 else i, np.array(i)][self.below(4)]

    def draw_slice(self, n: int) -> slice:
        def bound() -> int | None:
            return None if self.chance(0.4) else int(self.rng.integers(-n - 2, n + 3))

        step = [None, 1, 2, 3, -1, -2, 2**62, -(2**63)][self.below(8)]
        return slice(bound(), bound(), step)

    def draw_mask(self, shape: tuple[int, ...]) -> Any:
        if not self.strict and self.chance(0.2):
            shape = (shape[0] + 1, *shape[1:])
        mask = self.rng.random(shape) < self.rng.choice([0.0, 0.5, 1.0], p=[0.1, 0.8, 0.1])
        return mask.tolist() if mask.size and self.chance(0.3) else mask

    def draw_array(self, n: int, broadcast: tuple[int, ...]) -> Any:
        shape = broadcast[self.below(len(broadcast) + 1) if self.chance(0.3) else 0 :]
        shape = tuple(1 if self.chance(0.1) else e for e in shape)
        if not self.strict and self.chance(0.05):
            shape = (*shape, 4)
        i = self.within(n, shape)
        dtype = INDEX_DTYPES[self.below(len(INDEX_DTYPES))]
        if dtype.startswith("u"):
            i = np.where(i < 0, i + n, i)
            i = np.where(i < 0, n, i)
        if np.any(i > np.iinfo(dtype).max) or np.any(i < np.iinfo(dtype).min):
            dtype = "int64"
        i = i.astype(dtype)
        if i.ndim and i.size and not self.large and self.chance(0.2):
            return i.tolist()
        if i.ndim > 1 and self.chance(0.2):
            return np.asfortranarray(i)
        return i[::-1] if i.ndim and self.chance(0.2) else i

    def varied(self, k: Any) -> Any:
        """Other values of an index array: rolled ones."""
        return np.roll(k, 1) if is_index_array(k) and k.ndim else k

    # ---- what NumPy says

    def positions(self, key: tuple[Any, ...]) -> np.ndarray | type[Exception]:
        """Where the entries of x[key] stand in x, or the error."""
        if not masks_fit(key, self.array.shape):
            return IndexError  # NumPy lets it pass when the result is empty
        try:
            return np.arange(self.array.size).reshape(self.array.shape)[key]
        except IndexError:
            return IndexError

    def draw_value(self, shape: tuple[int, ...]) -> np.ndarray:
        """Something that broadcasts to the shape; seldom something that does not."""
        own = list(shape)
        for k in range(len(own)):
            if self.chance(0.15):
                own[k] = 1
        if self.chance(0.4):
            own = own[self.below(len(own) + 1) :]
        if not self.strict and self.chance(0.1):
            own = [*own, 7]
        if self.chance(0.05):
            own = [1, *own]
        return self.values(tuple(own))


def masks_fit(key: tuple[Any, ...], shape: tuple[int, ...]) -> bool:
    """Whether every mask has the lengths of the axes that it stands for."""
    items = [np.asarray(k) if isinstance(k, (list, bool, np.bool_)) else k for k in key]
    masks = [isinstance(k, np.ndarray) and k.dtype == bool for k in items]
    axes = [
        k.ndim if m else 0 if k is None or k is Ellipsis else 1
        for k, m in zip(items, masks, strict=True)
    ]
    axis = 0
    for k, m, n in zip(items, masks, axes, strict=True):
        if m and shape[axis : axis + n] != k.shape:
            return False
        axis += len(shape) - sum(axes) if k is Ellipsis else n
    return True


def is_index_array(k: Any) -> bool:
    return isinstance(k, np.ndarray) and k.dtype.kind in "iu"


def put(a: np.ndarray, positions: np.ndarray, value: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The array with the value in its places, and which entry of the value each element shows."""
    while value.ndim > positions.ndim and value.shape[0] == 1:
        value = value[0]
    entries = np.broadcast_to(value, positions.shape).reshape(-1)
    sources = np.broadcast_to(np.arange(value.size).reshape(value.shape), positions.shape)
    out, shown = a.reshape(-1).copy(), np.full(a.size, -1)
    for p, e, s in zip(positions.reshape(-1), entries, sources.reshape(-1), strict=True):
        out[p], shown[p] = e, s
    return out.reshape(a.shape), shown


def fits(value: np.ndarray, shape: tuple[int, ...]) -> bool:
    while value.ndim > len(shape) and value.shape[0] == 1:
        value = value[0]
    try:
        return np.broadcast_shapes(value.shape, shape) == shape
    except ValueError:
        return False
