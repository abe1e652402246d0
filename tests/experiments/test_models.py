"""Models by name, with weights from files; bad names and files are errors that say the mend, and nothing is run."""

import io
import re
import sys
import warnings
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from urllib.error import URLError

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from samson._factories import find_factory, import_own, own_modules
from samson.experiments import Checkpoint, Request, SetupError, load_model, load_splits, make_network, save_checkpoint
from samson.noise import Periphery, ThroughChip
from tests.conftest import Alike, equal, snapshot
from tests.programs import samson

CODE = """
import torch
from torch import nn

class Net(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Linear(4, 3), nn.BatchNorm1d(3))

def make():
    return Net()

def sized(classes):
    return nn.Linear(4, classes)

def wide(width=7):
    return nn.Linear(4, width)

def data():
    x = torch.randn(20, 4)
    return {"train": (x, torch.arange(20) % 6), "test": (x, torch.arange(20) % 6)}

def batches():
    return [data()["test"]]

def number():
    return 3

def broken():
    return 1 / 0
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's folder with code of their own."""
    (tmp_path / "my_nets.py").write_text(CODE)
    (tmp_path / "my_typo.py").write_text("def f(:\n")
    (tmp_path / "my_needs.py").write_text("import no_such_package\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "my_nets", raising=False)
    return tmp_path


def message(spec: str, weights: Path | None = None, **options: bool) -> str:
    with pytest.raises(SetupError) as caught:
        load_model(spec, weights, **options)
    assert len(str(caught.value).splitlines()) <= 4
    return str(caught.value)


@pytest.mark.parametrize(("shape", "outputs"), [((1, 8, 8), 10**15), ((1, 8, 8), 10**30), ((10**15, 8, 8), 10)])
def test_a_network_that_cannot_be_made_is_named(folder: Path, shape: tuple[int, ...], outputs: int) -> None:
    path = folder / "sgd-seed3.safetensors"
    save_checkpoint(path, {}, Checkpoint("small-resnet", shape, outputs, "digits", "sgd", 3))
    assert f"cannot be made for `shape` {shape} and `outputs` {outputs}: " in message(str(path))


@pytest.mark.parametrize("prefix", ["", "_orig_mod.", "module.", "module._orig_mod."])
def test_a_saved_network_comes_back(folder: Path, prefix: str) -> None:
    """Also one that a trainer gave as it was compiled, or in DistributedDataParallel."""
    model, path = make_network("small-resnet", (1, 8, 8), 10, seed=3), folder / "sgd-seed3.safetensors"
    state = {f"{prefix}{name}": value for name, value in model.state_dict().items()}
    save_checkpoint(path, state, Checkpoint("small-resnet", (1, 8, 8), 10, "digits", "sgd", 3))
    loaded = load_model(str(path))
    assert equal(snapshot(loaded), snapshot(model))
    assert equal(snapshot(load_model(path)), snapshot(model))
    assert not equal(snapshot(loaded), snapshot(make_network("small-resnet", (1, 8, 8), 10, seed=4)))
    assert not loaded.training
    assert "`weights` must be left out" in message(str(path), path)
    assert "which is not there" in message("none.safetensors")


def test_a_saved_network_of_ones_own_is_named_by_its_user(folder: Path) -> None:
    """The file names no code to run; it tells how many outputs a function is to be given."""
    torch.manual_seed(5)
    for name, model in (("sized", nn.Linear(4, 6)), ("make", nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3)))):
        path = folder / f"{name}.safetensors"
        about = Checkpoint(f"my_nets:{name}", (4,), 6, "my_nets:data", "sgd", 0)
        save_checkpoint(path, model.state_dict(), about)
        said = message(str(path))
        assert "a file names no code to run" in said
        assert f"my_nets:{name} --weights {path} --data my_nets:data" in said
        assert "my_nets" not in sys.modules
        assert equal(snapshot(load_model(f"my_nets:{name}", path)), snapshot(model))
        sys.modules.pop("my_nets")
    (folder / "sized.json").unlink()
    assert "without arguments" in message("my_nets:sized", folder / "sized.safetensors")
    assert "`weights` must be a file, got '.'" in message("my_nets:make", Path())


def test_data_say_how_many_outputs_a_function_must_be_given(folder: Path) -> None:
    """One that can be called without is: a number may mean something else to it."""
    model, (inputs, targets) = Request("my_nets:sized", data="my_nets:data").load()
    assert (model.out_features, inputs.shape, int(targets.max())) == (6, (20, 4), 5)
    assert Request("my_nets:sized", data="digits").load()[0].out_features == 10
    assert Request("my_nets:wide", data="my_nets:data").load()[0].out_features == 7
    with pytest.raises(SetupError, match="without arguments, got 'my_nets:sized'"):
        Request("my_nets:sized", data="my_nets:batches").load()
    torch.save(nn.Linear(4, 6).state_dict(), folder / "weights.pt")
    assert Request("my_nets:sized", folder / "weights.pt", data="my_nets:data").load()[0].out_features == 6


@pytest.mark.parametrize("name", ["make", "Net"])
def test_a_function_of_the_current_folder(name: str) -> None:
    state, path = torch.get_rng_state(), list(sys.path)
    model, again = load_model(f"my_nets:{name}"), load_model(f"my_nets:{name}")
    assert [type(module).__name__ for module in model.modules()] == ["Net", "Linear", "BatchNorm1d"]
    assert equal(snapshot(model), snapshot(again))  # the initial weights are always the same
    assert not model.training
    assert torch.equal(torch.get_rng_state(), state)
    assert sys.path == path


def test_another_process_imports_the_same(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was named comes from the current folder, else what is installed goes before what lies there."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    antigravity = find_spec("antigravity").origin
    for name in ("beside", "this", "antigravity"):
        monkeypatch.delitem(sys.modules, name, raising=False)
        (folder / f"{name}.py").write_text("def make(): return __file__")
    assert find_factory("this:make")() == str(folder / "this.py"), "it has the name of one that is installed"
    names = own_modules()
    assert "this" in names
    assert not {"antigravity", "torch"} & {*names}
    del sys.modules["this"]
    import_own(names)
    assert sys.modules.pop("this").make() == str(folder / "this.py")
    assert find_spec("beside").origin == str(folder / "beside.py")
    assert find_spec("antigravity").origin == antigravity != str(folder / "antigravity.py")


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("my_nets:mak", ["'mak' is unknown", "Did you mean 'make'?"]),
        ("my_net:make", ["no module 'my_net'", "Did you mean 'my_nets'?"]),
        ("my_nets", ["MODULE:FUNCTION", "got 'my_nets'", "torchvision/resnet18"]),
        ("my_nets:", ["MODULE:FUNCTION", "got 'my_nets:'"]),
        (":make", ["MODULE:FUNCTION"]),
        ("my-nets.py:make", ["MODULE:FUNCTION", "networks:resnet"]),
        ("my_nets:sized", ["without arguments", "(classes)", "Write a function that passes them"]),
        ("my_nets:number", ["returns an nn.Module", "got 3"]),
        ("my_nets:broken", ["ZeroDivisionError", "my_nets.py, line 29"]),
        ("my_typo:f", ["SyntaxError", "my_typo.py, line 1"]),
        ("my_needs:f", ["ModuleNotFoundError", "no_such_package", "my_needs.py, line 1"]),
        ("my_nets.pt", ["holds weights alone", "`weights`"]),
        ("my_nets.bin", ["holds weights alone", "`weights`"]),
        ("../my_nets.onnx", ["a graph without layers", "torch.save(model.state_dict(), 'weights.pt')"]),
        ("./my_nets.py", ["MODULE:FUNCTION", "No model is read from that path", "`weights`"]),
        ("runs", ["MODULE:FUNCTION", "No model is read from that path"]),
        ("./runs", ["MODULE:FUNCTION", "No model is read from that path"]),
        ("tim/resnet18", ["'tim' is unknown", "Did you mean 'timm'?"]),
    ],
)
def test_a_wrong_name_says_the_mend(folder: Path, spec: str, words: list[str]) -> None:
    (folder / "runs").mkdir()
    said = message(spec)
    for word in ["MODEL", *words]:
        assert word in said


def saved(model: nn.Module, form: str, folder: Path) -> Path:
    state, path = model.state_dict(), folder / f"weights.{form.partition(' ')[0]}"
    if form == "safetensors":
        save_file(state, path)
    elif form in ("pt", "bin"):
        torch.save(state, path)
    elif form == "pt ddp":
        torch.save({f"module.{name}": value for name, value in state.items()}, path)
    elif form == "pt averaged":
        torch.save(torch.optim.swa_utils.AveragedModel(model).state_dict(), path)
    else:
        torch.save({"epoch": 3, form.partition(" ")[2]: state}, path)
    return path


FORMS = ["safetensors", "pt", "bin", "pth state_dict", "pt model", "pt model_state_dict", "pt ddp", "pt averaged"]


@pytest.mark.parametrize("form", FORMS)
def test_weights_from_a_file(folder: Path, form: str) -> None:
    torch.manual_seed(5)
    model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))
    path = saved(model, form, folder)
    loaded = load_model("my_nets:make", path)
    assert equal(snapshot(loaded), snapshot(model))
    assert equal(snapshot(loaded), snapshot(load_model("my_nets:make", str(path))))
    assert not equal(snapshot(loaded), snapshot(load_model("my_nets:make")))


def alike() -> nn.Module:
    return Alike(partial(nn.Linear, 2, 2))


def test_names_that_differ_by_the_prefix_of_a_wrapper_alone_are_kept_apart(folder: Path) -> None:
    model = alike()
    torch.save(model.state_dict(), folder / "alike.pt")
    assert equal(load_model(f"{__name__}:alike", folder / "alike.pt").state_dict(), model.state_dict())


def test_a_command_says_where_weights_come_from_that_were_not_given(folder: Path) -> None:
    """Those of a function may be initial ones."""
    torch.save(nn.Linear(4, 6).state_dict(), folder / "weights.pt")
    asked = "my_nets:sized", "--data", "my_nets:data", "--levels", ".1", "--trials", 2
    for weights in ([], ["--weights", "weights.pt"]):
        status, out, err = samson("evaluate", *asked, *weights)
        assert status == 0, err
        assert ("Weights are those that my_nets:sized makes." in out.splitlines()) == (not weights)


def test_learned_input_ranges_in_a_file_are_left_aside(folder: Path) -> None:
    """As a checkpoint of a training through a chip has them."""
    torch.manual_seed(5)
    model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))
    before = snapshot(model)
    ThroughChip(model, Periphery(), [torch.randn(8, 4)])
    with pytest.warns(UserWarning, match="1 learned input range left aside: chips have those of their calibration"):
        loaded = load_model("my_nets:make", saved(model, "pt", folder))
    assert equal(snapshot(loaded), before)


class Trap:
    """Writes a file when it is unpickled."""

    def __reduce__(self):
        return Path.write_text, (Path("sprung"), "x")


def test_nothing_is_unpickled(folder: Path) -> None:
    for content in (Trap(), {"state_dict": nn.Linear(4, 3).state_dict(), "trap": Trap()}):
        torch.save(content, folder / "trap.pt")
        assert "it could run code" in message("my_nets:make", folder / "trap.pt")
        assert not (folder / "sprung").exists()
    torch.load(folder / "trap.pt", weights_only=False)  # the trap works
    assert (folder / "sprung").exists()


def test_weights_that_do_not_fit(folder: Path) -> None:
    before = snapshot(load_model("my_nets:make"))
    other = nn.Sequential(nn.Linear(5, 3), nn.LayerNorm(3), nn.Linear(3, 3), nn.Linear(3, 3))
    said = message("my_nets:make", saved(other, "pt", folder))
    assert "must fit the Net" in said
    assert "2 missing: 1.running_mean, 1.running_var;" in said
    assert "4 unexpected: 2.weight, 2.bias, 3.weight, …" in said
    assert "1 of another shape: 0.weight (3, 5), not (3, 4)" in said
    assert equal(snapshot(load_model("my_nets:make")), before)


def test_numbers_of_another_kind_are_no_weights(folder: Path) -> None:
    """Codes of a quantised network have the names and shapes of its weights, and are none."""
    state = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3)).state_dict()
    for kind in (torch.int8, torch.complex64):
        torch.save(state | {"0.weight": state["0.weight"].to(kind)}, folder / "codes.pt")
        assert f"1 of another type: 0.weight {kind}, not torch.float32." in message("my_nets:make", folder / "codes.pt")
    torch.save({name: value.half() for name, value in state.items()}, folder / "half.pt")
    assert load_model("my_nets:make", folder / "half.pt")[0].weight.equal(state["0.weight"].half().float())


@pytest.mark.parametrize("prefix", ["", "net."])
def test_counts_of_batches_may_be_missing(folder: Path, prefix: str) -> None:
    """On them no output depends; old files and other frameworks have none."""
    torch.manual_seed(5)
    model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))
    state = {f"{prefix}{name}": value for name, value in model.state_dict().items() if "num_batches" not in name}
    torch.save(state, folder / "old.pt")
    assert equal(snapshot(load_model("my_nets:make", folder / "old.pt")), snapshot(model))


def test_a_part_of_a_file_is_told(folder: Path) -> None:
    state = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3)).state_dict()
    torch.save(state | {"_extra_state": {}}, folder / "more.pt")
    assert "of tensors alone, but these are none: _extra_state.\nSave it without" in message("my_nets:make", "more.pt")
    (folder / "net.bin.index.json").write_text("{}")
    save_file({"0.weight": state.pop("0.weight")}, folder / "net-00001-of-00002.safetensors")
    for name in ("net.bin.index.json", "net-00001-of-00002.safetensors"):
        assert "several files. Join them first" in message("my_nets:make", folder / name)


def damaged() -> bytes:
    """An archive whose directory is not where its end says."""
    torch.save({}, file := io.BytesIO())
    return file.getvalue().replace(b"PK\x01\x02", b"PK\x00\x00", 1)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("none.pt", None, ["`weights` must be a file"]),
        ("weights.h5", b"x", ["a .safetensors, .pt, .pth, .bin, .ckpt file"]),
        ("weights.onnx", b"x", ["`weights` must be layers or weights", "a graph without layers"]),
        ("cut.safetensors", b"x" * 30, ["is damaged"]),
        ("cut.pt", b"PK\x03\x04 and no more", ["is damaged"]),
        ("directory.pt", damaged(), ["is damaged"]),
        ("text.pt", b"hello", ["is damaged"]),
        ("empty.pt", b"", ["is damaged"]),
    ],
)
def test_a_damaged_file_of_weights(folder: Path, name: str, content: bytes | None, words: list[str]) -> None:
    if content is not None:
        (folder / name).write_bytes(content)
    said = message("my_nets:make", folder / name)
    for word in words:
        assert word in said


def test_programs_are_told_apart_and_give_their_weights_as_is_said(folder: Path) -> None:
    torch.manual_seed(5)
    model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3)).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's: this way will go
        torch.jit.save(torch.jit.script(model), folder / "scripted.pt")
    torch.export.save(torch.export.export(model, (torch.ones(2, 4),)), folder / "exported.pt2")
    for name in ("scripted.pt", "exported.pt2"):
        path = folder / name
        for said in (message("my_nets:make", path), message(str(path))):
            assert f"a program that was {path.stem}: noise does not reach its layers" in said
            [way] = re.findall(r"torch\.save\(.*'weights\.pt'\)", said)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            exec(way, {"torch": torch, "path": path})
        assert equal(snapshot(load_model("my_nets:make", folder / "weights.pt")), snapshot(model))
        (folder / "weights.pt").unlink()


def test_the_weights_of_a_part_of_a_model(folder: Path) -> None:
    torch.manual_seed(5)
    model, path = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3)), folder / "whole.ckpt"
    whole = {f"net.{name}": value for name, value in model.state_dict().items()}
    other = nn.Sequential(nn.Linear(5, 3), nn.BatchNorm1d(3)).state_dict()
    more = {f"of_another_shape.{name}": value for name, value in other.items()} | {
        "loss.weight": torch.ones(3),
        "teacher.0.weight": torch.zeros(3, 4),
    }
    torch.save({"state_dict": whole | more, "hyper_parameters": {"lr": 0.1}}, path)
    assert equal(snapshot(load_model("my_nets:make", path)), snapshot(model))
    twice = whole | {f"ema.{name}": value + 1 for name, value in model.state_dict().items()}
    torch.save({"state_dict": twice}, path)
    assert "must hold such a network once, got it as net., ema." in message("my_nets:make", path)
    torch.save({"state_dict": dict(list(whole.items())[1:])}, path)
    assert "missing: 0.weight" in message("my_nets:make", path)


def test_a_file_without_a_state_dict(folder: Path) -> None:
    torch.save({"epoch": 3, "loss": torch.ones(())}, folder / "other.pt")
    assert (
        "must hold a state dict, alone or as 'state_dict' or 'model' or 'model_state_dict', got epoch, loss"
        in message("my_nets:make", folder / "other.pt")
    )


@pytest.mark.parametrize("library", ["timm", "torchvision"])
def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch, library: str) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    said = message(f"{library}/resnet18")
    assert f"{library}/resnet18 needs {library}." in said
    assert 'pip install -c constraints.txt ".[vision]"' in said


def test_a_torchvision_of_another_torch_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in [module for module in sys.modules if module.partition(".")[0] == "torchvision"]:
        monkeypatch.delitem(sys.modules, module)
    (folder / "torchvision").mkdir()
    (folder / "torchvision" / "__init__.py").write_text("raise RuntimeError('operator nms does not exist')")
    monkeypatch.syspath_prepend(folder)
    with pytest.raises(SetupError) as of_data:
        load_splits("torchvision/MNIST", folder)
    for said in (message("torchvision/resnet18"), str(of_data.value)):
        assert "operator nms does not exist" in said
        assert f"belongs to torch {torch.__version__}" in said


@pytest.mark.needs("timm")
@pytest.mark.parametrize("library", ["timm", "torchvision"])
def test_models_of_a_library(folder: Path, library: str) -> None:
    state = torch.get_rng_state()
    model = load_model(f"{library}/resnet18")
    assert torch.equal(torch.get_rng_state(), state)
    assert model.fc.weight.shape == (1000, 512)
    torch.manual_seed(1)
    assert equal(snapshot(load_model(f"{library}/resnet18")), snapshot(model))
    with torch.no_grad():
        model.fc.bias.fill_(2.0)
    torch.save({"state_dict": model.state_dict()}, folder / "weights.pth")
    assert equal(snapshot(load_model(f"{library}/resnet18", folder / "weights.pth")), snapshot(model))
    said = message(f"{library}/resnet81")
    assert f"Did you mean {library}/resnet" in said
    assert "list_models()` lists all" in said
    assert "`pretrained` must be without `weights`" in message(
        f"{library}/resnet18", folder / "weights.pth", pretrained=True
    )


@pytest.mark.needs("torchvision")
def test_pretrained_weights_are_fetched_without_unpickling(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision import models

    monkeypatch.setenv("TORCH_HOME", str(folder))
    cache = folder / "hub" / "checkpoints"
    cache.mkdir(parents=True)
    torch.manual_seed(7)
    published = models.squeezenet1_1()
    path = cache / Path(models.SqueezeNet1_1_Weights.DEFAULT.url).name
    torch.save(published.state_dict(), path)
    assert equal(snapshot(load_model("torchvision/squeezenet1_1", pretrained=True)), snapshot(published))
    assert not equal(snapshot(load_model("torchvision/squeezenet1_1")), snapshot(published))
    torch.save(Trap(), path)
    assert "could not be fetched" in message("torchvision/squeezenet1_1", pretrained=True)
    assert not (folder / "sprung").exists()
    path.unlink()

    def offline(*_: object, **__: object) -> None:
        raise URLError("no network")

    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    said = message("torchvision/squeezenet1_1", pretrained=True)
    assert "could not be fetched: URLError: <urlopen error no network>" in said
    assert "give it with `weights`" in said


def test_pretrained_is_for_libraries_alone() -> None:
    assert "`pretrained` must be left out" in message("my_nets:make", pretrained=True)
    assert "`pretrained` must be left out" in message("a.safetensors", pretrained=True)
