"""Bad commands, one a row: status 2, at most four lines that name what was given and the rule or the mend, no run."""

import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from samson.experiments import Checkpoint, make_network, save_checkpoint

MINE = """
import torch
from torch import nn

def network():
    return nn.Linear(6, 3)

def batches():
    x = torch.randn(60, 6)
    return [(x, x[:, :3].argmax(1))]

def two():
    return nn.Sequential(nn.Linear(6, 4), nn.Linear(4, 3))

def empty(): return []
def none(): return None
def text(): return "abc"
def words(): return ["ab", "cd"]
def unlabelled(): return [torch.randn(4, 6)]
def of_five(): return [(torch.randn(4, 5), torch.zeros(4).long())]
def norms(): return nn.BatchNorm1d(6)
def looks_up(): return nn.Sequential(nn.Embedding(4, 6), nn.Linear(6, 3))
def tokens(): return [(torch.full((4,), 9), torch.zeros(4).long())]
def fails(): raise KeyError("x")
def takes(n): return None

from dataclasses import dataclass

@dataclass(frozen=True)
class Own:
    k: float

def raises(level): raise KeyError(level)
"""
E = "evaluate mine:network"
D = f"{E} --data mine:batches"
B = "budget mine:network --data mine:batches"
S = "sensitivity mine:two --data mine:batches"
K = "calibrate mine:network --data mine:batches --out k.toml"
C = "compare --out out --methods sgd --seeds 1 --epochs 1 --trials 2 --jobs 1"

ROWS = {
    "evaluat": "Did you mean 'evaluate'",
    "evaluate": "Missing argument",
    f"{E} extra": "unexpected extra argument",
    f"{D} --trails 5": "No such option: --trails",
    "@": "must not be empty.|Is a variable of the shell unset?",
    "evaluate @": "what follows evaluate must not be empty",
    f"{E} --weights @ --data mine:batches": "what follows --weights must not be empty|variable of the shell unset?",
    f"{D} --resume @": "what follows --resume must not be empty",
    f"{D} --out=": "what follows --out= must not be empty",
    "train --epochs 1 --out @": "what follows --out must not be empty",
    "evaluate :": "MODEL must be MODULE:FUNCTION, got ':'",
    "evaluate mine:netwrk": "'netwrk' is unknown.|Did you mean 'network'",
    "evaluate mien:network": "no module 'mien'|Did you mean 'mine'",
    "evaluate net:network": "no module 'net', neither installed nor in|Go to the folder of the module, or install it.",
    "evaluate mine:fails --data mine:batches": "MODEL 'mine:fails' raised KeyError|mine.py, line",
    "evaluate mine:takes --data mine:batches": "without arguments, got 'mine:takes'",
    "evaluate mine:none --data mine:batches": "a function that returns an nn.Module, got None",
    "evaluate mine:norms --data mine:batches": "--select must leave a weight for the chip|BatchNorm1d",
    "evaluate dir": "MODEL must be `….safetensors` of a comparison|got 'dir'",
    "evaluate dir.safetensors": "MODEL must be a `.safetensors` file, got 'dir.safetensors', which is not there",
    "evaluate p.pt": "got 'p.pt', which holds weights alone|--weights",
    "evaluate x/y": "MODEL: 'x' is unknown.|Available: timm, torchvision",
    "evaluate bare.safetensors": "got 'bare.safetensors', which holds weights alone|`.json`|Give it with --weights",
    E: "--data must be one of digits|got None",
    f"{E} --data digit": "'digit' is unknown.|Did you mean 'digits'",
    f"{E} --data mine:none": "a function that returns batches, got None",
    f"{E} --data mine:empty": "--data must hold at least one example",
    f"{E} --data mine:text": "--data must be a pair of tensors|got str",
    f"{E} --data mine:words": "A batch of --data must be|got str",
    f"{E} --data mine:unlabelled": "must have targets|got inputs alone",
    f"{E} --data mine:of_five": "MODEL 'mine:network' raised RuntimeError|(4x5 and 6x3)",
    "evaluate mine:looks_up --data mine:tokens": "MODEL 'mine:looks_up' raised IndexError|Give data that it can take",
    f"{E} --data digits": "MODEL 'mine:network' raised RuntimeError",
    f"{E} --data mine:fails": "--data 'mine:fails' raised KeyError",
    f"{E} --data empty.safetensors": "must pair each input with a target, got 0 inputs",
    f"{E} --data uneven.safetensors": "got 3 inputs and 2 targets",
    f"{E} --data half.safetensors": "a file with `inputs` and `targets`|Add ['targets']",
    f"{E} --data dir.safetensors": "'dir.safetensors' cannot be read",
    f"{E} --data broken.safetensors": "'broken.safetensors' cannot be read",
    f"{E} --data digits --split tset": "--split: 'tset' is unknown|Did you mean 'test'",
    f"{D} --trials 0": "--trials must be |got 0",
    f"{D} --trials 2.5": "'--trials'|valid integer",
    f"{D} --seed -1": "--seed must be |got -1",
    f"{D} --levels ,": "--levels must be a number, got ''",
    f"{D} --levels nan": "--levels must be ≥ 0 and finite, got 'nan'",
    f"{D} --levels 1e400": "--levels must be ≥ 0 and finite",
    f"{D} --levels 0": "--levels must be at least one level above 0",
    f"{D} --levels .1,.1": "--levels must be without repetition",
    f"{D} --noise Gaussian": "Did you mean 'gaussian'",
    f"{D} --noise bit-errors --levels 2": "--levels: '2' does not fit the noise 'bit-errors'|`rate` must be ≤ 1",
    f"{D} --levels 1h": "--levels must be a number, got '1h'",
    f"{D} --noise pcm --levels 1w": "--levels must be a number, or an age with s, m, h, d, y, got '1w'",
    f"{D} --noise pcm --levels -1": "--levels must be ≥ 0 and finite, got '-1'. Write for example 1h,1d.",
    f"{D} --levels -1": "--levels must be ≥ 0 and finite, got '-1'. Write for example 0,.1,.2.",
    f"{D} --times 1d": "--times must be given with --chip only",
    f"{D} --chip pmc": "--chip: 'pmc' is unknown|Did you mean 'pcm'",
    f"{D} --chip broken.toml": "--chip 'broken.toml'|must be a TOML file",
    f"{D} --chip binary.toml": "--chip 'binary.toml'|must be a TOML file",
    f"{D} --chip deep.toml": "--chip 'deep.toml'|recursion",
    f"{D} --chip code.toml": "--chip 'code.toml'|a class of WeightNoise that is a dataclass, got 'mine:network'",
    f"{D} --chip dir.toml": "--chip must be a TOML file, got 'dir.toml': Is a directory",
    f"{D} --chip none.toml": "--chip must be a TOML file, got 'none.toml': No such file",
    f"{D} --calibration ranges.toml": "--calibration must be given with a chip that has a periphery|standard-hwa",
    f"{D} --chip pcm --calibration ranges.toml": "--calibration must be given with a chip that has a periphery",
    f"{D} --chip standard-hwa --calibration none.toml": "--calibration 'none.toml': No such file",
    f"{D} --chip standard-hwa --calibration broken.toml": "--calibration 'broken.toml': `path` must be a TOML file",
    f"{D} --chip standard-hwa --calibration ranges.toml": "must name layers of the model and parts of them",
    f"{B} --chip pcm --calibration ranges.toml": "--calibration must be given with a chip that has a periphery",
    "calibrate mine:network --data mine:batches": "Missing option '--out'",
    f"{K} --quantile 0": "--quantile must be above 0, and 1 at most, got 0.0",
    f"{K} --adc-quantile nan": "--adc-quantile must be above 0, and 1 at most, got nan",
    "calibrate mine:network --data mine:batches --out k.json": "--out must be a .toml file, got 'k.json'",
    f"{K} --adc-quantile .9": "--adc-quantile must be left out without a chip that has ADCs, got 0.9",
    f"{K} --split test": "--split must be train or validation, got 'test'",
    f"{K} --chip pcm": "--chip must be one that has a periphery, got 'pcm'",
    f"{K} --select zzz": "--select must leave a weight for the chip, got ['zzz']",
    "calibrate mine:network --data mine:empty --out k.toml": "--data must run every layer on the chip, but MODEL had",
    "calibrate mine:network --data mine:batches --out mine.py/k.toml": "--out: 'mine.py/k.toml' cannot be written",
    f"{D} --chip pcm --times 1": "--times must be numbers ≥ 0 with one of s, m, h, d, y|got '1'",
    f"{D} --chip pcm --times -1s": "got '-1s'",
    f"{D} --chip pcm --times 1e999y": "got '1e999y'",
    f"{D} --chip reram-wan2022 --times 1h": "--times: 1 h does not fit|(1 s, 1 day or 2 days), got 3600.0 (1 h)",
    f"{D} --chip int8 --times 1y": "--times must be left out for int8, which does not age, got '1 year'",
    f"{D} --chip pcm --levels .1": "--levels must be left out with --chip, got '.1'",
    f"{D} --chip pcm --noise pcm": "--noise must be left out with --chip, got 'pcm'",
    f"{D} --chip gaussian": "--chip: 'gaussian' is a noise.|Give it with --noise.",
    f"{D} --chip mine:Own": "a function or a class without arguments, got 'mine:Own', which has (k: float)",
    f"{D} --chip own.toml": "a class of WeightNoise that is a dataclass, got 'mine:Own'|Derive it from",
    f"{D} --noise mine:Own": "--noise must be a function or a class that gives a noise|samson.noise.WeightNoise",
    f"{D} --precision 0": "--precision must be a half-width > 0, got 0.0",
    f"{D} --precision nan": "--precision must be a half-width > 0, got nan",
    f"{D} --precision .1 --trials 5": "--trials and --precision exclude each other",
    f"{D} --precision .1 --max-trials 1": "--max-trials must be |got 1",
    f"{D} --max-trials 9": "--max-trials must be left out without --precision, got 9",
    f"{D} --about everything": "--about must be one of|got 'everything'",
    f"{D} --at-least nan": "--at-least must be finite, got nan",
    f"{D} --at-least 95": "--at-least must be at most 1, as accuracy is, got 95.0. A share of 95 % is 0.95.",
    f"{D} --metric acuracy": "--metric: 'acuracy' is unknown|Did you mean 'accuracy'",
    f"{D} --select [": "--select must leave a weight for the chip, got ['[']|`weight`",
    f"{D} --read-block 0": "--read-block must be at least 1, got 0",
    f"{D} --norms-on digits": "--norms-on must be SET/train or SET/validation, got 'digits'|Write digits/train",
    f"{D} --norms-on digits/test": "--norms-on: 'test' is unknown|Available: train, validation",
    f"{D} --norms-on mine:batches": "MODEL must have a batch-norm layer",
    f"{D} --autocast fp8": "--autocast: 'fp8' is unknown|bfloat16",
    f"{D} --device cuda:99": "--device must be cpu, or a cuda that is there, got 'cuda:99'",
    f"{D} --device mps": "--device must be cpu, or a cuda that is there, got 'mps'",
    f"{B} --device quantum": "--device must be a device of torch, got 'quantum'",
    f"{K} --device cuda:99": "--device must be cpu, or a cuda that is there, got 'cuda:99'",
    f"{D} --executor slurm": "--executor: 'slurm' is unknown|serial, torchrun, ray",
    f"{D} --resume mine.py": "'--resume'|is a file",
    f"{D} --resume trained": "--resume must be for trials alone, got 'trained'|a comparison or a training",
    f"{D} --resume mine.py/below": "--resume must be a folder that can be written, got 'mine.py/below'",
    f"{D} --out dir": "--out must be a file, got 'dir'",
    f"{D} --page mine.py/x.html": "--page: 'mine.py/x.html' cannot be written",
    f"{D} --out e.txt": "--out must be a .json file, got 'e.txt'|Write e.json",
    f"{D} --page e.htm": "--page must be a .html file, got 'e.htm'|Write e.html",
    f"{D} --executor torchrun": "--executor torchrun must run under torchrun|-m samson",
    f"{D} --chip none-compensated.toml": "[noise]: `compensation` must be 'global' or 'column', got 'none'|"
    'family = "pcm-uncompensated"',
    "evaluate mine:two --data mine:batches --chip standard-hwa --calibration few.toml": (
        "--calibration 'few.toml': `input_ranges` must name each layer"
    ),
    f"{D} --weights p.pt": "--weights 'p.pt'|state dict",
    f"{D} --weights dir": "--weights must be a file, got 'dir'",
    f"{D} --weights mine.py": "--weights must be a .safetensors, .pt, .pth, .bin, .ckpt file, got 'mine.py'",
    f"{D} --weights net.safetensors": "--weights 'net.safetensors' must fit the Linear|missing: weight, bias",
    f"{D} --weights computed.safetensors": "1 missing: weight|by a function that registers the same parametrizations.",
    f"{D} --pretrained": "--pretrained must be left out for a function of one's own",
    "evaluate net.safetensors --weights p.pt": "--weights must be left out for 'net.safetensors'",
    f"{B} --low 1 --high .1": "--low and --high must be levels with 0 < low < high, got 1.0 and 0.1",
    f"{B} --low 1h": "--low must be a number, got '1h'",
    f"{B} --chip pcm --high 1h,1d": "--high must be a number, or an age with s, m, h, d, y, got '1h,1d'",
    f"{B} --chip pcm --low 1d --high 1h": "--low and --high must be levels with 0 < low < high, got 86400.0 and 3600.0",
    f"{B} --low nan": "--low: nan does not fit 'gaussian'",
    f"{B} --max-drop -1": "--max-drop must be ≥ 0, got -1.0",
    f"{B} --criterion median": "--criterion must be 'mean' or 'yield', got 'median'",
    f"{B} --criterion yield --min-yield 1": "--min-yield must lie between 0 and 1, got 1.0",
    f"{B} --criterion yield --trials 3": "--trials must be at least 29|got 3",
    f"{B} --noise int8": "--noise: 'int8' is a chip.|Give it with --chip.",
    f"{B} --noise mine:network": "--noise must be a function or a class that takes a level, got 'mine:network'",
    f"{B} --noise mine:raises": "--noise 'mine:raises' raised KeyError|mine.py, line",
    f"{B} --chip int8": "--chip must be one that ages, for a budget, got 'int8'",
    f"{B} --chip reram-wan2022": "--chip must be known at every age|'reram-wan2022'|interpolate = true|--high is 2d",
    f"{B} --chip between.toml": "--high: 10 years does not fit 'between.toml'|1 day or 2 days)|or between them",
    f"{B} --chip pcm --noise pcm": "--noise must be left out with --chip, got 'pcm'",
    f"{B} --min-yield .5": "--min-yield must be left out without --criterion yield, got 0.5",
    f"{B} --trials 1": "--trials must be |got 1",
    "sensitivity mine:network --data mine:batches": "--select must leave at least 2 layers",
    f"{S} --max-drop 0": "--max-drop must be > 0|got 0.0",
    f"{S} --level -1": "must be ≥ 0 and finite, got '-1'",
    f"{S} --trials 1": "--trials must be |got 1",
    f"{S} --levels .1,.2": "--level must be one level for a sensitivity, got '.1,.2'",
    f"{S} --chip pcm --level .1": "--levels must be left out with --chip, got '.1'",
    f"{S} --chip pcm --times 1s,1d": "--time must be one time for a sensitivity, got '1s,1d'",
    "report none": "DIR must be a folder with finished runs|got 'none'",
    "report mine.py": "DIR must be a folder with finished runs|got 'mine.py'",
    "report hostile": "hostile/records/sgd-seed0.json` is not readable as a record",
    "sharpness dir": "DIR must be a folder with finished runs|Run `samson compare` first",
    "sharpness dir --steps 0": "--steps must be at least 1, got 0",
    "sharpness dir --trials 1": "--trials must be at least 2 chips|got 1",
    "list chip": "Did you mean 'chips'",
    "list layers mine:none": "a function that returns an nn.Module, got None",
    "list layers mine:norms": "BatchNorm1d|--select must leave a weight for the chip",
    "list layers mine:network --weights net.safetensors": "--weights 'net.safetensors' must fit the Linear",
    "list layers mine:network --chip x": "--chip: 'x' is unknown",
    "list layers mine:network --chip pcm-herms": "--chip|Did you mean 'pcm-hermes'?|FILE.toml",
    "list layers mine:network --chip none.toml": "--chip must be a TOML file, got 'none.toml': No such file",
    "list layers mine:network --chip misspelt.toml": "`misspelt.toml`, [noise]: `sgima` is unknown|mean 'sigma'?",
    "list layers mine:network --select zzz": "--select must leave a weight for the chip, got ['zzz']",
    "compare": "--out must be given",
    "compare --out .": "--out must be a new folder or one of this comparison",
    "compare --out mine.py": "--out must be a folder, got 'mine.py'",
    f"{C} --examples 0": "--examples must be at least 1, got 0.|Leave it out for all",
    f"{C} --methods samsom": "--methods: 'samsom' is unknown|Did you mean 'samson'?|Available: plain, sgd, noise",
    f"{C} --methods sgd,,": "--methods: '' is unknown|Available",
    f"{C} --methods sgd,sam,sgd": "--methods must be without repetition|'sgd'|Remove",
    f"{C} --methods samson+clip,clip+samson": "without repetition|'clip+samson'",
    f"{C} --methods clip,sgd+clip": "without repetition|'sgd+clip'",
    f"{C} --methods sam+samson": "--methods|'sam+samson'|+clip|Split",
    f"{C} --methods sam --set sam.rho=-1": "--set sam|`rho` must be ≥ 0|got -1.0|Change it",
    f"{C} --methods sam --set sam.roh=1": "--set sam|'roh'|Did you mean 'rho'?",
    f"{C} --methods sam --set asam.rho=1": "--set|'asam'|Did you mean 'sam'?",
    f"{C} --methods sam --set sam.rho=big": "--set sam.rho must be a number|'big'",
    f"{C} --methods sam --set rho": "--set must be METHOD.PARAM=VALUE|'rho'",
    f"{C} --methods samson --set samson.policy=some": "`policy` must be one of authors|'some'",
    f"{C} --data digit": "--data: 'digit' is unknown|Did you mean 'digits'?",
    f"{C} --trials 0": "--trials must be at least 2|got 0|default",
    f"{C} --trials many": "'--trials'|valid integer",
    f"{C} --seeds 0": "--seeds must be at least 1|got 0",
    f"{C} --epochs -1": "--epochs must be at least 1|got -1",
    f"{C} --levels 0,x": "--levels must be a number|got 'x'|for example",
    f"{C} --levels 0,-.1": "--levels must be ≥ 0|got '-.1'",
    f"{C} --levels .1,.1": "--levels must be without repetition",
    f"{C} --levels 0": "--levels|above 0",
    f"{C} --noise standard-hwa --levels 1d": "--levels must be given for a noise, not a chip, got '1d'",
    f"{C} --noise gausian": "--noise: 'gausian' is unknown.|Did you mean 'gaussian'",
    f"{C} --data \udcff.npz": "must be text in UTF-8, as records are, got '\\udcff.npz'",
    "budget net.safetensors --chip standard-hwa --calibration none.toml": "--calibration 'none.toml': No such file",
    "train --out out --find-rho --set rho=.3": "--set rho must be left out with --find-rho, got 'rho=.3'",
    f"{C} --set x": "--set must be METHOD.PARAM=VALUE, or PARAM=VALUE, got 'x'",
    f"{C} --set l=1": "--set: 'l' is unknown|Did you mean 'lr'",
    f"{C} --set lr=x": "--set lr must be a number, got 'x'",
    f"{C} --set sgd.lr=-1": "--set sgd: Invalid learning rate: -1.0|--set sgd.PARAM=VALUE",
    f"{C} --set sgd.lr=nan": "--set sgd.lr must be a number, got 'nan'",
    f"{C} --set sgd.l=1": "--set sgd: 'l' is unknown|Did you mean 'lr'",
    "compare below.toml --out out": "below.toml: problems: 'chips' stands at the top of the file|Move it there",
    f"{C} --jobs 0": "--jobs must be at least 1, got 0",
}
"""A command, in which @ is empty, and the words of its error."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of good and hostile files."""
    folder = tmp_path_factory.mktemp("place")
    (folder / "mine.py").write_text(MINE)
    network = make_network("small-resnet", (1, 8, 8), 10, 0).state_dict()
    save_checkpoint(folder / "net.safetensors", network, Checkpoint("small-resnet", (1, 8, 8), 10, "digits", "sgd", 0))
    (folder / "bare.safetensors").write_bytes((folder / "net.safetensors").read_bytes())
    for name in ("dir", "dir.safetensors", "dir.toml"):
        (folder / name).mkdir()
    for name, content in (
        ("broken.toml", b"a = ["),
        ("binary.toml", b"\xff\xfe\x00"),
        ("deep.toml", b"a = " + b"[" * 5000),
        ("misspelt.toml", b'source = "x"\n[noise]\nfamily = "gaussian"\nsgima = 1'),
        ("ranges.toml", b"[input_ranges]\nx = 1.0"),
        ("code.toml", b'source = "x"\n[noise]\nfamily = "mine:network"'),
        ("few.toml", b'[input_ranges]\n"0" = 1.0'),
        ("none-compensated.toml", b'source = "x"\n[noise]\nfamily = "pcm"\ncompensation = "none"'),
        ("below.toml", b'[[problems]]\nchips = ["pcm"]'),
        ("own.toml", b'source = "x"\n[noise]\nfamily = "mine:Own"\nk = 0.1'),
        ("between.toml", b'source = "x"\n[noise]\nfamily = "reram"\ninterpolate = true'),
        ("broken.safetensors", b"\x08\x00\x00\x00\x00\x00\x00\x00{}"),
    ):
        (folder / name).write_bytes(content)
    (folder / "trained").mkdir()
    (folder / "trained" / "training.json").touch()
    (folder / "hostile" / "records").mkdir(parents=True)
    (folder / "hostile" / "records" / "sgd-seed0.json").write_text('{"a":' * 100_000)
    inputs, targets = torch.zeros(3, 6), torch.zeros(3).long()
    save_file({"inputs": inputs[:0].clone(), "targets": targets[:0].clone()}, folder / "empty.safetensors")
    save_file({"inputs": inputs, "targets": targets[:2].clone()}, folder / "uneven.safetensors")
    save_file({"inputs": inputs}, folder / "half.safetensors")
    computed = torch.nn.utils.parametrizations.weight_norm(torch.nn.Linear(6, 3))
    save_file(computed.state_dict(), folder / "computed.safetensors")
    torch.save({"a": 1}, folder / "p.pt")
    return folder


@pytest.mark.parametrize("command", ROWS)
def test_it_is_refused_in_a_few_words(samson, place: Path, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    monkeypatch.setattr("samson.experiments.run_all", lambda *_, **__: pytest.fail("training has started"))
    before = {path for path in place.rglob("*") if "__pycache__" not in path.parts}
    status, _, written = samson(*("" if word == "@" else word for word in command.split()))
    said = " ".join(written.split())
    assert status == 2, said
    for words in ROWS[command].split("|"):
        assert words in said
    assert "Traceback" not in said
    assert len(written.strip().splitlines()) <= 4
    assert {path for path in place.rglob("*") if "__pycache__" not in path.parts} == before, "nothing is written"
