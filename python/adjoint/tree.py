"""Functions on pytrees: nested tuples, lists, dicts, named tuples, None and registered classes.

>>> import adjoint as ad
>>> ad.tree.map(lambda x: 2 * x, {"a": 1.0, "b": [2.0, 3.0]})
{'a': 2.0, 'b': [4.0, 6.0]}
"""

from adjoint._core import TreeDef
from adjoint._core import tree as _tree

__all__ = ["TreeDef", "flatten", "leaves", "map", "register", "structure", "unflatten"]

flatten = _tree.flatten
leaves = _tree.leaves
map = _tree.map
register = _tree.register
structure = _tree.structure
unflatten = _tree.unflatten

TYPE_CHECKING = False  # as in typing, which takes a while to import

if not TYPE_CHECKING:  # see that of `adjoint`

    def __getattr__(name):
        from adjoint._words import unknown

        raise unknown("tree", name)


def __dir__() -> list[str]:
    return sorted(__all__)
