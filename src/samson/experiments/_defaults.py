"""Settings over the defaults of the classes: of base optimizers, and of methods on data for which they were tuned."""

BASES: dict[str, dict[str, float]] = {
    "SGD": {"lr": 0.1, "momentum": 0.9, "weight_decay": 5e-4},
    "AdamW": {"lr": 1e-3, "weight_decay": 0.01},
}
"""The base optimizers' settings, not searched. SGD's are the set-up that SAMSON's first author published for later work
(Mordido et al. 2024, arXiv 2307.16704), here with Nesterov momentum; AdamW's are those of the class."""

TUNED_FOR = "small-resnet"
"""The network with which `TUNED` was found."""

TUNED: dict[str, dict[str, dict[str, float | str]]] = {
    "digits": {
        "noise": {"sigma": 0.25},
        "rwp": {"sigma": 0.8, "mix": 0.5},
        "clip": {"alpha": 1.2},
        "sam": {"rho": 0.7},
        "asam": {"rho": 3.0},
        "samson": {"rho": 1.5},
        "rangesam": {"rho": 2.0},
        "channel-clip": {"alpha": 1.6},
        "fixed-clip": {"w_max": 0.02},
        "learned-range": {"penalty": 3.0, "start": 2.0},
        "noise+clip": {"sigma": 0.05, "alpha": 1.2},
        "sam+clip": {"rho": 0.2, "alpha": 1.2},
        "asam+clip": {"rho": 2.0, "alpha": 1.5},
        "samson+clip": {"rho": 0.3, "alpha": 1.2},
        "rwp+clip": {"sigma": 0.2, "alpha": 1.2},
        "rangesam+clip": {"rho": 2.0, "alpha": 1.5},
        "rangesam+channel-clip": {"rho": 2.0, "alpha": 2.0},
        "rangesam+learned-range": {"rho": 2.0, "penalty": 1.0},
        "samson+hwa": {"rho": 0.3, "alpha": 1.5},
        "rangesam+hwa": {"rho": 1.0, "alpha": 1.5},
    },
}
"""By data set, then by method; for the network `TUNED_FOR`, others have the classes' defaults. Those of the digits were
chosen by the validation split alone, in a search of equal effort for every method: `benchmarks/search_digits.py`, whose
record is `benchmarks/records/search-digits.json`."""
