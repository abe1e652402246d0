"""Default settings of the methods on the digits.

Each was chosen by the validation split alone, in a search of equal effort for every method:
`benchmarks/search_digits.py`, whose record is `benchmarks/records/search-digits.json`.
"""

BASE: dict[str, float] = {"lr": 0.05, "momentum": 0.9, "weight_decay": 5e-4}
"""The base optimizer of every method; searched with plain SGD."""

DEFAULTS: dict[str, dict[str, float]] = {
    "noise": {"sigma": 0.2},
    "clip": {"alpha": 1.5},
    "sam": {"rho": 0.2},
    "asam": {"rho": 2.0},
    "samson": {"rho": 1.0},
}
"""Settings by method, over the defaults of the classes."""
