"""What makes functions of functions, written on the core: Jacobians, rules by hand, control flow.

Use it through the package: `adjoint.jacobian`, `adjoint.custom_vjp`, `adjoint.scan` and so on.
"""
