"""Give an environment what a wheel needs, as links into the environment that runs this: torch is not unpacked again.

    .venv/bin/python -I tests/linked.py WHEEL ENVIRONMENT [EXTRA]

What the wheel does not ask for is not there, and pip then says whether all that it asks for is.
"""

import sys
import sysconfig
from importlib.metadata import Distribution, distribution, distributions
from pathlib import Path

from packaging.requirements import Requirement


def needed(asking: Distribution, extras: set[str], found: dict[str, Distribution]) -> dict[str, Distribution]:
    """Add what a distribution asks for, and what that asks for."""
    for requirement in map(Requirement, asking.requires or ()):
        marker, name = requirement.marker, requirement.name
        asked = marker is None or any(marker.evaluate({"extra": extra}) for extra in extras | {""})
        if asked and (name not in found or requirement.extras):
            found[name] = distribution(name)
            needed(found[name], requirement.extras, found)
    return found


def main(wheel: str, environment: str, *extras: str) -> None:
    """Link what the wheel asks for, alone or with extras."""
    here, there = (Path(sysconfig.get_path("purelib", vars={"base": base})) for base in (sys.prefix, environment))
    [asking] = distributions(path=[wheel])
    for one in needed(asking, set(extras), {}).values():
        for top in {file.parts[0] for file in one.files or ()} - {"..", "__pycache__"}:
            if not (there / top).exists():
                (there / top).symlink_to(here / top)


if __name__ == "__main__":
    main(*sys.argv[1:])
