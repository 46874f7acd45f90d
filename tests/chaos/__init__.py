"""A real station under random faults: `python -m tests.chaos --triggers 300 --seed 1`."""
