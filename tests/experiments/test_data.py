"""Data sets: each form of files, the batches of training, the split of validation examples, and what is refused."""

import gzip
import io
import multiprocessing
import os
import pickle
import random
import sys
import tarfile
import zipfile
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import Dataset

from samson.experiments import SetupError, data, load_data
from tests.conftest import generator

NOWHERE = Path("/nowhere")
PACKAGED = {"digits": (), "japanese-vowels": pytest.mark.needs("aeon")}
"""Data sets that are in a package, so that no file of theirs can be missing; and what a test of them needs."""


def numbered(count: int, *shape: int, first: int = 0) -> Tensor:
    """Images of random pixels whose first one is the number of the image, which makes each known again."""
    images = torch.randint(256, (count, *shape), generator=generator(first + 1), dtype=torch.uint8)
    images[:, 0, 0, 0] = torch.arange(first, first + count)
    return images


def labels(count: int, classes: int = 10) -> Tensor:
    return torch.arange(count) % classes


def in_memory(count: int = 60, **more: Any) -> data.Splits:
    train, other = (numbered(count, 3, 8, 8), labels(count)), (numbered(9, 3, 8, 8), labels(9))
    return data.Splits(train, other, other, outputs=10, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4), **more)


def epoch(splits: data.Splits, batch_size: int = 8, **given: Any) -> list[tuple[Tensor, Tensor]]:
    asked = {"seed": 3, "epoch": 2, "device": "cpu", "augment": ("crop", "flip", "cutout"), "workers": 0} | given
    return list(splits.batches(batch_size, **asked))


def identical(one: list[tuple[Tensor, Tensor]], other: list[tuple[Tensor, Tensor]]) -> bool:
    return len(one) == len(other) and all(
        a[0].equal(b[0]) and a[1].equal(b[1]) for a, b in zip(one, other, strict=True)
    )


def known(split: Any) -> set[bytes]:
    """The examples of a split in memory, to be compared with those of another."""
    return {example.numpy().tobytes() for example in split[0]}


def check_splits(splits: data.Splits, train: Tensor, test: Tensor, validation: int) -> None:
    """The parts are disjoint and hold every example once, with its own label."""
    assert splits.validation[0].shape[0] == validation
    assert not known(splits.train) & known(splits.validation)
    assert not (known(splits.train) | known(splits.validation)) & known(splits.test)
    assert known(splits.train) | known(splits.validation) == known((train, None))
    assert splits.test[0].equal(test)
    for inputs, targets in (splits.train, splits.validation, splits.test):
        assert targets.equal(inputs[:, 0, 0, 0].long() % splits.outputs)


# Splits


def test_inputs_are_prepared_as_written_in_numpy() -> None:
    splits = in_memory()
    inputs = splits.test[0]
    mean, std = (np.array(each).reshape(3, 1, 1) for each in (splits.mean, splits.std))
    np.testing.assert_allclose(splits.prepared(inputs), (inputs.numpy() / 255 - mean) / std, rtol=1e-5, atol=1e-6)
    floats = torch.rand(2, 3)
    assert splits.prepared(floats) is floats
    plain = data.Splits(splits.train, splits.test, splits.test, 10)
    assert plain.prepared(inputs).equal(inputs / 255)


def test_examples_of_a_split_in_memory_are_kept() -> None:
    splits = in_memory()
    inputs, targets = splits.examples("validation")
    assert inputs is splits.examples("validation")[0]
    assert inputs.equal(splits.prepared(splits.validation[0]))
    assert targets is splits.validation[1]
    assert splits.shape == (3, 8, 8)
    with pytest.raises(SetupError, match="`split`: 'valid' is unknown"):
        splits.examples("valid")


def test_an_epoch_has_each_example_once_with_its_target() -> None:
    batches = epoch(in_memory(), augment=())
    assert [len(targets) for _, targets in batches] == [8] * 7 == [8] * in_memory().steps(8)
    numbers = torch.cat([((x[:, 0, 0, 0] * 0.2 + 0.5) * 255).round() for x, _ in batches]).long()
    assert len(set(numbers.tolist())) == 56
    assert (numbers % 10).equal(torch.cat([y for _, y in batches]))
    assert numbers.tolist() != sorted(numbers.tolist())


@pytest.mark.parametrize("start", [1, 5, 7])
def test_an_epoch_goes_on_in_its_middle_bit_for_bit(start: int) -> None:
    whole = epoch(in_memory())
    assert identical(epoch(in_memory(), start=start), whole[start:])
    assert not identical(epoch(in_memory(), start=1), whole[:-1])


@pytest.mark.parametrize("augment", [(), ("crop", "flip")])
def test_batches_depend_on_seed_and_epoch_and_nothing_else(augment: tuple[str, ...]) -> None:
    first = epoch(in_memory(), augment=augment)
    torch.manual_seed(99)
    random.seed(99)
    before, before_python = torch.get_rng_state(), random.getstate()
    assert identical(epoch(in_memory(), augment=augment), first)
    assert torch.get_rng_state().equal(before)
    assert random.getstate() == before_python
    for changed in ({"seed": 4}, {"epoch": 3}):
        assert not identical(epoch(in_memory(), augment=augment, **changed), first)


def test_augmentations_differ_from_batch_to_batch_and_epoch_to_epoch() -> None:
    images = numbered(1, 1, 8, 8).expand(400, 1, 8, 8)
    splits = data.Splits((images, labels(400)), (images, labels(400)), (images, labels(400)), 10)
    batches = [inputs for number in (0, 1) for inputs, _ in epoch(splits, 100, augment=("crop",), epoch=number)]
    assert len({batch.numpy().tobytes() for batch in batches}) == 8


def test_what_cannot_be_trained_on_is_refused_at_once() -> None:
    splits = in_memory(6)
    with pytest.raises(SetupError, match="`batch_size` must be from 1 to 6 for these data, got 7"):
        splits.batches(7, seed=0, epoch=0, device="cpu", augment=())
    with pytest.raises(SetupError, match=r"`augment`: 'flop' is unknown.\nDid you mean 'flip'"):
        splits.batches(2, seed=0, epoch=0, device="cpu", augment=("flop",))
    with pytest.raises(SetupError, match="`augment` must be left out unless inputs are images"):
        data.text_splits("abc" * 100, 4).batches(2, seed=0, epoch=0, device="cpu", augment=("flip",))


# Augmentations

KINDS = pytest.mark.parametrize("images", [numbered(64, 3, 10, 12), torch.randn(64, 3, 10, 12)], ids=["uint8", "float"])


@KINDS
def test_crop_cuts_a_window_at_the_drawn_offset(images: Tensor) -> None:
    down, right = torch.randint(9, (2, len(images)), generator=generator(5)).tolist()
    padded = np.pad(images.numpy(), ((0, 0), (0, 0), (4, 4), (4, 4)))
    expected = [padded[i, :, d : d + 10, r : r + 12] for i, (d, r) in enumerate(zip(down, right, strict=True))]
    cropped = data.AUGMENTATIONS["crop"](images, generator(5))
    assert cropped.dtype == images.dtype
    np.testing.assert_array_equal(cropped, np.stack(expected))
    assert {*down} == {*right} == {*range(9)}
    assert not cropped.equal(data.AUGMENTATIONS["crop"](images, generator(6)))


@KINDS
def test_flip_mirrors_half_of_the_images(images: Tensor) -> None:
    many = images.repeat(32, 1, 1, 1)
    flipped = data.AUGMENTATIONS["flip"](many, generator())
    mirrored = np.array(
        [np.array_equal(new, old[..., ::-1]) for new, old in zip(flipped.numpy(), many.numpy(), strict=True)]
    )
    kept = np.array([new.equal(old) for new, old in zip(flipped, many, strict=True)])
    assert (mirrored ^ kept).all()
    assert abs(mirrored.mean() - 0.5) < 4 * 0.5 / np.sqrt(len(many))


@KINDS
def test_cutout_blanks_half_of_each_side_less_what_lies_outside(images: Tensor) -> None:
    drawn = generator(7)
    rows, columns = (torch.randint(side, (64,), generator=drawn).tolist() for side in (10, 12))
    fill = 0 if images.is_floating_point() else np.floor(images.numpy().astype(np.float64).mean((0, 2, 3)) + 0.5)
    expected = images.numpy().copy()
    areas = []
    for image, row, column in zip(expected, rows, columns, strict=True):
        box = image[:, max(0, row - 2) : row + 3, max(0, column - 3) : column + 3]
        box[:] = np.broadcast_to(fill, 3)[:, None, None]
        areas.append(box[0].size)
    np.testing.assert_array_equal(data.AUGMENTATIONS["cutout"](images, generator(7)), expected)
    assert max(areas) == 5 * 6
    assert min(areas) < 30


def test_cutout_of_a_cifar_image_is_16_by_16_pixels() -> None:
    images = torch.ones(500, 1, 32, 32)
    areas = (data.AUGMENTATIONS["cutout"](images, generator()) == 0).sum((1, 2, 3))
    assert areas.max() == 256
    assert areas.min() >= 64


# Data sets of torch


class Noisy(Dataset[Any]):
    """A user's data set, whose examples are random each time; the label and a part of the input are the number."""

    def __init__(self, count: int = 20) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, number: int) -> tuple[Tensor, int]:
        if number >= self.count:
            raise IndexError
        drawn = [torch.rand(2), torch.tensor([random.random(), np.random.rand()])]  # noqa: NPY002 (global, as transforms draw)
        return torch.cat([torch.tensor([float(number)]), *drawn]), number % 5


def of_torch() -> data.Splits:
    return data.splits_from({"train": Noisy(20), "validation": Noisy(7), "test": Noisy(9), "outputs": 5})


def test_a_data_set_of_torch_gives_the_same_batches_however_it_is_loaded() -> None:
    here = epoch(of_torch(), 4, augment=())
    assert identical(epoch(of_torch(), 4, augment=(), workers=2), here)
    assert identical(epoch(of_torch(), 4, augment=(), start=3, workers=1), here[3:])
    torch.manual_seed(5)
    before, before_python = torch.get_rng_state(), random.getstate()
    before_numpy = pickle.dumps(np.random.get_state())  # noqa: NPY002 (global, as transforms draw)
    assert identical(epoch(of_torch(), 4, augment=()), here)
    assert torch.get_rng_state().equal(before)
    assert random.getstate() == before_python
    assert pickle.dumps(np.random.get_state()) == before_numpy  # noqa: NPY002 (global, as transforms draw)
    assert not identical(epoch(of_torch(), 4, augment=(), epoch=3), here)
    inputs, targets = (torch.cat(part) for part in zip(*here, strict=True))
    later, other = (
        torch.cat([part for part, _ in epoch(of_torch(), 4, augment=(), **at)]) for at in ({"epoch": 3}, {"seed": 4})
    )
    assert sorted(inputs[:, 0].tolist()) == sorted(later[:, 0].tolist()) == list(range(20))
    draws = torch.cat([inputs, later, other])[:, 1:]
    assert len(set(draws.flatten().tolist())) == 3 * 4 * 20  # none comes twice
    assert targets.equal(inputs[:, 0].long() % 5)


def test_the_examples_of_a_data_set_of_torch_can_be_run_through_again() -> None:
    examples = of_torch().examples("test", batch_size=4)
    assert len(examples) == 3
    first = list(examples)
    assert [len(targets) for _, targets in first] == [4, 4, 1]
    assert torch.cat([inputs[:, 0] for inputs, _ in first]).tolist() == list(range(9))
    assert identical(list(examples), first)


class Counted(Noisy):
    """It counts how often an example is read in this process."""

    reads = 0

    def __getitem__(self, number: int) -> tuple[Tensor, int]:
        type(self).reads += 1
        return super().__getitem__(number)


@pytest.mark.parametrize(("limit", "reads"), [(9 * (5 * 4 + 8), 9), (9 * (5 * 4 + 8) - 1, 3 * 9)])
def test_what_is_not_too_large_is_read_once(monkeypatch: pytest.MonkeyPatch, limit: int, reads: int) -> None:
    """An example has 5 numbers of 4 bytes and a target of 8; a pass that was broken off keeps nothing."""
    monkeypatch.setenv("SAMSON_WORKERS", "0")
    monkeypatch.setattr(data._loading, "RESIDENT_BYTES", limit)
    splits = data.splits_from({"train": Noisy(20), "validation": Noisy(7), "test": Counted(9), "outputs": 5})
    next(iter(splits.examples("test", batch_size=4)))
    sent = pickle.dumps(splits.examples("test", batch_size=4))
    monkeypatch.setattr(Counted, "reads", 0)
    first, second, third = (list(splits.examples("test", batch_size=4)) for _ in range(3))
    assert Counted.reads == reads
    assert [len(targets) for _, targets in first] == [4, 4, 1]
    assert identical(first, second)
    assert identical(first, third)
    assert pickle.dumps(splits.examples("test", batch_size=4)) == sent, "what was read stays here"
    assert identical(list(pickle.loads(sent)), first)


def test_workers_are_those_asked_for_or_forked(monkeypatch: pytest.MonkeyPatch) -> None:
    """`allow_none` keeps the question from fixing the start method."""
    monkeypatch.delenv("SAMSON_WORKERS", raising=False)
    for fixed, methods, forked in (
        (None, ["fork", "spawn"], True),
        (None, ["spawn", "fork"], False),
        ("fork", ["forkserver", "fork"], True),
        ("spawn", ["fork", "spawn"], False),
    ):
        monkeypatch.setattr(multiprocessing, "get_start_method", lambda *, allow_none, fixed=fixed: fixed)
        monkeypatch.setattr(multiprocessing, "get_all_start_methods", lambda methods=methods: methods)
        assert (data._loading.worker_count() > 0) == forked
    monkeypatch.setenv("SAMSON_WORKERS", "7")
    assert data._loading.worker_count() == 7
    for wrong in ("-1", "two", ""):
        monkeypatch.setenv("SAMSON_WORKERS", wrong)
        with pytest.raises(SetupError, match=f"`SAMSON_WORKERS` must be a whole number of at least 0, got '{wrong}'"):
            data.load_splits("digits", NOWHERE)


def test_a_training_takes_as_many_workers_as_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    splits = data.splits_from({"train": Counted(20), "validation": Noisy(7), "test": Noisy(9), "outputs": 5})
    for asked, reads in (("0", 20), ("1", 0)):
        monkeypatch.setenv("SAMSON_WORKERS", asked)
        monkeypatch.setattr(Counted, "reads", 0)
        epoch(splits, 4, augment=(), workers=None)
        assert Counted.reads == reads


def test_a_single_batch_is_read_without_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Counted, "reads", 0)
    splits = data.splits_from({"train": Noisy(20), "validation": Noisy(7), "test": Counted(9), "outputs": 5})
    before = Counted.reads
    list(splits.examples("test"))
    assert Counted.reads == before + 9


def test_a_data_set_of_torch_gives_up_a_tenth_for_validation() -> None:
    splits = data.splits_from({"train": Noisy(20), "test": Noisy(3), "classes": 5})
    train, validation = (
        [int(split[i][0][0]) for i in range(len(split))] for split in (splits.train, splits.validation)
    )
    assert len(validation) == 2
    assert sorted(train + validation) == list(range(20))
    assert splits.shape == (5,)
    for count, tenth in ((2, 1), (14, 1), (16, 2), (26, 3)):  # the nearest whole number, and one at least
        held = torch.ones(count, 4), torch.ones(count)
        assert len(data.splits_from({"train": held, "test": held}).validation[1]) == tenth


# Files


PUBLISHED = {
    "mnist": ((0.1307,), (0.3081,)),
    "fashion-mnist": ((0.2860,), (0.3530,)),
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "cifar100": ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}
"""Mean and deviation of each channel over the training pictures, as others have them too."""


def idx(array: Tensor) -> bytes:
    head = bytes((0, 0, 8, array.ndim)) + b"".join(side.to_bytes(4, "big") for side in array.shape)
    return head + array.to(torch.uint8).numpy().tobytes()


@pytest.mark.parametrize(
    ("name", "folder", "zipped"),
    [("mnist", "MNIST/raw", True), ("mnist", "", False), ("fashion-mnist", "FashionMNIST/raw", True)],
)
def test_idx_files(tmp_path: Path, name: str, folder: str, zipped: bool) -> None:
    train, test = numbered(36, 1, 28, 28), numbered(5, 1, 28, 28, first=36)
    (tmp_path / folder).mkdir(parents=True, exist_ok=True)
    for part, images in (("train", train), ("t10k", test)):
        files = {"images-idx3": images.squeeze(1), "labels-idx1": images[:, 0, 0, 0] % 10}
        for kind, array in files.items():
            path = tmp_path / folder / f"{part}-{kind}-ubyte{'.gz' if zipped else ''}"
            path.write_bytes(gzip.compress(idx(array)) if zipped else idx(array))
    splits = data.load_splits(name, tmp_path)
    check_splits(splits, train, test, validation=3)
    assert splits.examples("test")[0].dtype == torch.float32
    assert (splits.mean, splits.std) == PUBLISHED[name]


def cifar_records(classes: int) -> tuple[Tensor, Tensor, dict[str, bytes]]:
    train, test = numbered(60, 3, 32, 32), numbered(7, 3, 32, 32, first=60)
    parts = {f"data_batch_{i + 1}": train[12 * i : 12 * i + 12] for i in range(5)} | {"test_batch": test}
    if classes == 100:
        parts = {"train": train, "test": test}
    files = {}
    for name, images in parts.items():
        columns = [torch.full((len(images), 1), 11)] if classes == 100 else []  # the coarse label, which is not used
        columns += [(images[:, :1, 0, 0] % classes).long(), images.flatten(1).long()]
        files[f"{name}.bin"] = torch.cat(columns, dim=1).to(torch.uint8).numpy().tobytes()
    return train, test, files


def write_tar(path: Path, folder: str, files: dict[str, bytes]) -> None:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(f"{folder}/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


@pytest.mark.parametrize("classes", [10, 100])
@pytest.mark.parametrize("packed", [True, False])
def test_binary_cifar(tmp_path: Path, classes: int, packed: bool) -> None:
    train, test, files = cifar_records(classes)
    folder = {10: "cifar-10-batches-bin", 100: "cifar-100-binary"}[classes]
    if packed:
        write_tar(tmp_path / f"cifar-{classes}-binary.tar.gz", folder, files)
    else:
        (tmp_path / f"cifar{classes}" / folder).mkdir(parents=True)
        for name, content in files.items():
            (tmp_path / f"cifar{classes}" / folder / name).write_bytes(content)
    splits = data.load_splits(f"cifar{classes}", tmp_path)
    check_splits(splits, train, test, validation=6)
    assert splits.augment == ("crop", "flip")
    assert (splits.mean, splits.std) == PUBLISHED[f"cifar{classes}"]


def test_cifar_of_arrays_with_channels_last(tmp_path: Path) -> None:
    train, test = numbered(60, 3, 32, 32), numbered(7, 3, 32, 32, first=60)
    arrays = {"x_train": train.permute(0, 2, 3, 1), "x_test": test.permute(0, 2, 3, 1)}
    targets = {"y_train": labels(60)[:, None], "y_test": (60 + labels(7))[:, None] % 10}
    np.savez(tmp_path / "cifar10.npz", **{name: array.numpy() for name, array in (arrays | targets).items()})
    check_splits(data.load_splits("cifar10", tmp_path), train, test, validation=6)


@pytest.mark.needs("PIL")
def test_cifar_of_sheets(tmp_path: Path) -> None:
    from PIL import Image

    train, test = numbered(30, 3, 32, 32), numbered(6, 3, 32, 32, first=30)
    for name, images in [*((f"train_{i}", train[6 * i : 6 * i + 6]) for i in range(5)), ("test", test)]:
        rows = [torch.cat(list(images[first : first + 3]), dim=2) for first in (0, 3)]  # 2 rows of 3 tiles
        Image.fromarray(torch.cat(rows, dim=1).permute(1, 2, 0).numpy()).save(tmp_path / f"{name}.png")
        np.save(tmp_path / f"{name}_labels.npy", images[:, 0, 0, 0].numpy() % 10)
    check_splits(data.load_splits("cifar10", tmp_path), train, test, validation=3)


class Bomb:
    """Unpickled, it makes a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.path),)


def test_an_archive_of_pickles_is_read_if_it_is_the_official_one_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bomb, path = tmp_path / "exploded", tmp_path / "cifar-10-python.tar.gz"
    write_tar(path, "cifar-10-batches-py", {"data_batch_1": pickle.dumps(Bomb(bomb))})
    with pytest.raises(SetupError, match="must be the official archive") as caught:
        data.load_splits("cifar10", tmp_path)
    assert "cifar-10-binary.tar.gz" in str(caught.value)
    assert not bomb.exists()
    monkeypatch.setitem(data._cifar.PYTHON_MD5, 10, data._cifar.md5(path.read_bytes()).hexdigest())
    with pytest.raises((SetupError, TypeError)):
        data.load_splits("cifar10", tmp_path)
    assert bomb.exists()  # the pickle does run code, where it is let


def test_the_official_archive_of_pickles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train, test = numbered(40, 3, 32, 32), numbered(7, 3, 32, 32, first=40)
    path = tmp_path / "cifar-100-python.tar.gz"
    files = {
        name: pickle.dumps({b"data": x.flatten(1).numpy(), b"fine_labels": x[:, 0, 0, 0].tolist()}, protocol=2)
        for name, x in (("train", train), ("test", test))
    }
    write_tar(path, "cifar-100-python", files)
    monkeypatch.setitem(data._cifar.PYTHON_MD5, 100, data._cifar.md5(path.read_bytes()).hexdigest())
    check_splits(data.load_splits("cifar100", tmp_path), train, test, validation=4)


def test_text_by_characters(tmp_path: Path) -> None:
    text = "".join(random.Random(0).choices("abcdefgh \n", k=20_000))
    (tmp_path / "tinyshakespeare").mkdir()
    (tmp_path / "tinyshakespeare" / "input.txt").write_bytes(text.encode())
    splits = data.load_splits("tiny-shakespeare", tmp_path)
    assert (splits.task, splits.outputs, splits.shape) == ("language", 10, (128,))
    characters = sorted(set(text))
    parts = {"train": text[:16_200], "validation": text[16_200:18_000], "test": text[18_000:]}
    for name, part in parts.items():
        inputs, targets = splits.examples(name)
        for number, (tokens, following) in enumerate(zip(inputs.tolist(), targets.tolist(), strict=True)):
            start = 128 * number
            assert "".join(characters[token] for token in tokens) == part[start : start + 128]
            assert "".join(characters[token] for token in following) == part[start + 1 : start + 129]
        assert len(inputs) == (len(part) - 1) // 128
    (tmp_path / "own.txt").write_text(text, encoding="utf-8-sig")
    for path in ("tinyshakespeare/input.txt", "own.txt"):
        own = data.load_splits(path, tmp_path)
        assert own.train[0].equal(splits.train[0])
    with pytest.raises(SetupError, match="a text whose parts have more than 128 characters, got 90"):
        data.text_splits(text[:1000])


def test_a_file_of_arrays(tmp_path: Path) -> None:
    x, y = np.random.default_rng(0).normal(size=(20, 5, 2)), np.arange(20) % 3
    arrays = {"x_train": x, "y_train": y, "x_test": x[:4] + 100, "y_test": y[:4].astype(np.uint8)}
    np.savez(tmp_path / "own.npz", **arrays)
    splits = data.load_splits("own.npz", tmp_path)
    assert (splits.outputs, splits.shape, splits.train[0].dtype) == (3, (5, 2), torch.float32)
    assert len(splits.validation[1]) == 2
    assert known(splits.train) | known(splits.validation) == known((torch.from_numpy(x).float(), None))
    drawn = np.sort(np.random.default_rng(2211).permutation(20)[:2])  # each time the same
    assert known(splits.validation) == known((torch.from_numpy(x[drawn]).float(), None))
    np.savez(tmp_path / "own.npz", **arrays, x_val=x[:3] - 100, y_val=y[:3])
    assert data.load_splits("own.npz", tmp_path).validation[1].tolist() == [0, 1, 2]
    np.savez(tmp_path / "own.npz", **arrays, x_val=x[:3] - 100)
    with pytest.raises(SetupError, match=r"Add y_validation\."):
        data.load_splits("own.npz", tmp_path)


def test_examples_are_those_that_a_file_holds_now(tmp_path: Path) -> None:
    x, y = np.zeros((20, 5)), np.arange(20) % 2
    for value in (1.0, 2.0):
        np.savez(tmp_path / "own.npz", x_train=x, y_train=y, x_test=x[:4] + value, y_test=y[:4])
        assert load_data("own.npz", root=tmp_path)[0][0].unique().tolist() == [value]


def write_pictures(folder: Path, counts: dict[str, int]) -> None:
    from PIL import Image

    for label, count in counts.items():
        (folder / label).mkdir(parents=True)
        for number in range(count):
            pixels = np.random.default_rng(number).integers(0, 256, (40 + number, 60, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / label / f"{number}.png")


@pytest.mark.needs("PIL")
def test_a_folder_of_pictures(tmp_path: Path) -> None:
    write_pictures(tmp_path / "train", {"cat": 6, "dog": 5})
    write_pictures(tmp_path / "val", {"dog": 2, "cat": 1})
    splits = data.load_splits(str(tmp_path), NOWHERE)
    assert (splits.outputs, splits.shape, splits.augment) == (2, (3, 224, 224), ("crop", "flip"))
    assert (splits.mean, splits.std) == PUBLISHED["imagenet"]
    assert [len(part) for part in (splits.train, splits.validation, splits.test)] == [10, 1, 3]
    examples = list(splits.examples("test", batch_size=2))
    assert torch.cat([targets for _, targets in examples]).tolist() == [0, 1, 1]
    assert [inputs.shape for inputs, _ in examples] == [(2, 3, 224, 224), (1, 3, 224, 224)]
    given = {"augment": ("crop", "flip"), "workers": 0}
    batches = epoch(splits, 4, **given)
    assert identical(epoch(splits, 4, augment=("crop", "flip"), workers=2, start=1), batches[1:])
    assert not identical(epoch(splits, 4, epoch=3, **given), batches)
    drawn = dict(splits.train.augmented(("crop", "flip"), 3, 2)[n] for n in range(10))
    expected = {splits.prepared(image).numpy().tobytes(): label for image, label in drawn.items()}
    for inputs, targets in batches:  # cropped and mirrored once, by the workers
        assert [expected[image.numpy().tobytes()] for image in inputs] == targets.tolist()
    plain = epoch(splits, 4, augment=(), workers=0)
    assert plain[0][1].equal(batches[0][1])  # the same order
    assert not plain[0][0].equal(batches[0][0])
    write_pictures(tmp_path / "test", {"dog": 4})
    splits = data.load_splits(str(tmp_path), NOWHERE)
    assert [len(part) for part in (splits.train, splits.validation, splits.test)] == [11, 3, 4]


@pytest.mark.needs("PIL")
def test_the_middle_of_a_picture_is_that_of_resizing_and_cropping(tmp_path: Path) -> None:
    """A picture that grows linearly to the right shows which part is seen, and how large."""
    from PIL import Image

    ramp = np.broadcast_to(np.arange(500)[None, :, None] / 2, (400, 500, 3)).astype(np.uint8)
    for part in ("train", "val"):
        (tmp_path / part / "a").mkdir(parents=True)
        for number in range(2):
            Image.fromarray(ramp).save(tmp_path / part / "a" / f"{number}.png")
    splits = data.load_splits(str(tmp_path), NOWHERE)
    seen = splits.test[0][0].float().mean((0, 1))
    side = 400 * 224 / 256
    expected = (250 - side / 2 + (torch.arange(224) + 0.5) * side / 224) / 2
    assert (seen - expected).abs().max() < 1
    seed_0 = [int(splits.train.augmented(("flip",), 0, number)[0][0][0, 0, 0] > 125) for number in range(64)]
    assert abs(np.mean(seed_0) - 0.5) < 4 * 0.5 / 8  # mirrored
    mirrored = {splits.train.augmented(("flip",), 0, number)[0][0].numpy().tobytes() for number in range(16)}
    middle = splits.test[0][0]
    assert mirrored == {middle.numpy().tobytes(), middle.flip(2).numpy().tobytes()}  # and nothing else
    widths = [splits.train.augmented(("crop",), 0, number)[0][0].float().mean((0, 1)) for number in range(64)]
    spans = np.array([float(each[-1] - each[0]) * 2 for each in widths])
    assert spans.min() < 250
    assert 400 < spans.max() <= 500


def test_boxes_are_of_any_area_and_aspect_ratio_and_lie_inside() -> None:
    boxes = [data._pictures._random_box(900, 1000, generator(seed)) for seed in range(400)]
    left, top, right, bottom = np.array(boxes).T
    areas, aspects = (right - left) * (bottom - top) / 900_000, (right - left) / (bottom - top)
    assert min(left.min(), top.min()) >= 0
    assert right.max() <= 900
    assert bottom.max() <= 1000
    assert 0.079 < areas.min() < 0.1
    assert 0.9 < areas.max() <= 1
    assert 0.745 < aspects.min() < 0.8
    assert 1.2 < aspects.max() < 1.34
    small = areas < 0.5  # which fit whatever their aspect ratio is
    assert abs((aspects[small] > 1).mean() - 0.5) < 4 * 0.5 / np.sqrt(small.sum())
    assert data._pictures._random_box(1000, 1, generator()) == data._pictures._middle(1000, 1)  # none fits
    tiny = [data._pictures._random_box(2, 2, generator(seed)) for seed in range(50)]
    assert {right - left for left, _, right, _ in tiny} == {1, 2}  # one pixel is a box too
    assert {box[0] for box in tiny} == {box[1] for box in tiny} == {0, 1}  # and may lie at either end


@pytest.mark.needs("PIL")
def test_folders_that_are_no_data_set(tmp_path: Path) -> None:
    layout = "must be a folder with train/CLASS/\\*.jpg and val/CLASS/\\*.jpg"
    with pytest.raises(SetupError, match=layout):
        data.load_splits(str(tmp_path), NOWHERE)
    write_pictures(tmp_path / "train", {"cat": 2})
    with pytest.raises(SetupError, match=layout):
        data.load_splits(str(tmp_path), NOWHERE)
    write_pictures(tmp_path / "val", {"cow": 1})
    with pytest.raises(SetupError, match="the class: 'cow' is unknown"):
        data.load_splits(str(tmp_path), NOWHERE)
    (tmp_path / "val" / "cow").rename(tmp_path / "val" / "cat")
    data.load_splits(str(tmp_path), NOWHERE)
    (tmp_path / "val" / "cat" / "0.png").write_bytes(b"no picture")
    with pytest.raises(SetupError, match="0.png' cannot be read"):
        data.load_splits(str(tmp_path), NOWHERE).test[0]


@pytest.mark.needs("torchvision")
def test_a_set_of_torchvision(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"(?s)'torchvision/MNIST' is not in .*download=True"):
        data.load_splits("torchvision/MNIST", tmp_path)
    with pytest.raises(SetupError, match="Did you mean 'MNIST'"):
        data.load_splits("torchvision/MNST", tmp_path)
    train, test = numbered(20, 1, 28, 28), numbered(5, 1, 28, 28, first=20)
    (tmp_path / "MNIST" / "raw").mkdir(parents=True)
    for part, images in (("train", train), ("t10k", test)):
        (tmp_path / "MNIST" / "raw" / f"{part}-images-idx3-ubyte").write_bytes(idx(images.squeeze(1)))
        (tmp_path / "MNIST" / "raw" / f"{part}-labels-idx1-ubyte").write_bytes(idx(images[:, 0, 0, 0] % 10))
    check_splits(data.load_splits("torchvision/MNIST", tmp_path), train, test, validation=2)


class Hub(list[dict[str, Any]]):
    """What a data set of the hub looks like: rows, columns by name, and the number of classes."""

    features: dict[str, Any] = {"label": None}  # noqa: RUF012

    @property
    def column_names(self) -> list[str]:
        return list(self[0])

    def __getitem__(self, key: Any) -> Any:
        return [row[key] for row in self] if isinstance(key, str) else super().__getitem__(key)


def hub(monkeypatch: pytest.MonkeyPatch, **parts: list[dict[str, Any]]) -> data.Splits:
    module = type(sys)("datasets")
    module.load_dataset = lambda name: {part: Hub(rows) for part, rows in parts.items()}  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "datasets", module)
    return data.load_splits("hf/some/name", NOWHERE)


def test_texts_of_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"text": "ab" * number, "label": number % 2} for number in range(1, 31)]
    splits = hub(
        monkeypatch, train=rows[:20], validation=rows[20:24], test=[*rows[24:], {"text": "ü" * 300, "label": 1}]
    )
    assert (splits.shape, splits.outputs, splits.task) == ((256,), 2, "classification")
    assert splits.train[0][0].tolist() == [0] * 254 + [98, 99]
    assert splits.test[0][-1].tolist() == [0xC3 + 1, 0xBC + 1] * 128
    assert [len(part[1]) for part in (splits.train, splits.validation, splits.test)] == [20, 4, 7]
    without = hub(monkeypatch, train=rows[:20], validation=rows[20:])
    assert [len(part[1]) for part in (without.train, without.validation, without.test)] == [18, 2, 10]
    for row in ({"words": "ab", "label": 1}, {"text": "ab", "class": 1}):  # one of the two columns is not enough
        with pytest.raises(SetupError, match="columns `image`, `img` or `text`, and `label`"):
            hub(monkeypatch, train=[row] * 3, test=[row] * 3)
    for parts, message in (
        ({"train": rows}, "a set with train and test"),
        ({"train": [{"a": 1}], "test": [{"a": 1}]}, "columns"),
    ):
        with pytest.raises(SetupError, match=message):
            hub(monkeypatch, **parts)


@pytest.mark.needs("PIL")
def test_pictures_of_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import Image

    train, test = numbered(20, 3, 16, 16), numbered(4, 3, 16, 16, first=20)
    parts = {
        name: [{"img": Image.fromarray(x.permute(1, 2, 0).numpy()), "label": int(x[0, 0, 0]) % 10} for x in images]
        for name, images in (("train", train), ("test", test))
    }
    check_splits(hub(monkeypatch, **parts), train, test, validation=2)
    for row in parts["train"] + parts["test"]:
        row["img"] = row["img"].resize((80, 70))
    monkeypatch.setattr(Hub, "features", {"label": type("ClassLabel", (), {"num_classes": 10})})
    large = hub(monkeypatch, **parts)
    assert (large.shape, large.outputs, len(large.validation)) == ((3, 224, 224), 10, 2)


@pytest.mark.needs("aeon")
def test_japanese_vowels() -> None:
    splits = data.load_splits("japanese-vowels", NOWHERE)
    assert [len(part[1]) for part in (splits.train, splits.validation, splits.test)] == [216, 54, 370]
    assert torch.bincount(splits.train[1]).tolist() == [24] * 9
    assert torch.bincount(splits.validation[1]).tolist() == [6] * 9
    inputs = splits.train[0]
    assert splits.shape == (29, 12)
    real = (inputs != 0).any(2)
    assert real[:, -1].all()
    assert (real.int().diff(dim=1) >= 0).all()  # zeros in front only
    torch.testing.assert_close(inputs[real].mean(0), torch.zeros(12), rtol=0, atol=1e-5)
    torch.testing.assert_close(inputs[real].std(0, correction=0), torch.ones(12), rtol=0, atol=1e-5)
    assert real.sum(1).min() >= 7


def test_a_missing_package_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(data._vowels, "find_spec", lambda name: None)
    with pytest.raises(SetupError, match=r'needs aeon\.\nInstall it: pip install .* "\.\[data\]"'):
        data.load_splits("japanese-vowels", NOWHERE)
    for package, spec in (("torchvision.datasets", "torchvision/MNIST"), ("datasets", "hf/mnist"), ("PIL.Image", ".")):
        monkeypatch.setitem(sys.modules, package, None)
        with pytest.raises(
            SetupError, match=f"needs {package.split('.')[0]}\\.\nInstall it: pip install -c constraints"
        ):
            data.load_splits(spec, tmp_path)


@pytest.mark.parametrize("name", [pytest.param(name, marks=needs) for name, needs in PACKAGED.items()])
def test_no_packaged_example_is_in_two_splits(name: str) -> None:
    """Nor twice in the package, on both sides of a split."""
    splits = data.load_splits(name, NOWHERE)
    parts = [known(splits.examples(split)) for split in data.SPLITS]
    assert [len(one & other) for one, other in combinations(parts, 2)] == [0, 0, 0]
    assert min(map(len, parts)) > 50


def test_digits_are_those_of_scikit_learn() -> None:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    order = np.random.default_rng(2211).permutation(1797)
    splits = data.load_splits("digits", NOWHERE)
    bounds = {"train": (0, 1078), "validation": (1078, 1438), "test": (1438, 1797)}
    for name, (first, last) in bounds.items():
        inputs, targets = splits.examples(name)
        np.testing.assert_array_equal(inputs[:, 0], bunch.images[order[first:last]].astype(np.float32) / 16)
        assert targets.tolist() == bunch.target[order[first:last]].tolist()


@pytest.mark.skipif("SAMSON_DATA" not in os.environ, reason="SAMSON_DATA names no folder with real data")
@pytest.mark.parametrize(
    ("name", "sizes"), [("fashion-mnist", [55_000, 5_000, 10_000]), ("tiny-shakespeare", [7_058, 784, 871])]
)
def test_real_data(name: str, sizes: list[int]) -> None:
    splits = data.load_splits(name, Path(os.environ["SAMSON_DATA"]))
    assert [len(part[1]) for part in (splits.train, splits.validation, splits.test)] == sizes
    if splits.mean:
        assert splits.examples("test")[0].std() == pytest.approx(1, abs=0.01)


# What is refused


@pytest.mark.parametrize("name", [name for name in data.DATA if name not in PACKAGED])
def test_missing_files_are_named_with_the_places_and_the_way_to_get_them(name: str, tmp_path: Path) -> None:
    with pytest.raises(SetupError) as caught:
        data.load_splits(name, tmp_path)
    message = str(caught.value)
    assert f"`data` {name!r} needs one of these files" in message
    assert f"{tmp_path}," in message.replace("\n", ",").replace(".,", ",")
    assert "https://" in message
    assert "set another folder with `data_root`" in message
    assert len(message.splitlines()) <= 4


def test_every_set_says_what_it_is_in_one_sentence_and_where_it_is_from() -> None:
    for load in data.DATA.values():
        assert load.__doc__.splitlines()[0].endswith(".")
        assert "Reference: " in load.__doc__


@pytest.mark.parametrize(
    "content", [b"", idx(torch.zeros(3, 2, 2))[:-1], idx(torch.zeros(3)), gzip.compress(b"x", mtime=0)[:-3]]
)
def test_damaged_files(tmp_path: Path, content: bytes) -> None:
    for ending in ("", ".gz"):
        path = tmp_path / f"train-images-idx3-ubyte{ending}"
        path.write_bytes(content)
        with pytest.raises(SetupError, match="cannot be read.*\nGet it again from https"):
            data.load_splits("mnist", tmp_path)
        path.unlink()
    (tmp_path / "cifar-10-binary.tar.gz").write_bytes(content)
    (tmp_path / "own.npz").write_bytes(content)
    for spec in ("cifar10", "own.npz"):
        with pytest.raises(SetupError, match="cannot be read"):
            data.load_splits(spec, tmp_path)


def test_a_file_of_python_objects_is_refused_and_runs_nothing(tmp_path: Path) -> None:
    bomb = tmp_path / "exploded"
    np.savez(tmp_path / "own.npz", x_train=np.array([Bomb(bomb)], dtype=object))
    with pytest.raises(SetupError, match="cannot be read: it holds Python objects, which could run code"):
        data.load_splits("own.npz", tmp_path)
    (tmp_path / "own.npz").write_bytes(pickle.dumps(Bomb(bomb)))
    with pytest.raises(SetupError, match=r"cannot be read: it is no `.npz` file\.\nWrite it"):
        data.load_splits("own.npz", tmp_path)
    assert not bomb.exists()


def zipped(content: bytes, **fields: int) -> bytes:
    """An archive of one file, some fields of whose directory are other ones."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("x_train.npy", content)
    found = bytearray(file.getvalue())
    start = found.index(b"PK\x01\x02")
    for field, value in fields.items():
        found[start + {"signature": 0, "flags": 8, "packing": 10}[field]] = value
    return bytes(found)


CLAIMS = b"{'descr': '<f8', 'fortran_order': False, 'shape': (100000000000000,), }"


@pytest.mark.parametrize(
    "content",
    [
        zipped(b"", signature=0),
        zipped(b"", flags=1),  # with a password
        zipped(b"", packing=99),
        zipped(b"\x93NUMPY\x01\x00" + len(CLAIMS).to_bytes(2, "little") + CLAIMS),
        b"\x93NUMPY\x01\x00" + len(CLAIMS).to_bytes(2, "little") + CLAIMS,
    ],
    ids=["directory", "password", "packing", "size", "npy"],
)
def test_a_damaged_archive_of_arrays(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "own.npz").write_bytes(content)
    with pytest.raises(SetupError, match=r"own\.npz' cannot be read: .*\.\nWrite it"):
        data.load_splits("own.npz", tmp_path)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("cifr10", "Did you mean 'cifar10'"),
        ("digit", r"Available: digits, .*FILE\.npz.*hf/NAME, MODULE:FUNCTION"),
        ("own.npz", "there is no file 'own.npz'"),
        ("some/own.txt", "there is no file 'some/own.txt'"),
        ("nomodule:function", "there is no module 'nomodule'"),
    ],
)
def test_unknown_data(spec: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=message):
        data.load_splits(spec, tmp_path)


X, Y = torch.rand(20, 3), labels(20, 4)
GOOD: dict[str, Any] = {"train": (X, Y), "test": (X[:5], Y[:5])}


def make_data() -> dict[str, Any]:
    return GOOD | {"augment": None}


def make_splits() -> data.Splits:
    return data.splits_from(GOOD)


@pytest.mark.parametrize("function", ["make_data", "make_splits"])
def test_data_of_a_users_function(function: str) -> None:
    splits = data.load_splits(f"{__name__}:{function}", NOWHERE)
    assert (splits.outputs, splits.task, len(splits.validation[1])) == (4, "classification", 2)
    assert known(splits.train) | known(splits.validation) == known(GOOD["train"])
    assert not known(splits.train) & known(splits.validation)


def test_what_is_not_said_of_the_data_is_found() -> None:
    values = data.splits_from({"train": (X.numpy(), X[:, :2].double().numpy()), "test": (X[:5], X[:5, :2])})
    assert (values.task, values.outputs, values.train[1].dtype) == ("regression", 2, torch.float32)
    tokens = torch.randint(7, (20, 6))
    tokens[0, 0] = 6
    language = data.splits_from({"train": (tokens, tokens), "test": (tokens[:3], tokens[:3])})
    assert (language.task, language.outputs) == ("language", 7)
    images = data.splits_from(
        {"train": (np.zeros((4, 9, 9), np.uint8), Y[:4]), "test": (torch.zeros(1, 1, 9, 9).byte(), Y[:1])}
    )
    assert images.shape == (1, 9, 9)
    of_tensors = torch.utils.data.TensorDataset(X, Y)
    assert known(data.splits_from(GOOD | {"train": of_tensors}).train) < known(GOOD["train"])


@pytest.mark.parametrize("held", [list, np.array, torch.tensor])
def test_numbers_may_be_in_whatever_holds_them(held: Callable[[list[float]], Any]) -> None:
    images = torch.zeros(4, 3, 9, 9, dtype=torch.uint8), Y[:4]
    given = {"train": images, "test": images, "outputs": np.int64(5)}
    splits = data.splits_from(given | {"mean": held([0.5, 0.25, 0.75]), "std": held([0.5, 1, 2])})
    assert (splits.mean, splits.std, splits.outputs) == ((0.5, 0.25, 0.75), (0.5, 1, 2), 5)
    assert {type(number) for number in (*splits.mean, *splits.std)} == {float}
    assert type(splits.outputs) is int
    grey = images[0][:, 0], images[1]
    of_one = data.splits_from({"train": grey, "test": grey, "mean": 0.5, "std": np.float32(0.25)})
    assert (of_one.mean, of_one.std) == ((0.5,), (0.25,))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"test": (X[:5], Y[:4])}, "`test` must have a target for each of 5 inputs, got 4"),
        ({"train": (X, Y[:19])}, "`train` must have a target for each of 20 inputs, got 19"),
        ({"test": (X[:0], Y[:0])}, "`test` must hold one example at least, got 0"),
        ({"train": (X[:0], Y[:0])}, "`train` must hold one example at least, got 0"),
        ({"validation": (X[:0], Y[:0])}, "`validation` must hold one example at least, got 0"),
        ({"train": (X[:1], Y[:1])}, "two training examples at least"),
        ({"test": (X[:5], Y[:5] + 4)}, "`test` must have targets from 0 to 3, got 4 to 7"),
        ({"train": (X, Y - 1)}, "`train` must have targets from 0 to 2, got -1 to 2"),
        ({"classes": 3}, "must have targets from 0 to 2, got 0 to 3"),
        ({"train": (X / 0, Y)}, "must have finite inputs, got inf or nan"),
        ({"train": (X, X[:, 0] / 0)}, "must have finite targets, got inf or nan"),
        ({"test": (X[:5, :2], Y[:5])}, r"`test` must have inputs of shape \(3,\), as the training split, got \(2,\)"),
        ({"train": (X > 0, Y)}, "must have inputs that are uint8 .* got torch.bool"),
        ({"train": (X[:, 0], Y), "test": (X[:5, 0], Y[:5])}, r"must have inputs that .* got torch.float32 \(18,\)"),
        ({"train": (X, X[:, 0]), "task": "classification"}, "must have integer targets of shape"),
        ({"task": "classify"}, "Did you mean 'classification'"),
        ({"trian": None}, "Did you mean 'train'"),
        ({"augment": ("flop",)}, "Did you mean 'flip'"),
        ({"mean": (0.5,)}, "`mean and std` must be as long as each other"),
        ({"mean": (0.5,), "std": (0.0,)}, "with std > 0"),
        ({"mean": (0.5,), "std": (1.0,)}, r"one for each channel of inputs \(3,\)"),
        ({"mean": 0.5, "std": 1.0}, r"one for each channel of inputs \(3,\), got \(0.5,\)"),
        ({"mean": "grey"}, "`mean` cannot become numbers: .*\nGive one for each channel"),
        ({"outputs": 2.5}, "`outputs` must be a whole number"),
        ({"outputs": 0}, "`outputs` must be a whole number, at least 1, got 0"),
        ({"train": X}, "`train` must be a pair of tensors or arrays"),
        ({"train": ("ab", Y)}, "`train` cannot become tensors"),
        ({"train": ({"a": X, "b": X}, Y)}, "`train` cannot become tensors: .*dict(.|\n)*several inputs as one tensor"),
        ({"train": Noisy()}, "must come with its number of outputs"),
        ({"test": Noisy(0)}, "`test` must hold one example at least"),
        ({"test": torch.utils.data.ChainDataset([])}, "`test` must be a data set with a length"),
        (
            {"test": torch.utils.data.StackDataset(X, X, X)},
            "`test` must give pairs of a tensor .several inputs in one. and a target",
        ),
    ],
)
def test_data_that_break_a_rule(change: dict[str, Any], message: str) -> None:
    with pytest.raises(SetupError, match=message) as caught:
        data.check_targets(data.splits_from(GOOD | change))
    assert "`data`" in str(caught.value)


Z = torch.zeros(4, 1, 6, 6)


@pytest.mark.parametrize(
    ("inputs", "targets", "task"),
    [
        (Z, Z[:, 0].long(), "own"),  # a map
        (Z[:, 0], Z[:, 0].long(), "own"),
        (Z.byte(), Z.byte(), "own"),
        (Z, torch.zeros(4, 3, dtype=torch.int64), "own"),  # several labels
        (Z[:, 0, 0], Z[:, 0, 0].long(), "own"),  # as many as there are inputs, which are no tokens
        (Z, torch.zeros(4, 3, dtype=torch.bool), "own"),
        (Z[:, 0, 0].long(), Z[:, 0, 0].long(), "language"),  # tokens
        (Z[:, 0, :, :2], Z[:, 0, 0].long(), "language"),  # steps of a series
        (Z, torch.zeros(4, dtype=torch.int64), "classification"),
        (Z, torch.full((4, 2), torch.nan), "regression"),
    ],
)
@pytest.mark.parametrize("of_torch", [False, True])
def test_what_a_task_is_by_its_targets(inputs: Tensor, targets: Tensor, task: str, of_torch: bool) -> None:
    pair: Any = torch.utils.data.StackDataset(inputs, targets) if of_torch else (inputs, targets)
    splits = data.splits_from({"train": pair, "test": pair, "outputs": 5})
    assert splits.task == task
    if task == "own":
        data.check_targets(splits)
        with pytest.raises(SetupError, match=r"a data set .* must come with its number of outputs.\nAdd 'outputs': "):
            data.splits_from({"train": pair, "test": pair})


def test_outputs_for_the_steps_of_a_series_are_as_many_as_their_labels() -> None:
    steps = torch.full((4, 6, 2), 99.0), torch.arange(24).view(4, 6) % 5
    splits = data.splits_from({"train": steps, "test": steps})
    data.check_targets(splits)
    assert (splits.task, splits.outputs) == ("language", 5)


def test_tokens_that_do_not_count_are_no_tokens() -> None:
    tokens = torch.arange(24).view(4, 6) % 7
    hidden = tokens.clone()
    hidden[:, 0] = -100
    splits = data.splits_from({"train": (tokens, tokens), "test": (tokens, hidden)})
    data.check_targets(splits)
    assert (splits.task, splits.outputs) == ("language", 7)
    with pytest.raises(SetupError, match="`train` must have targets from 0 to 6, got -100 to"):
        data.check_targets(data.splits_from({"train": (tokens, hidden), "test": (tokens, tokens)}))
    hidden[0, 0] = -1
    with pytest.raises(SetupError, match="`test` must have targets from 0 to 6, got -1 to"):
        data.check_targets(data.splits_from({"train": (tokens, tokens), "test": (tokens, hidden)}))


@pytest.mark.parametrize("target", [{"boxes": X[0]}, [1, 2], "cat"])
def test_a_target_of_a_data_set_is_one(target: object) -> None:
    examples: Any = [(X[0], target)] * 4
    several = torch.utils.data.Subset(examples, range(4))
    with pytest.raises(SetupError, match=r"`train` must give as target a number or a tensor .several in one"):
        data.splits_from({"train": several, "test": several, "outputs": 5})


@pytest.mark.parametrize("found", [None, (X, Y), {"train": (X, Y)}])
def test_what_is_no_data_at_all(found: object) -> None:
    with pytest.raises(SetupError, match="`data` must be a dictionary with train and test, or a Splits"):
        data.splits_from(found)
    with pytest.raises(SetupError, match="`train` must be a pair or a data set"):
        data.splits_from(data.Splits([X, Y], (X, Y), (X, Y), 4))  # type: ignore[arg-type]
    with pytest.raises(SetupError, match="`validation` must hold one example at least"):
        data.splits_from(data.Splits((X, Y), Noisy(0), (X, Y), 4))
