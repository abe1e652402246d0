"""From what a user writes for the data to the splits."""

from __future__ import annotations

from pathlib import Path

from samson._errors import SetupError, choose, require
from samson._factories import call_factory
from samson.experiments.data._catalogue import DATA
from samson.experiments.data._dividing import SPLIT_SEED
from samson.experiments.data._files import read_arrays
from samson.experiments.data._found import checked, splits_from
from samson.experiments.data._hubs import from_hub, from_torchvision
from samson.experiments.data._pictures import folder_splits
from samson.experiments.data._splits import SPLITS, Splits
from samson.experiments.data._text import read_text, text_splits

FORMS = ("FILE.npz", "FILE.txt", "FOLDER", "torchvision/NAME", "hf/NAME", "MODULE:FUNCTION")


def load_splits(spec: str, root: Path, seed_of_split: int = SPLIT_SEED) -> Splits:
    """A data set as a user asks for it.

    Args:
        spec: A name in `DATA`; `FILE.npz` with the arrays `x_train`, `y_train`, `x_test`, `y_test` and possibly
            `x_validation`, `y_validation` (or `x_val`, `y_val`); `FILE.txt`, by characters; a folder of pictures in
            ImageNet's layout; `torchvision/NAME`; `hf/NAME`; or `MODULE:FUNCTION`, which returns what `splits_from`
            takes. Files and folders are looked for from here, and then in `root`.
        root: The folder where the files of sets by name are looked for.
        seed_of_split: Seed of the validation split where the data come without one; sets by name keep their own.

    Raises:
        SetupError: If there are no such data, or they break a rule of `Splits`.
        ImportError: If a package is missing, with the way to install it.
    """
    if spec in DATA:
        return checked(DATA[spec](root))
    hub, _, name = spec.partition("/")
    if hub == "torchvision" and name:
        return splits_from(from_torchvision(name, root), seed_of_split)
    if hub == "hf" and name:
        return splits_from(from_hub(name), seed_of_split)
    if ":" in spec:
        return splits_from(call_factory(spec, "`data`"), seed_of_split)
    return checked(_of_path(spec, root, seed_of_split))


def _of_path(spec: str, root: Path, seed_of_split: int) -> Splits:
    path = next((place for place in (Path(spec), root / spec) if place.exists()), Path(spec))
    if path.is_dir():
        return folder_splits(path, seed_of_split)
    if path.suffix not in (".npz", ".txt"):
        choose("`data`", spec, (*DATA, *FORMS))
    if not path.exists():
        mend = "Check the path, or set another folder with `data_root`."
        raise SetupError(f"`data`: there is no file {spec!r}, neither from here nor in {str(root)!r}.\n{mend}")
    return splits_from(_of_arrays(path), seed_of_split) if path.suffix == ".npz" else text_splits(read_text(path))


def _of_arrays(path: Path) -> dict[str, object]:
    """The pairs in an `.npz` file, for `splits_from`."""
    arrays = read_arrays(path)
    for letter in "xy":
        if f"{letter}_val" in arrays:
            arrays[f"{letter}_validation"] = arrays.pop(f"{letter}_val")
    parts = [part for part in SPLITS if part != "validation" or {"x_validation", "y_validation"} & set(arrays)]
    missing = [name for part in parts for name in (f"x_{part}", f"y_{part}") if name not in arrays]
    rule = "an .npz file with x_train, y_train, x_test and y_test"
    require(not missing, "`data`", rule, sorted(arrays), f"Add {', '.join(missing)}.")
    return {part: (arrays[f"x_{part}"], arrays[f"y_{part}"]) for part in parts}
