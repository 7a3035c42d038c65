"""Programs to read and run: ``python -m adjoint.examples.first_steps``, ``...digits``."""

__all__ = ["digits", "first_steps"]

TYPE_CHECKING = False  # as in typing, which takes a while to import
if TYPE_CHECKING:
    from adjoint.examples import digits as digits
    from adjoint.examples import first_steps as first_steps
else:

    def __getattr__(name):
        if name in __all__:
            from importlib import import_module

            return import_module(f"adjoint.examples.{name}")
        raise AttributeError(f"module 'adjoint.examples' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
