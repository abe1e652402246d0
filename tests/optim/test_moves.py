"""What a step moves is what was meant: in each dtype and layout, up what the base maximises, on each gradient."""

import math
import weakref
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from samson import ASAM, SAM, SAMSON, Lookbehind, SharpnessAware, param_groups
from samson.optim import Part, Rule, Workspace, climb
from tests.conftest import closure_for, make_batch, make_model

DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16, torch.complex64, torch.complex128]

LAYOUTS: dict[str, Callable[[], Tensor]] = {
    "contiguous": lambda: torch.randn(37, 23, dtype=torch.float64),
    "vector": lambda: torch.randn(257, dtype=torch.float64),
    "channels_last": lambda: torch.randn(5, 3, 4, 7, dtype=torch.float64).to(memory_format=torch.channels_last),
    "channels_last_3d": lambda: torch.randn(3, 2, 4, 5, 2, dtype=torch.float64).to(
        memory_format=torch.channels_last_3d
    ),
    "transposed": lambda: torch.randn(19, 41, dtype=torch.float64).t(),
    "sliced": lambda: torch.randn(64, 30, dtype=torch.float64)[::2, 1:-3],
    "empty": lambda: torch.randn(0, 4, dtype=torch.float64),
    "0-d": lambda: torch.randn((), dtype=torch.float64),
}


def same_layout(t: Tensor, dtype: torch.dtype) -> Tensor:
    """The tensor's values in another dtype, with its very strides."""
    storage = torch.zeros(t.untyped_storage().nbytes() // t.itemsize, dtype=dtype)
    cast = storage.as_strided(t.shape, t.stride(), t.storage_offset())
    cast.copy_(t if not dtype.is_complex else torch.complex(t, t.flip(0) if t.ndim else -t))
    return cast


def named(weights: list[Tensor]) -> list[tuple[str, nn.Parameter]]:
    return [(f"{i}.weight", nn.Parameter(w)) for i, w in enumerate(weights)]


def wide(t: Tensor) -> Tensor:
    return t.detach().to(torch.complex128 if t.is_complex() else torch.float64)


def meant(rule: Rule, weights: list[Tensor], gradients: list[Tensor]) -> list[Tensor]:
    """ε in double precision, written again."""
    scales = []
    for w in map(wide, weights):
        size = 1.0 if not isinstance(rule, SAMSON) else w.abs().max().item() if w.numel() else 1.0
        scales.append(torch.ones_like(w) if isinstance(rule, SAM) else (w.abs() + rule.eta) / size)
    norm = math.sqrt(sum(float((t * wide(g)).abs().square().sum()) for t, g in zip(scales, gradients, strict=True)))
    return [rule.rho * t**2 * wide(g) / norm for t, g in zip(scales, gradients, strict=True)]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("rule", [SAM(rho=5.0), ASAM(rho=5.0), SAMSON(rho=5.0)], ids=lambda rule: type(rule).__name__)
@pytest.mark.filterwarnings("ignore:.*half-precision weights absorb")
def test_what_is_moved_is_what_was_meant(rule: Rule, layout: str, dtype: torch.dtype) -> None:
    """Beside a plain tensor, within what the dtype of the weights can hold; then every bit is back."""
    values = [LAYOUTS[layout](), LAYOUTS["contiguous"]()]
    given = named([same_layout(w, dtype) for w in values])
    weights = [w for _, w in given]
    for w in weights:
        w.grad = same_layout(torch.randn_like(w.detach().real.double()), dtype)
    before = [w.detach().clone() for w in weights]
    expected = meant(rule, before, [w.grad for w in weights])
    optimizer = SharpnessAware(torch.optim.SGD(given, lr=0.1), rule, model=nn.Identity(), measure=True)
    with optimizer.perturbed():
        moved = [wide(w) - wide(b) for w, b in zip(weights, before, strict=True)]
        half = torch.finfo(dtype).bits == 16
        for w, b, m, e in zip(weights, before, moved, expected, strict=True):
            room = torch.finfo(dtype).eps * (wide(w).abs() + wide(b).abs() + 1e-3) + (2e-2 if half else 1e-5) * e.abs()
            assert ((m - e).abs() <= room).all()
        total = sum(float(m.abs().square().sum()) for m in moved) ** 0.5
        assert float(optimizer.last_ascent.epsilon_norm) == pytest.approx(total, rel=3e-2 if half else 1e-4)
    assert all(torch.equal(w, b) for w, b in zip(weights, before, strict=True))


def test_an_old_graph_cannot_be_used_in_the_block_nor_one_of_the_block_after_it() -> None:
    """It would mix activations of one point with weights of the other."""
    model, (x, y) = make_model(torch.float32), make_batch(torch.float32)
    optimizer = SharpnessAware(torch.optim.SGD(model.parameters(), lr=0.1), SAM(rho=1.0), model=model)
    loss = nn.functional.cross_entropy(model(x), y)
    loss.backward(retain_graph=True)
    with optimizer.perturbed():
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            loss.backward()
        inside = nn.functional.cross_entropy(model(x), y)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        inside.backward()


@pytest.mark.parametrize("kind", ["gradient", "previous", "momentum", "lookbehind"])
def test_the_ascent_is_the_worst_case_of_what_the_base_maximises(kind: str) -> None:
    """Maximising −L is minimising L, to the last bit."""
    ends = []
    for sign, maximize in ((1, False), (-1, True)):
        model = make_model(torch.float32)
        groups = [{"params": list(model.parameters()), "maximize": maximize}]
        base = torch.optim.SGD(groups, lr=0.1, momentum=0.9)
        if kind == "lookbehind":
            optimizer = Lookbehind(base, SAMSON(rho=0.5), model=model)
        else:
            optimizer = SharpnessAware(base, SAMSON(rho=0.5), model=model, ascent=kind)
        for seed in range(4):
            x, y = make_batch(torch.float32, seed)

            def closure(model=model, optimizer=optimizer, sign=sign, x=x, y=y) -> Tensor:
                optimizer.zero_grad()
                loss = sign * nn.functional.cross_entropy(model(x), y)
                loss.backward()
                return loss

            optimizer.step(closure)
        ends.append([p.detach().clone() for p in model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*ends, strict=True))


@pytest.mark.parametrize(
    "wrap",
    [
        lambda base: SharpnessAware(base, SAM(rho=0.5), every=2, reuse=0.7),
        lambda base: Lookbehind(base, SAM(rho=0.5), k=2, alpha="adaptive"),
    ],
    ids=["reuse", "adaptive"],
)
def test_complex_weights_train_as_pairs_of_real_ones(wrap: Callable[[torch.optim.Optimizer], SharpnessAware]) -> None:
    """Lengths and angles are those of the pairs."""
    start, x = (torch.randn(*shape, dtype=torch.complex128) for shape in ((3, 4), (8, 4)))
    y, ends = torch.rand(8, 3, dtype=torch.float64), []
    for pairs in (False, True):
        w = (torch.view_as_real(start) if pairs else start).clone().requires_grad_()
        model = nn.ParameterDict({"weight": w})
        optimizer = wrap(torch.optim.SGD(param_groups(model), lr=0.1))

        def closure(model=model, optimizer=optimizer, pairs=pairs) -> Tensor:
            optimizer.zero_grad()
            w = torch.view_as_complex(model["weight"]) if pairs else model["weight"]
            loss = ((x @ w.t()).abs() - y).square().mean()
            loss.backward()
            return loss

        for _ in range(4):
            optimizer.step(closure)
        ends.append(torch.view_as_complex(model["weight"].detach()) if pairs else model["weight"].detach())
    assert torch.allclose(*ends, rtol=1e-10)


def climbed(gradients: list[Tensor], rule: Rule) -> list[Tensor]:
    torch.manual_seed(1)
    given = named([torch.randn(6, 5) for _ in gradients])
    optimizer = SharpnessAware(torch.optim.SGD(given, lr=0.1), rule, model=nn.Identity())
    for (_, w), g in zip(given, gradients, strict=True):
        if hasattr(w, "grad_dtype"):
            w.grad_dtype = None  # any dtype
        w.grad = g
    with optimizer.perturbed():
        return [w.detach().clone() for _, w in given]


@pytest.mark.parametrize("rule", [SAM(rho=2.0), ASAM(rho=2.0), SAMSON(rho=2.0)], ids=lambda rule: type(rule).__name__)
def test_gradients_of_any_kind_give_the_same_climb(rule: Rule) -> None:
    """Shared, expanded, in another layout, and one alone in another dtype."""
    one, row = torch.randn(6, 5), torch.randn(1, 5)
    plain = climbed([one.clone(), one.clone(), row.repeat(6, 1)], rule)
    shared = one.clone()
    for gradients in (
        [shared, shared, row.repeat(6, 1)],
        [one.clone(), one.clone(), row.expand(6, 5)],
        [one.t().contiguous().t(), one.clone(), row.repeat(6, 1)],
        [one.clone(), one.double(), row.repeat(6, 1)],
        [one.double(), one.clone(), row.repeat(6, 1)],
    ):
        found = climbed(gradients, rule)
        assert all(torch.allclose(a, b, rtol=1e-6, atol=1e-7) for a, b in zip(found, plain, strict=True))


def test_gradients_do_not_outlive_the_climb() -> None:
    """One copy of the parameters less in memory during the second pass."""
    weight = nn.Parameter(torch.randn(4, 3))
    optimizer = SharpnessAware(torch.optim.SGD([("weight", weight)], lr=0.1), SAMSON(), model=nn.Identity())
    weight.grad = torch.randn(4, 3)
    first = weakref.ref(weight.grad)
    with optimizer.perturbed():
        assert first() is None


@pytest.mark.parametrize("layout", LAYOUTS)
def test_copies_go_back_once(layout: str) -> None:
    """What was put back is over: a later failure must not bring old weights again."""
    weight = LAYOUTS[layout]()
    old = weight.clone()
    space = Workspace([weight], True)
    space.save([weight])
    weight.add_(1.0)
    space.restore([weight])
    assert torch.equal(weight, old)
    weight.add_(1.0)
    space.restore([weight])
    assert torch.equal(weight, old + 1.0)


def test_the_usual_layouts_have_one_block() -> None:
    """So that few calls do, whatever the number of tensors."""
    dense = {name: Workspace([make()], True).dense for name, make in LAYOUTS.items()}
    assert {name for name, is_dense in dense.items() if not is_dense} == {"transposed", "sliced"}


@pytest.mark.parametrize("rule", [SAM(rho=9.0), SAMSON(rho=9.0)], ids=lambda rule: type(rule).__name__)
@pytest.mark.parametrize(("dtype", "wide"), [(torch.float32, torch.float64), *((d, d) for d in DTYPES[2:4])], ids=str)
def test_directions_may_have_the_dtype_of_the_weights_or_a_wider_one(
    rule: Rule, dtype: torch.dtype, wide: torch.dtype
) -> None:
    weight, along = torch.randn(37, 23).to(dtype), torch.randn(37, 23, dtype=torch.float64).to(wide)
    before, scaled = weight.double(), isinstance(rule, SAMSON)
    [expected] = meant(rule, [weight], [along])
    climb([Part(rule, rule.rho, scaled, [weight], [along.clone()], Workspace([weight], scaled))])
    assert torch.allclose(weight.double() - before, expected, rtol=0, atol=20 * torch.finfo(dtype).eps)


def test_the_norm_is_as_precise_as_the_widest_weights() -> None:
    still, w, g = torch.zeros(3), *torch.randn(2, 5, dtype=torch.float64)
    expected = w + 0.3 * g / g.norm()
    pairs = (still, torch.zeros(3)), (w, g)
    climb([Part(SAM(0.3), 0.3, False, [one], [along], Workspace([one], False)) for one, along in pairs])
    assert torch.allclose(w, expected, rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_directions_may_have_the_strides_of_the_weights(layout: str) -> None:
    """Also where these leave gaps, which belong to others."""
    weight, along = LAYOUTS[layout]().float(), LAYOUTS[layout]().float()
    if layout == "sliced":
        weight, along = torch.randn(64, 30)[::2, 1:-3], torch.randn(64, 30)[::2, 1:-3]
    before, around = weight.double(), weight.untyped_storage().clone()
    expected = meant(SAM(rho=2.0), [weight], [along])[0] if weight.numel() else weight.double()
    climb([Part(SAM(), 2.0, False, [weight], [along], Workspace([weight], False))])
    assert torch.allclose(weight.double() - before, expected, rtol=1e-4, atol=1e-6)
    weight.copy_(before)
    assert bytes(weight.untyped_storage()) == bytes(around)


def test_weights_may_change_their_layout_between_steps() -> None:
    ends = []
    x = torch.randn(2, 3, 5, 5)
    for turn in (True, False):
        torch.manual_seed(0)
        model = nn.Conv2d(3, 4, 3)
        optimizer = SharpnessAware(torch.optim.SGD(model.parameters(), lr=0.1), SAMSON(rho=2.0), model=model)
        for step in range(2):
            if turn and step:
                model.to(memory_format=torch.channels_last)
            optimizer.zero_grad()
            model(x).square().mean().backward()
            model.weight.grad = model.weight.grad.contiguous()  # of another layout than the weight, and of its old one
            before = model.weight.detach().clone()
            with optimizer.perturbed():
                moved = (model.weight - before).detach()
                model(x).square().mean().backward()
            assert torch.equal(model.weight, before)
            optimizer.step()
        ends.append(moved)
    assert torch.allclose(*ends, atol=1e-5)
    assert ends[0].abs().max() > 0.01


def test_working_memory_is_that_of_the_weights_at_hand() -> None:
    """None stays of a dtype that the weights had before."""
    model = nn.Linear(3, 2)
    optimizer = SharpnessAware(torch.optim.SGD(model.parameters(), lr=0.1), SAMSON(), model=model)
    for dtype in (torch.float32, torch.float64):
        model.to(dtype)
        optimizer.step(closure_for(model, optimizer, (torch.ones(4, 3, dtype=dtype), torch.ones(4, dtype=torch.int64))))
        seen = {copy.dtype for space in optimizer._weights.workspaces.values() for copy in space.copies}
        assert seen == {dtype}


class Marked(Tensor):
    """A tensor of a type of one's own, which is no shard of anything."""


def test_a_type_of_tensor_of_ones_own_climbs_like_any_other() -> None:
    import torch.distributed.tensor  # with it there, a subclass might be taken for a shard

    def stepped(kind: type[Tensor]) -> Tensor:
        values = torch.linspace(-1, 2, 5, dtype=torch.float64)
        model = nn.Module()
        model.weight = nn.Parameter(values.as_subclass(kind) if kind is Marked else values)
        optimizer = SharpnessAware(torch.optim.SGD(model.parameters(), lr=0.1), SAM(rho=0.5), model=model)

        def closure() -> Tensor:
            optimizer.zero_grad()
            loss = (model.weight**4).sum()
            loss.backward()
            return loss

        optimizer.step(closure)
        assert isinstance(model.weight, kind)
        return model.weight.detach().as_subclass(Tensor)

    assert torch.equal(stepped(Marked), stepped(Tensor))
