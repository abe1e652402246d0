"""The checks are run by torchrun, not collected; only the tests that read their results are."""

collect_ignore_glob = ["*_checks.py"]
