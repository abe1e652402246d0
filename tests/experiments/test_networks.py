"""Networks by name: published sizes, weights from a seed, and shapes that are refused."""

import hashlib
import math
from collections.abc import Iterable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from samson.experiments import NETWORKS, make_network
from samson.noise import on_chip
from tests.conftest import equal, snapshot

CIFAR, MNIST, SERIES, TOKENS = (3, 32, 32), (1, 28, 28), (128, 9), (256,)
KINDS = {
    "images": ((3, 16, 16), [name for name in NETWORKS if name[:3] not in ("gru", "lst", "gpt")]),
    "series": ((7, 3), ["gru", "lstm", "mlp"]),
    "tokens": ((12,), ["gpt-small", "gpt-tiny"]),
    "vectors": ((6,), ["mlp"]),
}
CASES = [(name, shape) for shape, names in KINDS.values() for name in names]
ALIKE = {"resnet8", "resnet34", "wrn28-10", "vgg13", "mobilenetv2-narrow"}
"""Networks that differ from another one in widths and depths alone."""
LARGE = {"resnet18", "resnet34", "wrn16-4", "wrn28-10", "vgg13"}
OF_NOT_LARGE = pytest.mark.parametrize(("name", "shape"), [case for case in CASES if case[0] not in LARGE])
OUTPUTS = 5


def examples(shape: tuple[int, ...], batch: int = 2) -> Tensor:
    return torch.randint(OUTPUTS, (batch, *shape)) if shape == KINDS["tokens"][0] else torch.randn(batch, *shape)


def on_meta(name: str, shape: tuple[int, ...], outputs: int) -> nn.Module:
    """The network without memory for its weights."""
    with torch.device("meta"):
        return make_network(name, shape, outputs, seed=0)


def parameters(name: str, shape: tuple[int, ...], outputs: int) -> int:
    return sum(p.numel() for p in on_meta(name, shape, outputs).parameters())


def digest(state: dict[str, Tensor]) -> str:
    found = hashlib.sha256()
    for name, tensor in state.items():
        found.update(f"{name}{tensor.dtype}".encode() + tensor.numpy().tobytes())
    return found.hexdigest()


PUBLISHED = [
    ("resnet20", CIFAR, 10, 0.27e6),  # He et al. 2016, table 6
    ("wrn16-4", CIFAR, 10, 2.7e6),  # Zagoruyko and Komodakis 2016
    ("wrn28-10", CIFAR, 10, 36.5e6),  # the same, table 4
    ("densenet40", CIFAR, 10, 1.0e6),  # Huang et al. 2017, table 2
    ("mobilenetv2", (3, 224, 224), 1000, 3.4e6),  # Sandler et al. 2018, table 4
    ("mobilenetv2-narrow", (3, 224, 224), 1000, 1.95e6),  # the table beside the authors' code
    ("mobilenetv2-tiny", (3, 224, 224), 1000, 1.66e6),  # the same
]


@pytest.mark.parametrize(("name", "shape", "outputs", "size"), PUBLISHED)
def test_sizes_are_as_published(name: str, shape: tuple[int, ...], outputs: int, size: float) -> None:
    assert parameters(name, shape, outputs) == pytest.approx(size, rel=0.04)


def layers(blocks: Iterable[tuple[int, int]]) -> int:
    """Weights of 3 x 3 convolutions without biases, each with a batch norm."""
    return sum(9 * inputs * outputs + 2 * outputs for inputs, outputs in blocks)


SIZES = [
    ("small-resnet", (1, 8, 8), 10, 77_754),
    ("resnet8", CIFAR, 10, layers([(3, 16), (16, 16), (16, 16), (16, 32), (32, 32), (32, 64), (64, 64)]) + 650),
    ("resnet20", CIFAR, 10, 269_722),
    ("resnet18", CIFAR, 10, 11_173_962),
    ("resnet34", CIFAR, 10, 21_282_122),
    ("wrn16-4", CIFAR, 10, 2_748_890),
    ("wrn28-10", CIFAR, 10, 36_479_194),
    (
        "vgg13",
        CIFAR,
        10,
        layers([(3, 64), (64, 64), (64, 128), (128, 128), (128, 256), (256, 256), (256, 512), *[(512, 512)] * 3])
        + 5_130,
    ),
    ("vgg13-narrow", CIFAR, 10, 590_714),
    ("densenet40", CIFAR, 10, 1_019_722),
    ("mobilenetv2", CIFAR, 10, 3_504_872 - 990 * 1281),  # as for ImageNet, with 990 classes less
    ("mobilenetv2-narrow", CIFAR, 10, 1_968_680 - 990 * 1281),
    ("mobilenetv2-tiny", CIFAR, 10, 1_667_528 - 990 * 1281),
    ("vit-small-patch4", CIFAR, 10, 6 * (12 * 192**2 + 13 * 192) + (48 + 1 + 1 + 65 + 2) * 192 + 1_930),
    ("mlp", MNIST, 10, 785 * 256 + 257 * 256 + 2_570),
    ("gru", SERIES, 6, 3 * 64 * (9 + 64 + 2) + 390),
    ("lstm", SERIES, 6, 4 * 64 * (9 + 64 + 2) + 390),
    ("gpt-small", TOKENS, 256, 4 * (12 * 128**2 + 13 * 128) + (256 + 256 + 256 + 2) * 128),
    ("gpt-tiny", TOKENS, 256, 2 * (12 * 64**2 + 13 * 64) + (256 + 256 + 256 + 2) * 64),
]


@pytest.mark.parametrize(("name", "shape", "outputs", "size"), SIZES)
def test_sizes_are_as_counted_and_as_the_listing_says(
    name: str, shape: tuple[int, ...], outputs: int, size: int
) -> None:
    assert parameters(name, shape, outputs) == size
    first = (NETWORKS[name].__doc__ or "").partition("\n")[0]
    assert f"{size:,} parameters" in first or name == "small-resnet"
    assert first.endswith(".")


def test_every_network_is_counted() -> None:
    assert [name for name, *_ in SIZES] == list(NETWORKS)
    assert {name for name, _ in CASES} == set(NETWORKS)


@pytest.mark.parametrize(("name", "shape"), CASES)
def test_outputs_have_their_shape(name: str, shape: tuple[int, ...]) -> None:
    out = make_network(name, shape, OUTPUTS, seed=0).eval()(examples(shape))
    assert out.shape == ((2, *shape, OUTPUTS) if shape == KINDS["tokens"][0] else (2, OUTPUTS))
    assert out.isfinite().all()
    assert not torch.equal(out[0], out[1])


@pytest.mark.parametrize("name", [name for name in KINDS["images"][1] if name not in ALIKE])
@pytest.mark.parametrize("shape", [CIFAR, MNIST])
def test_images_of_both_usual_sizes_are_taken(name: str, shape: tuple[int, ...]) -> None:
    assert on_meta(name, shape, 10)(torch.empty(2, *shape, device="meta")).shape == (2, 10)


@pytest.mark.parametrize(
    ("name", "shape", "last"),
    [
        ("vgg13", MNIST, (512, 1, 1)),
        ("vgg13", CIFAR, (512, 2, 2)),
        ("mobilenetv2", CIFAR, (1280, 4, 4)),
        ("mobilenetv2-tiny", CIFAR, (1280, 2, 2)),
        ("densenet40", CIFAR, (448, 8, 8)),
        ("wrn16-4", CIFAR, (256, 8, 8)),
    ],
)
def test_last_maps_are_those_of_the_papers(name: str, shape: tuple[int, ...], last: tuple[int, ...]) -> None:
    features = on_meta(name, shape, 10).features
    assert features(torch.empty(2, *shape, device="meta")).shape[1:] == last


@OF_NOT_LARGE
def test_the_seed_decides_the_weights_and_nothing_else_changes(name: str, shape: tuple[int, ...]) -> None:
    before = torch.random.get_rng_state()
    one, same, other = (snapshot(make_network(name, shape, OUTPUTS, seed)) for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert equal(one, same)
    assert all(not torch.equal(one[key], other[key]) for key in one if key.endswith("weight") and one[key].ndim > 1)


def test_the_small_resnet_is_the_one_of_recorded_runs() -> None:
    """Names, order and values of the weights, and what comes out, as when the recorded comparisons were made."""
    model = make_network("small-resnet", (1, 8, 8), 10, seed=0).eval()
    assert digest(model.state_dict()) == "0cbac143e3414d67578401e6c11fceedfb1748285e462ccc87d3e6662f724fef"
    other = make_network("small-resnet", (1, 8, 8), 10, seed=1)
    assert digest(other.state_dict()) != digest(model.state_dict())
    out = model(torch.linspace(0, 1, 64).reshape(1, 1, 8, 8))
    torch.testing.assert_close(
        out[0],
        torch.tensor(
            [-0.138801, 0.078143, -0.123043, 0.075370, 0.090038, 0.027275, 0.087540, 0.062253, 0.046305, 0.080193]
        ),
        atol=1e-5,
        rtol=1e-5,
    )


@OF_NOT_LARGE
def test_the_gradient_reaches_every_parameter(name: str, shape: tuple[int, ...]) -> None:
    model = make_network(name, shape, OUTPUTS, seed=0)
    logits = model(examples(shape, batch=4))
    functional.cross_entropy(logits.flatten(0, -2), torch.arange(logits.numel() // OUTPUTS) % OUTPUTS).backward()
    silent = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert silent == []


@OF_NOT_LARGE
def test_every_matrix_lies_on_the_chip_but_embeddings(name: str, shape: tuple[int, ...]) -> None:
    model = make_network(name, shape, OUTPUTS, seed=0)
    looked_up = {f"{at}.weight" for at, layer in model.named_modules() if isinstance(layer, nn.Embedding)}
    assert {t.name for t in on_chip(model)} == {at for at, p in model.named_parameters() if p.ndim > 1} - looked_up


@pytest.mark.parametrize("name", ["gpt-small", "gpt-tiny"])
def test_a_token_changes_no_logits_before_it(name: str) -> None:
    model = make_network(name, (12,), OUTPUTS, seed=0).eval()
    tokens = examples((12,))
    changed = tokens.clone()
    changed[:, 8] = (tokens[:, 8] + 1) % OUTPUTS
    before, after = model(tokens), model(changed)
    assert torch.equal(before[:, :8], after[:, :8])
    assert all(not torch.equal(before[:, i], after[:, i]) for i in range(8, 12))
    assert model(tokens[:, :3]).shape == (2, 3, OUTPUTS)


def test_weights_of_a_gpt_start_as_in_gpt2() -> None:
    weights = dict(make_network("gpt-small", TOKENS, 256, seed=0).named_parameters())
    for name, weight in weights.items():
        if name.endswith("bias"):
            assert not weight.any()
        elif weight.ndim > 1:
            last = name.endswith(("out.weight", "narrow.weight"))
            assert weight.std().item() == pytest.approx(0.02 / math.sqrt(8) if last else 0.02, rel=0.03)


@pytest.mark.parametrize(("name", "shape"), [("gpt-tiny", (6,)), ("vit-small-patch4", CIFAR)])
def test_attention_is_the_softmax_of_the_paper(name: str, shape: tuple[int, ...]) -> None:
    layer = make_network(name, shape, OUTPUTS, seed=0).double().blocks[0].attention
    width, causal = layer.out.in_features, len(shape) == 1
    x = torch.randn(2, 6, width, dtype=torch.float64)
    heads = []
    for i in range(layer.heads):
        q, k, v = (part.chunk(layer.heads, dim=2)[i] for part in layer.qkv(x).chunk(3, dim=2))
        scores = q @ k.transpose(1, 2) / math.sqrt(width / layer.heads)
        later = torch.ones(6, 6, dtype=torch.bool).triu(1)
        heads.append((scores.masked_fill(later, -math.inf) if causal else scores).softmax(2) @ v)
    expected = layer.out(torch.cat(heads, dim=2))
    torch.testing.assert_close(layer(x), expected)
    layer.causal = not causal
    assert not torch.allclose(layer(x), expected)


def test_shortcuts_of_resnet20_pick_pixels_and_add_channels_of_zeros() -> None:
    shortcuts = [block.shortcut for block in make_network("resnet20", CIFAR, 10, seed=0).blocks]
    assert [i for i, shortcut in enumerate(shortcuts) if not isinstance(shortcut, nn.Identity)] == [3, 6]
    x = torch.randn(1, 16, 7, 7)
    out = shortcuts[3](x)
    assert out.shape == (1, 32, 4, 4)
    assert torch.equal(out[:, :16], x[:, :, ::2, ::2])
    assert not out[:, 16:].any()


def test_blocks_hand_on_their_input_beside_what_they_compute() -> None:
    x = torch.randn(2, 64, 4, 4)
    first, second = make_network("wrn16-4", CIFAR, 10, seed=0).eval().features[1:3]
    nn.init.zeros_(first.conv2.weight)
    nn.init.zeros_(second.conv2.weight)
    assert torch.equal(second(x), x)
    active = (x[:, :16] / math.sqrt(1 + 1e-5)).relu()
    torch.testing.assert_close(first(x[:, :16]), functional.conv2d(active, first.shortcut.weight))
    block = make_network("mobilenetv2", CIFAR, 10, seed=0).eval().features[3]
    nn.init.zeros_(block.layers[2][1].weight)
    assert torch.equal(block(x[:, :24]), x[:, :24])


def test_a_narrow_map_of_mobilenet_has_no_rectifier() -> None:
    """Its block ends linear: a rectifier would lose what the few channels hold."""
    block = make_network("mobilenetv2", CIFAR, 10, seed=0).eval().features[2]
    assert (block(torch.randn(2, 16, 4, 4)) < 0).float().mean() > 0.1


def test_a_vision_transformer_reads_its_class_token() -> None:
    """Which sees an image through the blocks alone."""
    model, x = make_network("vit-small-patch4", CIFAR, 10, seed=0).eval(), torch.randn(2, *CIFAR)
    assert not torch.allclose(*model(x))
    model.blocks = nn.Identity()
    assert torch.allclose(*model(x))


@pytest.mark.parametrize("name", ["resnet20", "mobilenetv2-narrow"])
def test_convolutions_start_with_the_variance_of_he(name: str) -> None:
    model = make_network(name, CIFAR, 10, seed=0)
    scaled = [
        layer.weight.flatten() / math.sqrt(2 * layer.groups / (layer.out_channels * layer.kernel_size[0] ** 2))
        for layer in model.modules()
        if isinstance(layer, nn.Conv2d)
    ]
    assert [weight.std().item() for weight in scaled] == pytest.approx([1.0] * len(scaled), rel=0.25)
    assert torch.cat(scaled).std().item() == pytest.approx(1, rel=0.01)


@pytest.mark.parametrize("kind", KINDS)
def test_a_wrong_shape_is_an_error_that_names_the_networks_to_take(kind: str) -> None:
    shape, names = KINDS[kind]
    takers = {name for other, taking in KINDS.values() if len(other) == len(shape) for name in taking}
    for name, make in NETWORKS.items():
        if name in takers:
            continue
        with pytest.raises(ValueError, match=f"^`{name}` must have .* of shape ") as caught:
            make(shape, OUTPUTS)
        _, mend = str(caught.value).rstrip(".").split(f", got {shape}. Take a network for ")
        mends = dict(part.split(": ") for part in mend.split("; for "))
        assert set(mends[kind].split(", ")) <= set(names)


def test_the_error_is_one_sentence_and_its_mend() -> None:
    with pytest.raises(ValueError, match="resnet20") as caught:
        make_network("resnet20", (64,), 10, seed=0)
    assert str(caught.value) == (
        "`resnet20` must have images of shape (channels, height, width), got (64,). "
        "Take a network for tokens: gpt-small, gpt-tiny; for vectors: mlp."
    )


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("vgg13", (1, 8, 8), "`vgg13` must have images whose height and width are ≥ 16, got (1, 8, 8). Pad"),
        ("densenet40", (1, 3, 8), "height and width are ≥ 4, got (1, 3, 8)."),
        ("vit-small-patch4", (3, 30, 32), "height and width are a multiple of 4, got (3, 30, 32)."),
        ("gru", (), "got (). Give one example's shape, every axis ≥ 1."),
        ("gpt-tiny", (0,), "got (0,). Give one example's shape"),
        ("mlp", (2, 3, 8, 8), "`mlp` must have images of shape (channels, height, width) or series of shape"),
    ],
)
def test_shapes_that_no_layer_could_take(name: str, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=name) as caught:
        make_network(name, shape, OUTPUTS, seed=0)
    assert message in str(caught.value)


def test_no_outputs_are_an_error() -> None:
    with pytest.raises(ValueError, match="`outputs` must be at least 1, got 0"):
        make_network("resnet20", CIFAR, 0, seed=0)
