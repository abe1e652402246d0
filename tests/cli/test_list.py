"""`samson list`: the catalogues in full, and a model's tensors as `describe` has them, in 80 columns."""

import re
from pathlib import Path

import pytest

from samson.experiments import DATA, NETWORKS, TUNED, Checkpoint, default_settings, make_network, save_checkpoint
from samson.noise import NOISES, PRESETS, describe
from samson.optim import RULES
from tests.programs import samson

CODE = """
from torch import nn
from torch.nn.utils import parametrizations

def net():
    model = nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 600), parametrizations.weight_norm(nn.Linear(600, 4)), nn.Linear(4, 5))
    model[3].weight = model[0].weight
    return model

def attention():
    return nn.MultiheadAttention(4, 2)

def bilinear():
    return nn.Bilinear(4, 4, 2)
"""  # noqa: E501


@pytest.fixture
def listed(monkeypatch: pytest.MonkeyPatch, module):
    """Run `samson list` in a folder with code of a user; gives status, output and errors."""
    module("listed_nets", CODE)
    monkeypatch.setenv("COLUMNS", "80")

    def call(*arguments: object) -> tuple[int, str, str]:
        status, out, err = samson("list", *arguments)
        assert all(len(line.rstrip()) <= 80 for line in out.splitlines())
        return status, out, err

    return call


def flat(text: str) -> str:
    """Without the line breaks of wrapped cells."""
    return " ".join(text.split())


@pytest.mark.parametrize(
    ("what", "names"),
    [
        ("chips", PRESETS),
        ("noises", NOISES),
        ("methods", ["sgd", *RULES, *TUNED["digits"]]),
        ("data", DATA),
        ("networks", NETWORKS),
    ],
)
def test_every_name_of_a_catalogue_is_listed(listed, what: str, names: list[str]) -> None:
    status, out, _ = listed(what)
    assert status == 0
    found = re.findall(r"^ (\S+)  ", out, flags=re.MULTILINE)
    assert [name for name in found if name in names] == list(names) or what == "methods"
    assert set(names) <= set(found)


def test_chips_come_with_constants_and_source(listed) -> None:
    out = flat(listed("chips")[1])
    assert "PCM(compensation=global, g_max_us=25) Joshi et al. 2020" in out
    assert "CMO(mapping=(g_min_us=9, pair=False), acceptance=0.002, constants=(g_min_us=9, g_max_us=88.2," in out
    assert "PCM(mapping=(per=channel), compensation=global, g_max_us=25); Periphery(dac_steps=254" in out
    for chip in PRESETS.values():
        assert chip.source in out
    for what in ("chips", "noises"):
        assert "is compensated, except where the name ends in -uncompensated." in flat(listed(what)[1])


def test_methods_come_with_their_defaults(listed) -> None:
    out = flat(listed("methods")[1])
    assert "rho=0.5, eta=0.01, policy=authors, p=inf; on digits rho=1.5" in out
    assert "rho=0.5, eta=0.01, policy=authors, p=inf, alpha=2, keep_norm=0; on digits rho=0.3, alpha=1.2" in out
    assert "All of them have lr=0.1, momentum=0.9, weight_decay=0.0005 with SGD, those that perturb" in out
    found = re.search(r"those that perturb (.*), and those that do so along the gradient (.*)\. Set one", out)
    modes, of_gradients = (set(re.findall(r"(\w+)=", listed)) for listed in found.groups())
    for core in ("noise", "rwp", *RULES):
        has = (modes | of_gradients) & set(default_settings(core))
        assert has == (modes | of_gradients if core in RULES else modes)


def cells(out: str) -> list[list[str]]:
    """The rows of the tables, whose cells lie at least two blanks apart."""
    return [re.split(r"\s{2,}", line.strip()) for line in out.splitlines()]


def test_layers_are_those_of_describe(listed, tmp_path: Path) -> None:
    model, path = make_network("small-resnet", (1, 8, 8), 10, seed=0), tmp_path / "sgd-seed0.safetensors"
    save_checkpoint(path, model.state_dict(), Checkpoint("small-resnet", (1, 8, 8), 10, "digits", "sgd", 0))
    status, out, _ = listed("layers", path, "--chip", "standard-hwa")
    assert status == 0
    above, below = out.split("Not on the chip")
    rows = describe(model, tile_inputs=512)
    for row in rows:
        shape = "×".join(map(str, row.shape))
        end = [str(row.tiles)] if row.on_chip else [row.reason.removeprefix("digital: ").split(" of a ")[0]]
        assert [row.name, row.layer_type, shape, f"{row.elements:,}", *end] in cells(above if row.on_chip else below)
    on = [row for row in rows if row.on_chip]
    held, total = sum(row.elements for row in on), sum(p.numel() for p in model.parameters())
    tiles = sum(row.tiles for row in on)
    assert (
        f"On the chip: {len(on)} of {len(rows)} tensors, {held:,} of {total:,} elements "
        f"({100 * held / total:.1f} %), {tiles} tiles, {2 * held:,} devices." in flat(out)
    )


def test_select_and_notes(listed) -> None:
    _, out, _ = listed("layers", "listed_nets:net")
    text = flat(out)
    assert "1.weight Linear 600×4 2,400" in text
    assert "takes the place of the computed weight" in text
    assert "Tiles" not in text  # without a chip, tiles have no size
    # 2,400 + 2,400 + 20 on the chip; beside them an embedding of 20 and biases of 609; magnitudes are no weights
    assert "On the chip: 3 of 7 tensors, 4,820 of 5,449 elements (88.5 %)." in text
    out = flat(listed("layers", "listed_nets:net", "--select", "1", "--select", "3", "--chip", "int8")[1])
    # 2,400 + 20 on the chip; the computed weight of 2,400 is not
    assert "On the chip: 2 of 7 tensors, 2,420 of 5,449 elements (44.4 %)." in out
    assert "3.weight" not in flat(listed("layers", "listed_nets:net", "--select", "1")[1]).split("Not on")[0]


def test_a_chip_of_ones_own_counts_its_tiles(listed, tmp_path: Path) -> None:
    (tmp_path / "chip.toml").write_text(
        'source = "x"\n[noise]\nfamily = "pcm"\nmapping = {per = "tile", tile_inputs = 100}\n'
    )
    out = flat(listed("layers", "listed_nets:net", "--chip", "chip.toml")[1])
    assert "elements (88.5 %), 8 tiles, 9,640 devices." in out  # 600 inputs take 6, the others 1 each
    (tmp_path / "chip.toml").write_text('source = "x"\n[periphery]\ntile_inputs = 200\n')
    assert "5 tiles." in flat(listed("layers", "listed_nets:net", "--chip", "chip.toml")[1])


def test_a_chip_that_cannot_hold_a_layer_says_so(listed) -> None:
    status, out, _ = listed("layers", "listed_nets:bilinear", "--chip", "standard-hwa")
    assert status == 0
    assert "can't hold all of it: `periphery` must go on linear, convolution and recurrent layers" in flat(out)
    for network in ("net", "attention"):
        assert "can't hold" not in listed("layers", f"listed_nets:{network}", "--chip", "standard-hwa")[1]
