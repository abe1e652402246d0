"""The evaluation matrix, tiny: every kind of data and network in one suite, by one command, in one report."""

import re
import struct
import zlib
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from samson.records import RunRecord, load_comparison
from tests.experiments.test_suites import working_in
from tests.programs import samson

METHODS = ["plain", "samson+clip"]
PROBLEMS = {
    "digits-mlp": 'network = "mlp"\n',
    "fashion-mnist-vgg13-narrow": 'data = "fashion-mnist"\nnetwork = "vgg13-narrow"\n',
    "cifar10-resnet8": 'data = "cifar10"\nnetwork = "resnet8"\n',
    "cifar10-mobilenetv2-tiny": 'data = "cifar10"\nnetwork = "mobilenetv2-tiny"\n',
    "tiny-shakespeare-gpt-tiny": 'data = "tiny-shakespeare"\nnetwork = "gpt-tiny"\n',
    **(
        {"japanese-vowels-gru": 'data = "japanese-vowels"\nnetwork = "gru"\nbase = "AdamW"\n'}
        if find_spec("aeon")
        else {}
    ),
}
BATCH = {"tiny-shakespeare-gpt-tiny": 8, "digits-mlp": 512, "fashion-mnist-vgg13-narrow": 32}
FAMILIES = {"gaussian": ["0.1"], "pcm": ["1 day"], "bit-errors": ["0.01"], "int4": ["int4"]}
HEAD = """
data_root = "data"
methods = ["plain", "samson+clip"]
chips = [
  {noise = "gaussian", levels = [0.1]},
  {noise = "pcm", levels = ["1d"]},
  {noise = "bit-errors", levels = [0.01]},
  "int4",
]
seeds = 1
trials = 2
examples = 8
"""


def write_data(folder: Path) -> None:
    """Files of each set as it is handed on, with a few pictures of noise, and a text."""
    draw = np.random.default_rng(0)
    (folder / "FashionMNIST").mkdir(parents=True)
    for part in ("train", "t10k"):
        for kind, numbers in (
            ("images-idx3", draw.integers(256, size=(40, 28, 28))),
            ("labels-idx1", np.arange(40) % 10),
        ):
            head = struct.pack(f">4B{numbers.ndim}I", 0, 0, 8, numbers.ndim, *numbers.shape)
            (folder / "FashionMNIST" / f"{part}-{kind}-ubyte").write_bytes(head + numbers.astype(np.uint8).tobytes())
    (folder / "cifar-10-batches-bin").mkdir()
    for name in (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"):
        count = 8 if name == "test_batch" else 4
        rows = np.hstack([np.arange(count)[:, None], draw.integers(256, size=(count, 3072))]).astype(np.uint8)
        (folder / "cifar-10-batches-bin" / f"{name}.bin").write_bytes(rows.tobytes())
    text = "".join(chr(97 + zlib.crc32(str(number).encode()) % 7) + " is the next; " for number in range(200))
    (folder / "tinyshakespeare").mkdir()
    (folder / "tinyshakespeare" / "input.txt").write_text(text)


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the comparison."""
    with working_in(tmp_path_factory.mktemp("matrix")) as folder:
        write_data(folder / "data")
        tables = [
            f"[[problems]]\n{text}recipe = {{epochs = 1, batch_size = {BATCH.get(name, 16)}}}\n"
            for name, text in PROBLEMS.items()
        ]
        (folder / "suite.toml").write_text("\n".join([HEAD, *tables]))
        status, _, err = samson("compare", "suite.toml", "--out", "out", "--jobs", 1, "--quiet")
        assert status == 0, err
    return folder


def runs(folder: Path) -> tuple[RunRecord, ...]:
    return load_comparison(folder / "out").records


def test_every_run_is_finished_on_every_family(compared: Path) -> None:
    records = runs(compared)
    assert [(r.problem.name, r.method) for r in records] == [(p, method) for p in PROBLEMS for method in METHODS]
    for record in records:
        assert {family.name: [kind.label for kind in family.kinds] for family in record.families} == FAMILIES
        assert [[len(chips) for chips in family] for family in record.measured] == [[2]] * 4
        assert record.training.diverged_at is None
        assert record.examples == (2 if record.problem.name.startswith("tiny") else 8)
    metrics = {record.problem.name: (record.problem.metric, record.problem.base) for record in records}
    assert metrics.pop("tiny-shakespeare-gpt-tiny") == ("bits-per-token", "AdamW")
    bases = {"japanese-vowels-gru": "AdamW"}
    assert metrics == {name: ("accuracy", bases.get(name, "SGD")) for name in metrics}


def test_methods_and_chips_have_a_say(compared: Path) -> None:
    """By cross-entropy all would differ; accuracies of so few examples may well be equal."""
    text = [record for record in runs(compared) if record.problem.metric == "bits-per-token"]
    values = [value for record in text for family in record.measured for kind in family for value in kind]
    deterministic = [kind[0] == kind[1] for record in text for kind in record.measured[3]]
    assert deterministic == [True] * 2, "quantised weights are the same on every chip"
    assert len(set(values)) == len(values) - 2
    assert len({record.clean for record in text}) == 2
    gradients = {record.method: record.training.gradients for record in text}
    assert gradients["samson+clip"] == 2 * gradients["plain"] > 0


def test_one_report_ranks_methods_over_it_all(compared: Path) -> None:
    page = (compared / "out" / "report.html").read_text()
    assert f"{len(PROBLEMS)} problems, 4 families of chips" in page
    overview = page[page.index("Mean rank") : page.index("<nav>")]
    for method in METHODS:
        assert f"<th scope='row'>{method.replace('+', '<wbr>+')}</th>" in overview
    heads = re.findall(r"<th[^>]*>([^<]*)</th>", overview[overview.index("<thead") : overview.index("</thead>")])
    assert heads[:-1] == ["Method", "without noise", *FAMILIES, "all"]
    assert f"over {4 * len(PROBLEMS)} pairs of a problem and a family of chips" in page
