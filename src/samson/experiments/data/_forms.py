"""From what a user writes for the data to the splits."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from samson._errors import SetupError, choose, require
from samson._factories import call_factory
from samson.experiments.data._catalogue import DATA
from samson.experiments.data._files import package, read_arrays
from samson.experiments.data._found import splits_from
from samson.experiments.data._hubs import from_hub, from_torchvision
from samson.experiments.data._loading import worker_count
from samson.experiments.data._pictures import MEAN, STD, Pictures
from samson.experiments.data._splits import SPLITS, Split, Splits, split_off
from samson.experiments.data._text import read_text, text_splits

ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
FORMS = ("FILE.npz", "FILE.txt", "FOLDER", "torchvision/NAME", "hf/NAME", "MODULE:FUNCTION")


def load_splits(spec: str, root: Path) -> Splits:
    """A data set as a user asks for it.

    Args:
        spec: A name in `DATA`; `FILE.npz` with the arrays `x_train`, `y_train`, `x_test`, `y_test` and possibly
            `x_validation`, `y_validation` (or `x_val`, `y_val`); `FILE.txt`, by characters; a folder of pictures in
            ImageNet's layout; `torchvision/NAME`; `hf/NAME`; or `MODULE:FUNCTION`, which returns what `splits_from`
            takes. Files and folders are looked for from here, and then in `root`.
        root: The folder where the files of sets by name are looked for.

    Raises:
        SetupError: If there are no such data, they break a rule of `Splits`, a package is missing, or
            `SAMSON_WORKERS` is no number.
    """
    worker_count()  # what is wrong with the setting is said before any compute starts
    hub, _, name = spec.partition("/")
    found: object
    if spec in DATA:
        found = DATA[spec](root)
    elif hub == "torchvision" and name:
        found = from_torchvision(name, root)
    elif hub == "hf" and name:
        found = from_hub(name)
    elif ":" in spec:
        found = call_factory(spec, "`data`")
    else:
        found = _of_path(spec, root)
    return splits_from(found)


@lru_cache(maxsize=4)
def load_data_set(data: str, root: Path) -> Splits:
    """As `load_splits`, kept for the next run of this process."""
    return load_splits(data, root)


def _of_path(spec: str, root: Path) -> object:
    """What a file or a folder holds, for `splits_from`."""
    path = next((place for place in (Path(spec), root / spec) if place.exists()), Path(spec))
    if path.is_dir():
        return folder_splits(path)
    if path.suffix not in (".npz", ".txt"):
        choose("`data`", spec, (*DATA, *FORMS))
    if not path.exists():
        mend = "Check the path, or set another folder with `data_root`."
        raise SetupError(f"`data`: there is no file {spec!r}, neither from here nor in {str(root)!r}.\n{mend}")
    return _of_arrays(path) if path.suffix == ".npz" else text_splits(read_text(path))


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


def folder_splits(folder: Path) -> Splits:
    """Pictures in ImageNet's layout: `train/CLASS/*.jpg`, `val/CLASS/*.jpg` and possibly `test/CLASS/*.jpg`.

    Without a `test`, or with one that has no classes, `val` is the test, and validation is split off `train`.

    Args:
        folder: The folder.

    Raises:
        SetupError: If the folder is not like this.
    """
    package("PIL.Image", "a folder of pictures")  # said here and not in a worker process
    classes = _classes(folder / "train")
    parts = {name: _pictures(folder / name, classes) for name in ("train", "val", "test") if _classes(folder / name)}
    layout, mend = "a folder with train/CLASS/*.jpg and val/CLASS/*.jpg", "Make a folder of each class in both."
    require("train" in parts and len(parts) > 1, "`data`", layout, str(folder), mend)
    train: Split = parts["train"]
    validation: Split | None = parts.get("val") if "test" in parts else None
    if validation is None:
        train, validation = split_off(train)
    test = parts["test" if "test" in parts else "val"]
    return Splits(train, validation, test, len(classes), mean=MEAN, std=STD, augment=Pictures.own)


def _classes(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []


def _pictures(folder: Path, classes: list[str]) -> Pictures:
    rows = []
    for name in _classes(folder):
        label = classes.index(choose(f"`data`: in {str(folder)!r} the class", name, classes))
        found = sorted(str(path) for path in (folder / name).iterdir() if path.suffix.lower() in ENDINGS)
        rows += [(path, label) for path in found]
    require(bool(rows), "`data`", f"folders of pictures ({', '.join(ENDINGS)})", str(folder), "Put some there.")
    return Pictures(rows)
