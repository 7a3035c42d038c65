"""The workloads, one module each; `contract.py` says what a module states."""
