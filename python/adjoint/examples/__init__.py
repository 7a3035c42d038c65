"""Programs to read and run: ``python -m adjoint.examples.first_steps``, ``...digits``."""
