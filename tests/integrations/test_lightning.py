"""Lightning: both ways of optimisation equal the loop by hand, logs are clean, what cannot work is refused."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import DataLoader

pytest.importorskip("lightning")

import lightning.pytorch as pl
from lightning.fabric import Fabric
from lightning.pytorch.callbacks import (
    BackboneFinetuning,
    GradientAccumulationScheduler,
    ModelCheckpoint,
    StochasticWeightAveraging,
)
from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.loops.optimization.automatic import Closure
from lightning.pytorch.plugins import MixedPrecision
from torchmetrics.classification import MulticlassAccuracy, MulticlassAUROC

from samson import SAMSON, Lookbehind, RhoSchedule, SharpnessAware
from samson.experiments import load_model
from samson.integrations.lightning import AscentMonitor, ManualAscent, SharpnessAwareModule
from tests.conftest import Batch, closure_for, equal, loss_of, make_batch, make_model, snapshot, weights_of
from tests.integrations.plain import (
    MODES,
    close,
    plain_loop,
    schedule_free,
    schedule_free_weights,
    sgd,
    sharp,
)

pytestmark = [
    pytest.mark.filterwarnings("ignore:The 'train_dataloader' does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*`isinstance\\(treespec, LeafSpec\\)` is deprecated"),
]

Factory = Callable[[nn.Module], Any]
BATCHES = [make_batch(torch.float32, seed) for seed in range(7)]


class Net(pl.LightningModule):
    """A module as anyone would write it: logs a value and a metric, returns the loss."""

    def __init__(self, factory: Factory = sgd) -> None:
        super().__init__()
        self.model = make_model(torch.float32)
        self.accuracy = MulticlassAccuracy(num_classes=3, average="micro")
        self.factory = factory
        self.losses: list[float] = []
        self.outputs: list[float] = []

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        out = self.model(batch[0])
        loss = nn.functional.cross_entropy(out, batch[1])
        self.losses.append(loss.item())
        self.accuracy(out, batch[1])
        self.log("loss", loss, on_step=True, on_epoch=True)
        self.log_dict({"accuracy": self.accuracy}, on_step=True, on_epoch=True)
        return loss

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        if outputs:
            self.outputs.append(float(outputs["loss"]))

    def configure_optimizers(self) -> Any:
        return self.factory(self.model)


class Sharp(SharpnessAwareModule, Net):
    pass


def manual(accumulate: int = 1, clip_norm: float | None = None) -> type[Net]:
    return type("Manual", (ManualAscent, Net), {"accumulate": accumulate, "clip_norm": clip_norm})


class Memory(Logger):
    """A logger that keeps what it is given."""

    name, version = "memory", 0

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[dict[str, float]] = []

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self.rows.append(metrics)

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        pass

    def values(self, name: str) -> list[float]:
        return [row[name] for row in self.rows if name in row]


def fit(net: pl.LightningModule, path: str | Path | None = None, **settings: Any) -> Memory:
    memory = Memory()
    quiet = {
        "accelerator": "cpu",
        "max_epochs": 1,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "enable_checkpointing": False,
        "log_every_n_steps": 1,
        "logger": memory,
    }
    pl.Trainer(**quiet | settings).fit(net, DataLoader(BATCHES, batch_size=None), ckpt_path=path)
    return memory


def network() -> nn.Module:
    """What `Net` trains, with other weights."""
    return make_model(torch.float32, seed=9)


def test_a_network_comes_out_of_a_checkpoint(tmp_path: Path) -> None:
    """With its optimizer, metrics, loops and callbacks in the same file."""
    net = Sharp(sharp)
    callback = ModelCheckpoint(tmp_path, filename="end")
    fit(net, enable_checkpointing=True, callbacks=[callback])
    loaded = load_model(f"{__name__}:network", tmp_path / "end.ckpt")
    assert equal(snapshot(loaded), snapshot(net.model))
    assert not equal(snapshot(network()), snapshot(net.model))


@cache
def by_hand(factory: Factory, accumulate: int = 1, clip: Any = None, loss: Any = loss_of) -> dict[str, Tensor]:
    model = make_model(torch.float32)
    plain_loop(
        model, factory(model), BATCHES, loss, accumulate, None if clip is None else lambda: clip(model.parameters())
    )
    return snapshot(model)


@pytest.mark.parametrize("mode", MODES)
def test_automatic_optimisation_equals_the_plain_loop(mode: str) -> None:
    net = Sharp(lambda model: sharp(model, mode))
    fit(net)
    assert equal(snapshot(net.model), by_hand(lambda model: sharp(model, mode)))
    assert not equal(snapshot(net.model), by_hand(sgd))


@pytest.mark.parametrize("mode", MODES)
def test_manual_optimisation_equals_the_plain_loop(mode: str) -> None:
    net = manual(3)(lambda model: sharp(model, mode))
    fit(net)
    assert equal(snapshot(net.model), by_hand(lambda model: sharp(model, mode), 3))
    assert not equal(snapshot(net.model), by_hand(sgd, 3))


def by_fabric(mode: str) -> tuple[nn.Module, Any]:
    model = make_model(torch.float32)
    return Fabric(accelerator="cpu", devices=1).setup(model, sharp(model, mode))


@pytest.mark.parametrize("mode", MODES)
def test_fabric_equals_the_plain_loop(mode: str) -> None:
    model, optimizer = by_fabric(mode)
    plain_loop(model, optimizer, BATCHES, loss_of)
    assert equal(snapshot(model), by_hand(lambda model: sharp(model, mode)))
    assert optimizer.optimizer.last_ascent is not None


def test_a_step_is_given_up_in_fabric() -> None:
    model, optimizer = by_fabric("two passes")
    before = weights_of(model)
    for _ in range(2):
        optimizer.zero_grad()
        loss_of(model, BATCHES[0]).backward()
        with optimizer.perturbed():
            assert not equal(weights_of(model), before)
            loss_of(model, BATCHES[0]).backward()
    assert equal(weights_of(model), before)


@pytest.mark.parametrize("kind", [Sharp, manual(1), manual(3)], ids=["automatic", "manual", "accumulating"])
def test_the_modules_change_nothing_for_another_optimizer(kind: type[Net]) -> None:
    net = kind()
    fit(net)
    assert equal(snapshot(net.model), by_hand(sgd, getattr(kind, "accumulate", 1)))


@pytest.mark.parametrize("kind", [Sharp, manual(1)], ids=["automatic", "manual"])
def test_lookbehind_runs_by_its_closure(kind: type[Net]) -> None:
    def lookbehind(model: nn.Module) -> Lookbehind:
        return Lookbehind(sgd(model), SAMSON(rho=0.2), k=2, alpha=0.5)

    net, model = kind(lookbehind), make_model(torch.float32)
    memory = fit(net)
    optimizer = lookbehind(model)
    clean = [optimizer.step(closure_for(model, optimizer, batch)).item() for batch in BATCHES]
    assert equal(snapshot(net.model), snapshot(model))
    assert memory.values("loss_step") == clean


@pytest.mark.parametrize("kind", [Sharp, manual(1), manual(3)], ids=["automatic", "manual", "accumulating"])
def test_logged_metrics_come_from_the_clean_pass(kind: type[Net]) -> None:
    accumulate = getattr(kind, "accumulate", 1)
    net = kind(sharp)
    memory = fit(net)
    passes = net.losses
    clean = []
    while passes:  # each step's clean losses, then its perturbed ones
        step = min(accumulate, len(BATCHES) - len(clean))
        clean += passes[:step]
        passes = passes[2 * step :]
    assert memory.values("loss_step") == clean
    assert memory.values("loss_epoch") == [pytest.approx(sum(clean) / len(clean))]
    assert net.outputs == clean
    assert len(set(net.losses)) == 2 * len(clean)
    assert net.accuracy._update_count == 0  # reset at the epoch's end: it is the real one that was logged


def test_metric_objects_count_the_clean_pass_only() -> None:
    class Counting(Sharp):
        def on_train_epoch_end(self) -> None:
            self.seen = int(self.accuracy.tp + self.accuracy.fn)

    class Plain(Net):
        on_train_epoch_end = Counting.on_train_epoch_end

    samples = sum(len(y) for _, y in BATCHES)
    for kind, times in ((Counting, 1), (Plain, 2)):
        net = kind(sharp)
        fit(net)
        assert net.seen == times * samples


def test_what_a_metric_has_kept_is_copied_once() -> None:
    """It may be every prediction of an epoch, as for an AUROC, and hold a graph."""

    copied: list[int] = []

    class Keeping(MulticlassAUROC):
        def clone(self) -> Any:
            copied.append(len(self.preds))
            return super().clone()

    class Kept(Sharp):
        def __init__(self) -> None:
            super().__init__(sharp)
            self.accuracy = Keeping(num_classes=3)
            self.seen: list[int] = []

        def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
            loss = super().training_step(batch, batch_idx)
            self.seen.append(len(self.accuracy.preds))
            return loss

    net = Kept()
    fit(net)
    count = len(net.seen) // 2
    assert net.seen == [n for i in range(count) for n in (i + 1, 1)]  # a stand-in is empty at each pass
    assert copied == [0]


def test_without_our_module_the_log_is_wrong_and_the_monitor_says_so() -> None:
    net = Net(sharp)
    with pytest.warns(UserWarning, match="SharpnessAwareModule"):
        memory = fit(net, callbacks=[AscentMonitor()])
    clean, perturbed = net.losses[::2], net.losses[1::2]
    assert memory.values("loss_step") == perturbed
    assert memory.values("loss_epoch") == [pytest.approx(sum(clean + perturbed) / len(clean + perturbed))]


def test_bf16_mixed_equals_the_plain_loop() -> None:
    def autocast(model: nn.Module, batch: Batch) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
            return loss_of(model, batch)

    net = Sharp(sharp)
    fit(net, precision="bf16-mixed")
    assert equal(snapshot(net.model), by_hand(sharp, loss=autocast))
    assert not equal(snapshot(net.model), by_hand(sharp))


def scaling() -> MixedPrecision:
    """What Trainer(precision="16-mixed") makes on a GPU."""
    return MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu"))


@pytest.mark.parametrize("kind", [Sharp, manual(1)], ids=["automatic", "manual"])
def test_16_mixed_is_refused_before_training(kind: type[Net]) -> None:
    net = kind(sharp)
    with pytest.raises(ValueError, match=r"`precision` must not be '16-mixed'.*bf16-mixed"):
        fit(net, plugins=[scaling()])
    assert not net.losses


@pytest.mark.filterwarnings("ignore:SharpnessAware. no perturbation was made")
def test_16_mixed_would_be_the_base_optimizer() -> None:
    nets = [Net(sharp), Net(sgd)]
    for net in nets:
        fit(net, plugins=[scaling()])
    assert equal(*(snapshot(net.model) for net in nets))


@pytest.mark.parametrize("scheduled", [False, True])
def test_accumulation_is_refused_before_training(scheduled: bool) -> None:
    settings = {"callbacks": GradientAccumulationScheduler({1: 3})} if scheduled else {"accumulate_grad_batches": 3}
    net = Sharp(sharp)
    with pytest.raises(ValueError, match=r"`accumulate_grad_batches` must be 1 .* got 3.*ManualAscent.*accumulate = 3"):
        fit(net, **settings)
    assert not net.losses
    fit(Net(), **settings)  # no matter for another optimizer


def test_accumulation_would_repeat_the_last_batch_only() -> None:
    net = Net(sharp)
    with pytest.warns(UserWarning, match="adds to gradients from before it.*in Lightning: `ManualAscent`"):
        fit(net, accumulate_grad_batches=3)
    assert not equal(snapshot(net.model), by_hand(sharp, accumulate=3))


def test_the_monitor_checks_the_settings_of_any_module() -> None:
    for settings in ({"accumulate_grad_batches": 3}, {"plugins": [scaling()]}):
        net = Net(sharp)
        with pytest.raises(ValueError, match="sharpness-aware"):
            fit(net, callbacks=[AscentMonitor()], **settings)
        assert not net.losses
    with pytest.raises(ValueError, match="needs one sharpness-aware optimizer, got 0"):
        fit(Net(sgd), callbacks=[AscentMonitor()])


@pytest.mark.parametrize("mode", ["two passes", "every second step", "previous gradient"])
@pytest.mark.parametrize("algorithm", ["norm", "value"])
def test_clipping_acts_on_the_gradient_of_the_step(mode: str, algorithm: str) -> None:
    def factory(model: nn.Module) -> SharpnessAware:
        return sharp(model, mode, reuse=0.0)

    size, clip = {
        "norm": (0.05, lambda ps: nn.utils.clip_grad_norm_(ps, 0.05)),
        "value": (0.01, lambda ps: nn.utils.clip_grad_value_(ps, 0.01)),
    }[algorithm]
    expected = by_hand(factory, clip=clip)
    assert not equal(expected, by_hand(factory))
    net = Sharp(factory)
    fit(net, gradient_clip_val=size, gradient_clip_algorithm=algorithm)
    assert equal(snapshot(net.model), expected)
    if algorithm == "norm":
        net = manual(1, clip_norm=size)(factory)
        fit(net)
        assert equal(snapshot(net.model), expected)


@pytest.mark.parametrize("kind", [Sharp, manual(1, clip_norm=0.05)])
def test_each_gradient_of_a_mixture_is_clipped(kind: type[Net]) -> None:
    def mixed(model: nn.Module) -> SharpnessAware:
        return sharp(model, "mixed")

    model = make_model(torch.float32)
    optimizer = mixed(model)
    for batch in BATCHES:

        def closure(batch: Batch = batch) -> Tensor:
            optimizer.zero_grad()
            loss = loss_of(model, batch)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 0.05)
            return loss

        optimizer.step(closure)
    net = kind(mixed)
    fit(net, gradient_clip_val=0.05 if kind is Sharp else None)
    assert equal(snapshot(net.model), snapshot(model))
    assert not equal(snapshot(model), by_hand(mixed, clip=lambda ps: nn.utils.clip_grad_norm_(ps, 0.05)))


def test_manual_clipping_with_accumulation() -> None:
    net = manual(3, clip_norm=0.05)(sharp)
    fit(net)
    assert equal(snapshot(net.model), by_hand(sharp, 3, lambda ps: nn.utils.clip_grad_norm_(ps, 0.05)))


def test_a_value_clip_of_both_gradients_would_be_another_step() -> None:
    nets = [Net(sharp), Sharp(sharp)]
    for net in nets:
        fit(net, gradient_clip_val=0.01, gradient_clip_algorithm="value")
    assert not equal(*(snapshot(net.model) for net in nets))


def test_the_loss_of_accumulated_batches_is_their_mean() -> None:
    net = manual(3)(sharp)
    memory = fit(net, callbacks=[AscentMonitor()])
    for name, losses in (("clean_loss", net.losses[:3]), ("perturbed_loss", net.losses[3:6])):
        assert memory.values(f"ascent/{name}")[0] == pytest.approx(sum(losses) / 3)


@pytest.mark.parametrize("kind", [Sharp, manual(1)], ids=["automatic", "manual"])
def test_the_monitor_logs_the_ascent(kind: type[Net]) -> None:
    net = kind(lambda model: sharp(model, measure=True))
    memory = fit(net, callbacks=[AscentMonitor()])
    model, found = make_model(torch.float32), []
    optimizer = sharp(model, measure=True)
    for batch in BATCHES:
        plain_loop(model, optimizer, [batch], loss_of)
        found.append([float(optimizer.last_ascent.gradient_norm), float(optimizer.last_ascent.epsilon_norm)])
    assert memory.values("ascent/gradient_norm") == [norm for norm, _ in found]
    assert memory.values("ascent/epsilon_norm") == [epsilon for _, epsilon in found]
    assert memory.values("ascent/clean_loss") == net.losses[::2]
    assert memory.values("ascent/perturbed_loss") == net.losses[1::2]
    assert memory.values("ascent/skipped") == [0.0] * len(BATCHES)


class Reads(TorchDispatchMode):
    """Counts how often a tensor's value is read by the host."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **kwargs or {})


def test_the_monitor_reads_values_only_when_the_trainer_logs() -> None:
    added = {}
    for interval in (1, len(BATCHES)):
        counts = []
        for callbacks in ([], [AscentMonitor()]):
            with Reads() as reads:
                fit(Sharp(sharp), callbacks=callbacks, log_every_n_steps=interval)
            counts.append(reads.count)
        added[interval] = counts[1] - counts[0]
    assert added[1] == len(BATCHES) * added[len(BATCHES)] > 0


def test_manual_optimisation_steps_the_schedulers() -> None:
    def factory(interval: str, frequency: int) -> Factory:
        def make(model: nn.Module) -> dict[str, Any]:
            optimizer = sharp(model)
            schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)
            settings = {"scheduler": schedule, "interval": interval, "frequency": frequency}
            return {"optimizer": optimizer, "lr_scheduler": settings}

        return make

    for interval, frequency, steps in (("step", 2, 6), ("epoch", 1, 2)):
        nets = [kind(factory(interval, frequency)) for kind in (Sharp, manual(1))]
        for net in nets:
            fit(net, max_epochs=2)
        assert equal(*(snapshot(net.model) for net in nets))
        assert nets[1].trainer.optimizers[0].param_groups[0]["lr"] == 0.05 * 0.5**steps  # batches count in their epoch
        assert nets[1].trainer.global_step == 2 * len(BATCHES)


def ends_of_resuming(kind: type[Net], factory: Factory, folder: Path) -> list[dict[str, Tensor]]:
    """Where two epochs end, one, and two with a checkpoint in between."""
    whole, half, rest = (kind(factory) for _ in range(3))
    fit(whole, max_epochs=2)
    fit(half)
    half.trainer.save_checkpoint(folder / "half.ckpt")
    fit(rest, folder / "half.ckpt", max_epochs=2)
    return [snapshot(net.model) for net in (whole, half, rest)]


@pytest.mark.parametrize("kind", [Sharp, manual(3)], ids=["automatic", "accumulating"])
def test_resuming_gives_the_same_weights(kind: type[Net], tmp_path: Path) -> None:
    whole, half, rest = ends_of_resuming(kind, lambda model: sharp(model, "every second step"), tmp_path)
    assert equal(whole, rest)
    assert not equal(half, rest)


@pytest.mark.parametrize("trainer", [SharpnessAwareModule, ManualAscent], ids=["automatic", "manual"])
def test_a_ramp_of_rho(trainer: Any, tmp_path: Path) -> None:
    def lr_scheduler_step(self: Any, scheduler: Any, metric: Any) -> None:
        scheduler.step()

    def factory(model: nn.Module) -> dict[str, Any]:
        optimizer = sharp(model)
        schedule = {"scheduler": RhoSchedule(optimizer, "linear", 2 * len(BATCHES)), "interval": "step"}
        return {"optimizer": optimizer, "lr_scheduler": schedule}

    kind, model = type("Ramped", (trainer, Net), {"lr_scheduler_step": lr_scheduler_step}), make_model(torch.float32)
    whole, half, rest = ends_of_resuming(kind, factory, tmp_path)
    optimizer, schedule = (one["scheduler"] if isinstance(one, dict) else one for one in factory(model).values())
    for batch in 2 * BATCHES:
        plain_loop(model, optimizer, [batch], loss_of)
        schedule.step()
    assert equal(whole, snapshot(model))
    assert equal(whole, rest)
    assert not equal(half, rest)


@pytest.mark.parametrize("kind", [Sharp, manual(1)], ids=["automatic", "manual"])
@pytest.mark.filterwarnings("ignore:The 'val_dataloader' does not have many workers")
@pytest.mark.filterwarnings("ignore:The lr scheduler dict contains the key.s. .*monitor")
def test_a_plateau_is_stepped_by_hand_in_manual_optimisation(kind: type[Net]) -> None:
    class Monitored(kind):
        rates: tuple[float, ...] = ()

        def validation_step(self, batch: Batch, batch_idx: int) -> None:
            self.log("v", float(self.current_epoch in {1, 2}))

        def val_dataloader(self) -> Any:
            return DataLoader(BATCHES[:1], batch_size=None)

        def on_train_epoch_end(self) -> None:
            if not self.automatic_optimization:
                self.lr_schedulers().step(self.trainer.callback_metrics["v"])

        def on_train_epoch_start(self) -> None:
            super().on_train_epoch_start()
            self.rates += (self.optimizers().param_groups[0]["lr"],)

    def factory(model: nn.Module) -> dict[str, Any]:
        optimizer = sharp(model)
        plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=0)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": plateau, "monitor": "v"}}

    net = Monitored(factory)
    fit(net, max_epochs=4)
    assert net.rates == (0.05, 0.05, 0.025, 0.0125)


def test_a_limited_epoch_ends_with_a_step() -> None:
    net = manual(3)(sharp)
    fit(net, limit_train_batches=4)
    model = make_model(torch.float32)
    plain_loop(model, sharp(model), BATCHES[:4], loss_of, 3)
    assert equal(snapshot(net.model), snapshot(model))


def test_a_fit_that_broke_off_leaves_no_batches_behind() -> None:
    class Breaks(Net):
        broken = False

        def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
            if batch_idx == 1 and not self.broken:
                self.broken = True
                raise KeyError("broken")
            return super().training_step(batch, batch_idx)

    net = type("Manual", (ManualAscent, Breaks), {"accumulate": 3})(sharp)
    with pytest.raises(KeyError, match="broken"):
        fit(net)
    assert net.losses
    net.model.load_state_dict(make_model(torch.float32).state_dict())  # norm statistics have seen a batch
    fit(net)
    assert equal(snapshot(net.model), by_hand(sharp, 3))


def test_wrong_use_of_manual_optimisation_is_an_error() -> None:
    with pytest.raises(TypeError, match="hides that of ManualAscent"):
        type("Own", (ManualAscent,), {"training_step": Net.training_step})
    with pytest.raises(ValueError, match="`accumulate` must be ≥ 1, got 0"):
        fit(manual(0)(sharp))
    with pytest.raises(ValueError, match="needs one optimizer, got 2"):
        fit(manual(1)(lambda model: (sharp(model), sgd(model))))

    class Mute(Net):
        def training_step(self, batch: Batch, batch_idx: int) -> float:
            return 1.0

    with pytest.raises(TypeError, match="must return a loss, or a dict with `loss`, got float"):
        fit(type("Manual", (ManualAscent, Mute), {})(sharp))


class Skipping(Net):
    """Has no loss for the third batch, in every pass or only in those that repeat it."""

    in_every_pass = True

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor | None:
        skips = batch_idx == 2 and (self.in_every_pass or self.repeats)
        return None if skips else super().training_step(batch, batch_idx)


SKIPPED: dict[str, Factory] = {
    mode: lambda model, mode=mode: sharp(model, mode)
    for mode in ("two passes", "every second step", "previous gradient")
} | {"sgd": sgd}
"""Not noise, whose draws count the batches without a loss, too."""


@pytest.mark.parametrize("accumulate", [None, 3], ids=["automatic", "accumulating"])
@pytest.mark.parametrize("mode", SKIPPED)
@pytest.mark.filterwarnings("ignore:`training_step` returned `None`")
def test_a_batch_without_a_loss_is_skipped(mode: str, accumulate: int | None) -> None:
    kind = type("Kind", (ManualAscent if accumulate else SharpnessAwareModule, Skipping), {"accumulate": accumulate})
    net, model = kind(SKIPPED[mode]), make_model(torch.float32)
    fit(net)
    optimizer = SKIPPED[mode](model)
    for batches in (BATCHES[:2], BATCHES[3:6], BATCHES[6:]):
        plain_loop(model, optimizer, batches, loss_of, accumulate or 1)
    assert equal(snapshot(net.model), snapshot(model))
    assert net.trainer.global_step == (3 if accumulate == 3 else len(BATCHES))  # a skipped step counts


@pytest.mark.parametrize("trainer", [SharpnessAwareModule, ManualAscent], ids=["automatic", "manual"])
@pytest.mark.filterwarnings("ignore:`training_step` returned `None`")
def test_a_second_pass_without_a_loss_leaves_the_weights(trainer: Any) -> None:
    net, model = type("Kind", (trainer, Skipping), {"in_every_pass": False})(sharp), make_model(torch.float32)
    fit(net)
    optimizer = sharp(model)
    for batches in (BATCHES[:2], BATCHES[3:]):
        plain_loop(model, optimizer, batches, loss_of)
    assert equal(of_weights(snapshot(net.model)), of_weights(snapshot(model)))


def test_manual_optimisation_warns_of_a_forgotten_loss() -> None:
    class Mute(Net):
        def training_step(self, batch: Batch, batch_idx: int) -> None:
            return None

    Closure.warning_cache.clear()
    net = type("Manual", (ManualAscent, Mute), {})(sharp)
    with pytest.warns(UserWarning, match="`training_step` returned `None`. If this was on purpose"):
        fit(net)
    assert equal(snapshot(net.model), snapshot(make_model(torch.float32)))


NAMES = ("weight", "bias")


class Tuned(SharpnessAwareModule, Net):
    """Has a backbone that is frozen at first, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone, self.head = self.model[:2], self.model[2:]

    def configure_optimizers(self) -> Any:
        trained = [(name, p) for name, p in self.head.named_parameters() if p.requires_grad]
        return SharpnessAware(torch.optim.SGD(trained, lr=0.05), SAMSON(rho=0.5), model=self)


@pytest.mark.filterwarnings("ignore:.*without passing `backbone_initial_lr|.*BackboneFinetuning")
def test_a_backbone_that_is_unfrozen_later_is_trained_and_perturbed() -> None:
    """Lightning adds its parameters as a group without names."""
    net = Tuned()
    before = snapshot(net.model)
    fit(net, callbacks=[BackboneFinetuning(unfreeze_backbone_at_epoch=1, backbone_initial_lr=0.05)], max_epochs=2)
    optimizer = net.optimizers().optimizer
    assert optimizer.param_groups[1]["param_names"] == [f"model.{i}.{kind}" for i in (0, 1) for kind in NAMES]
    assert optimizer.param_groups[1]["rho"] == 0.5
    assert not torch.equal(net.model[0].weight, before["0.weight"])
    loss_of(net.model, BATCHES[0]).backward()
    weight = net.model[0].weight.detach().clone()
    with optimizer.perturbed():
        assert not torch.equal(net.model[0].weight, weight)


class Validated(Net):
    """Keeps the loss on the first batch at each validation, and the weights that it sees."""

    def __init__(self, factory: Factory = sgd) -> None:
        super().__init__(factory)
        self.seen: list[dict[str, Tensor]] = []

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self.seen.append(snapshot(self.model))

    def val_dataloader(self) -> Any:
        return DataLoader(BATCHES[:1], batch_size=None)


SCHEDULE_FREE = pytest.mark.parametrize("mode", ["two passes", "previous gradient", "every second step"])
WEIGHTS = [name for name, _ in make_model(torch.float32).named_parameters()]


def of_weights(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: state[name] for name in WEIGHTS}


@SCHEDULE_FREE
@pytest.mark.parametrize("trainer", [SharpnessAwareModule, ManualAscent], ids=["automatic", "manual"])
@pytest.mark.filterwarnings("ignore:The 'val_dataloader' does not have many workers")
def test_a_schedule_free_base_trains_at_y_and_is_validated_at_x(trainer: Any, mode: str, tmp_path: Path) -> None:
    net = type("Both", (trainer, Validated), {})(lambda model: schedule_free(model, mode))
    keeps = ModelCheckpoint(tmp_path, save_top_k=-1, filename="{epoch}", save_on_train_epoch_end=True)
    fit(net, max_epochs=2, val_check_interval=3, enable_checkpointing=True, callbacks=[keeps])
    reference = make_model(torch.float32)
    x = schedule_free_weights(reference, 2 * BATCHES, loss_of, mode)
    validated = [x[step - 1] for step in (3, 6, 10, 13)]
    assert all(close(of_weights(s), of_weights(e)) for s, e in zip(net.seen[-4:], validated, strict=True))
    assert close(of_weights(snapshot(net.model)), of_weights(x[-1]))
    kept = torch.load(tmp_path / "epoch=1.ckpt", weights_only=True)["state_dict"]
    assert torch.equal(kept["model.0.weight"], net.model[0].weight)
    net.optimizers().optimizer.train()
    assert not close(of_weights(snapshot(net.model)), of_weights(x[-1]))  # y is another point


@pytest.mark.parametrize("kind", [Sharp, manual(1)], ids=["automatic", "manual"])
def test_resuming_a_schedule_free_base(kind: type[Net], tmp_path: Path) -> None:
    whole, half, rest = ends_of_resuming(kind, schedule_free, tmp_path)
    assert close(whole, rest)
    assert not close(half, rest)


@pytest.mark.parametrize("kind", [Sharp, manual(1)], ids=["automatic", "manual"])
@pytest.mark.filterwarnings("ignore:.*SWA|.*`lr_scheduler.step")
def test_stochastic_weight_averaging(kind: type[Net]) -> None:
    """The weights are the mean of those at the end of three epochs; statistics are made anew at the mean."""
    net = kind(sharp)
    swa = StochasticWeightAveraging(swa_lrs=0.05, swa_epoch_start=2, annealing_epochs=1)
    fit(net, max_epochs=4, callbacks=[swa])
    model = make_model(torch.float32)
    optimizer, ends = sharp(model), []
    for _ in range(4):
        plain_loop(model, optimizer, BATCHES, loss_of)
        ends.append(snapshot(model))
    mean = {name: torch.stack([end[name] for end in ends[:3]]).mean(0) for name in WEIGHTS}
    assert close(of_weights(snapshot(net.model)), mean)
    assert not close(of_weights(snapshot(net.model)), of_weights(ends[-1]))
    norm = net.model[1]
    with torch.no_grad():
        hidden = [net.model[0](x) for x, _ in BATCHES]
    assert torch.allclose(norm.running_mean, torch.stack([h.mean((0, 2)) for h in hidden]).mean(0), atol=1e-5)


@pytest.mark.parametrize("kind", [Sharp, manual(1)], ids=["automatic", "manual"])
@pytest.mark.parametrize(("name", "interval"), [("OneCycleLR", "step"), ("CosineAnnealingLR", "epoch")])
def test_learning_rate_schedulers_equal_the_plain_loop(name: str, interval: str, kind: type[Net]) -> None:
    steps = 2 * len(BATCHES) if interval == "step" else 2

    def schedule(optimizer: Any) -> Any:
        given = {"OneCycleLR": {"max_lr": 0.1, "total_steps": steps + 1}, "CosineAnnealingLR": {"T_max": steps}}
        return getattr(torch.optim.lr_scheduler, name)(optimizer, **given[name])

    def factory(model: nn.Module) -> dict[str, Any]:
        optimizer = sharp(model)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule(optimizer), "interval": interval}}

    net, model = kind(factory), make_model(torch.float32)
    fit(net, max_epochs=2)
    optimizer = sharp(model)
    by_hand = schedule(optimizer)
    for batch in 2 * BATCHES if interval == "step" else (BATCHES, BATCHES):
        plain_loop(model, optimizer, [batch] if interval == "step" else batch, loss_of)
        by_hand.step()
    assert equal(snapshot(net.model), snapshot(model))
    constant = Sharp(sharp)
    fit(constant, max_epochs=2)
    assert not equal(snapshot(net.model), snapshot(constant.model))
