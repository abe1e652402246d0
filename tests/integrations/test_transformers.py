"""Transformers: a small model made from a configuration, trained by the Trainer and by hand."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

pytest.importorskip("transformers")
pytest.importorskip("accelerate")

from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from samson import SAM, SAMSON, Lookbehind, SharpnessAware
from samson.evaluation import evaluate, sensitivity
from samson.integrations.transformers import SharpnessAwareTrainer
from samson.noise import Gaussian, Periphery, ThroughChip
from tests.conftest import equal, make_batch, make_model, snapshot
from tests.integrations.plain import (
    MODES,
    close,
    plain_step,
    schedule_free,
    schedule_free_weights,
    sgd,
    sharp,
)

Factory = Callable[[nn.Module], Any]


def llama() -> nn.Module:
    """A network whose loss is a sum, divided by the number of tokens in all micro-batches of a step."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    return LlamaForCausalLM(LlamaConfig(vocab_size=16, max_position_embeddings=16, pad_token_id=0, **sizes))


class Classifier(nn.Module):
    """A network whose loss is a mean, which the Trainer divides by the number of micro-batches in a step."""

    def __init__(self) -> None:
        super().__init__()
        self.network = make_model(torch.float32)

    def forward(self, x: Tensor, labels: Tensor) -> dict[str, Tensor]:
        logits = self.network(x)
        return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}


def data(make: Callable[[], nn.Module]) -> list[dict[str, Tensor]]:
    """28 rows; Llama's have different numbers of labels, so that the number of tokens matters."""
    if make is Classifier:
        return [{"x": x, "labels": y} for x, y in zip(*make_batch(torch.float32, size=28), strict=True)]
    generator = torch.Generator().manual_seed(1)
    rows = []
    for number in range(28):
        tokens = torch.randint(1, 16, (6,), generator=generator)
        rows.append({"input_ids": tokens, "labels": tokens.masked_fill(torch.arange(6) > 2 + number % 4, -100)})
    return rows


def batches(make: Callable[[], nn.Module]) -> list[dict[str, Tensor]]:
    rows = data(make)
    return [{key: torch.stack([row[key] for row in rows[i : i + 4]]) for key in rows[0]} for i in range(0, 28, 4)]


def tokens_in(held: list[dict[str, Tensor]]) -> Tensor:
    """How many predictions have a target: the first token of a row is none."""
    return torch.stack([(batch["labels"][:, 1:] != -100).sum() for batch in held]).sum()


class Losses(TrainerCallback):
    """Keeps the logged losses, and how many trainings began in all."""

    begun = 0

    def __init__(self) -> None:
        self.logged: list[float] = []
        self.rows: list[dict[str, float]] = []

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        Losses.begun += 1

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float], **kwargs: Any) -> None:
        if "loss" in logs:
            self.logged.append(logs["loss"])
            self.rows.append(logs)


def train(
    model: nn.Module,
    path: Path,
    optimizer: Any = None,
    kind: type[Trainer] = SharpnessAwareTrainer,
    make: Callable[[], nn.Module] = llama,
    resume: str | None = None,
    **settings: Any,
) -> Losses:
    losses = Losses()
    extra = {name: settings.pop(name) for name in ("rule", "compute_loss_func", "eval_dataset") if name in settings}
    quiet = {
        "use_cpu": True,
        "per_device_train_batch_size": 4,
        "num_train_epochs": 1,
        "train_sampling_strategy": "sequential",
        "lr_scheduler_type": "constant",
        "max_grad_norm": 0.0,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": [],
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
    }
    trainer = kind(
        model,
        TrainingArguments(str(path), **quiet | settings),
        train_dataset=data(make),
        optimizers=(optimizer, None),
        callbacks=[losses],
        **extra,
    )
    trainer.train(resume_from_checkpoint=resume)
    return losses


@cache
def by_hand(
    factory: Factory, make: Callable[[], nn.Module] = llama, accumulate: int = 3, clip: float | None = None
) -> dict[str, Tensor]:
    """The plain loop: micro-batches of a step share one count of tokens (Llama) or are averaged (BERT)."""
    model, all_batches = make().train(), batches(make)
    optimizer = factory(model)
    clipping = None if clip is None else lambda: nn.utils.clip_grad_norm_(model.parameters(), clip)
    for start in range(0, len(all_batches), accumulate):

        def run(held: list[dict[str, Tensor]] = all_batches[start : start + accumulate]) -> None:
            for batch in held:
                if make is llama:
                    model(**batch, num_items_in_batch=tokens_in(held)).loss.backward()
                else:
                    (model(**batch)["loss"] / len(held)).backward()

        plain_step(optimizer, run, clipping)
    return snapshot(model)


@pytest.mark.parametrize("mode", MODES)
def test_the_trainer_equals_the_plain_loop(mode: str, tmp_path: Path) -> None:
    """Of 7 batches, the last step has one."""
    model = llama()
    train(model, tmp_path, sharp(model, mode), gradient_accumulation_steps=3)
    assert equal(snapshot(model), by_hand(lambda m: sharp(m, mode)))
    assert not equal(snapshot(model), by_hand(sgd))


def test_a_loss_that_is_averaged_over_micro_batches(tmp_path: Path) -> None:
    """Also shows that norm statistics are those of the clean pass."""
    model = Classifier()
    train(model, tmp_path, sharp(model), make=Classifier, gradient_accumulation_steps=3)
    assert equal(snapshot(model), by_hand(sharp, Classifier))
    assert not equal(snapshot(model), by_hand(sgd, Classifier))


@pytest.mark.filterwarnings("ignore:SharpnessAware. no perturbation was made")
def test_the_bare_trainer_would_be_the_base_optimizer(tmp_path: Path) -> None:
    models = [llama(), llama()]
    train(models[0], tmp_path, sharp(models[0]), Trainer, gradient_accumulation_steps=3)
    train(models[1], tmp_path, sgd(models[1]), Trainer, gradient_accumulation_steps=3)
    assert equal(*map(snapshot, models))
    assert equal(snapshot(models[0]), by_hand(sgd))


@pytest.mark.parametrize("accumulate", [1, 3])
def test_the_second_gradient_is_clipped(accumulate: int, tmp_path: Path) -> None:
    model = llama()
    train(model, tmp_path, sharp(model), gradient_accumulation_steps=accumulate, max_grad_norm=0.1)
    assert equal(snapshot(model), by_hand(sharp, accumulate=accumulate, clip=0.1))
    assert not equal(snapshot(model), by_hand(sharp, accumulate=accumulate))


def test_clipping_counts_no_gradient_twice(tmp_path: Path) -> None:
    """A parameter that requires a gradient and is in no group gets one from each pass."""

    def without_head(model: nn.Module, lr: float = 0.05) -> SharpnessAware:
        named = [(n, p) for n, p in model.named_parameters() if not n.startswith("lm_head")]
        return SharpnessAware(torch.optim.SGD(named, lr=lr), SAM(rho=0.1), model=model)

    model, reference = llama(), llama()
    train(model, tmp_path, without_head(model), max_grad_norm=0.1)
    optimizer = without_head(reference)
    for batch in batches(llama):
        reference.zero_grad()
        reference(**batch, num_items_in_batch=tokens_in([batch])).loss.backward()
        with optimizer.perturbed():
            reference.zero_grad()
            reference(**batch, num_items_in_batch=tokens_in([batch])).loss.backward()
        nn.utils.clip_grad_norm_(reference.parameters(), 0.1)
        optimizer.step()
    assert equal(snapshot(model), snapshot(reference))


def test_the_logged_loss_is_the_clean_one(tmp_path: Path) -> None:
    """Both passes are run by `compute_loss_func`, which writes every loss down."""
    model, passes = llama(), []

    def loss_of(outputs: Any, labels: Tensor, num_items_in_batch: Tensor) -> Tensor:
        logits, targets = outputs.logits[:, :-1], labels[:, 1:]
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="sum")
        passes.append((loss / num_items_in_batch).item())
        return loss / num_items_in_batch

    losses = train(model, tmp_path, sharp(model), gradient_accumulation_steps=3, compute_loss_func=loss_of)
    clean, perturbed = [], []
    for size in (3, 3, 1):
        clean.append(sum(passes[:size]))
        perturbed.append(sum(passes[size : 2 * size]))
        passes = passes[2 * size :]
    assert losses.logged == pytest.approx(clean, abs=1e-6)
    assert losses.logged != pytest.approx(perturbed, abs=1e-6)
    assert [row["ascent/clean_loss"] for row in losses.rows] == pytest.approx(clean, abs=1e-6)
    assert [row["ascent/perturbed_loss"] for row in losses.rows] == pytest.approx(perturbed, abs=1e-6)


def test_a_mode_with_one_pass_logs_each_steps_loss(tmp_path: Path) -> None:
    """With a radius of 0 the one pass is a clean one, and its log that of the base optimizer."""
    logs = []
    for factory in (sgd, lambda m: SharpnessAware(sgd(m), SAMSON(rho=0.0), ascent="previous")):
        model = llama()
        kind = Trainer if factory is sgd else SharpnessAwareTrainer
        logs.append(train(model, tmp_path, factory(model), kind, gradient_accumulation_steps=3).logged)
    assert logs[0] == logs[1]
    assert len(logs[0]) == 3


def test_the_last_ascent_is_logged_with_each_loss(tmp_path: Path) -> None:
    """As Lightning's AscentMonitor does; a step that does not climb has the values of the one before."""
    model, reference, expected = llama(), llama(), []
    optimizer = sharp(reference, "every second step", measure=True)
    for batch in batches(llama):

        def run(batch: dict[str, Tensor] = batch) -> None:
            reference(**batch, num_items_in_batch=tokens_in([batch])).loss.backward()

        plain_step(optimizer, run)
        expected.append([float(optimizer.last_ascent.gradient_norm), float(optimizer.last_ascent.epsilon_norm), 0.0])
    rows = train(model, tmp_path, sharp(model, "every second step", measure=True)).rows
    found = [[row[f"ascent/{name}"] for name in ("gradient_norm", "epsilon_norm", "skipped")] for row in rows]
    assert found == expected
    assert len({tuple(row) for row in found}) == 4  # 7 steps, each second one plain
    assert "ascent/epsilon_norm" not in train(model, tmp_path, sharp(model)).rows[0]


def loss_of(network: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    loss: Tensor = network(**batch, num_items_in_batch=tokens_in([batch])).loss
    return loss


@pytest.mark.parametrize(
    ("mode", "evaluate"),
    [
        pytest.param("two passes", False, id="training alone"),
        *[(mode, True) for mode in ("two passes", "previous gradient", "every second step")],
    ],
)
def test_a_schedule_free_base_trains_at_y_and_ends_at_x(mode: str, evaluate: bool, tmp_path: Path) -> None:
    """An evaluation switches to x; the next pass, also one that starts perturbed, is at y again."""
    model = llama()
    asked = {"eval_strategy": "steps", "eval_steps": 2, "eval_dataset": data(llama)[:4]} if evaluate else {}
    train(model, tmp_path, schedule_free(model, mode, rho=0.05), **asked)

    x = schedule_free_weights(llama(), batches(llama), loss_of, mode, rho=0.05)
    assert close(snapshot(model), x[-1])
    assert not close(snapshot(model), x[-2])


class StopAtThree(TrainerCallback):
    """Which, unlike the end of the data, asks for no evaluation."""

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        control.should_training_stop = state.global_step == 3


def test_the_best_weights_of_a_schedule_free_base_stay_as_they_were_saved(tmp_path: Path) -> None:
    """Which was at x, after step 2; the optimizer ends after step 3, in training mode."""

    def stopped(*args: Any, callbacks: list[TrainerCallback], **kwargs: Any) -> Trainer:
        return SharpnessAwareTrainer(*args, callbacks=[*callbacks, StopAtThree()], **kwargs)

    model = llama()
    asked = {"eval_strategy": "steps", "eval_steps": 2, "eval_dataset": data(llama)[:4]}
    saved = {"save_strategy": "steps", "save_steps": 2, "load_best_model_at_end": True}
    train(model, tmp_path, schedule_free(model, rho=0.05), stopped, **asked, **saved)

    x = schedule_free_weights(llama(), batches(llama)[:3], loss_of, rho=0.05)
    assert [close(snapshot(model), at) for at in x] == [False, True, False]


def test_a_rule_wraps_the_trainers_own_optimizer(tmp_path: Path) -> None:
    """Which equals one that is made by hand from the Trainer's own groups."""
    models = [llama() for _ in range(4)]
    settings = {"learning_rate": 0.01, "weight_decay": 0.1, "optim": "adamw_torch"}
    train(models[0], tmp_path, rule=SAMSON(rho=0.5), **settings)
    train(models[1], tmp_path, kind=Trainer, **settings)
    assert not equal(*map(snapshot, models[:2]))
    base = Trainer(models[3], TrainingArguments(str(tmp_path), use_cpu=True, **settings)).create_optimizer()
    assert [group["weight_decay"] for group in base.param_groups] == [0.1, 0.0]
    train(models[3], tmp_path, SharpnessAware(base, SAMSON(rho=0.5), model=models[3]))
    assert equal(snapshot(models[0]), snapshot(models[3]))

    class ByHand(Trainer):
        def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
            self.made = self.optimizer = SharpnessAware(super().create_optimizer(model), SAMSON(0.5), model=models[2])
            return self.optimizer

    class Mixed(SharpnessAwareTrainer, ByHand):
        """Also shows the class as a mixin."""

    train(models[2], tmp_path, kind=Mixed, **settings)
    assert equal(snapshot(models[0]), snapshot(models[2]))


def test_learned_input_ranges_are_left_alone_by_rule_and_weight_decay(tmp_path: Path) -> None:
    model = llama()
    ThroughChip(model, Periphery(dac_steps=254), [{name: value[None] for name, value in data(llama)[0].items()}])
    arguments = TrainingArguments(str(tmp_path), use_cpu=True, weight_decay=0.1, optim="adamw_torch")
    optimizer = SharpnessAwareTrainer(model, arguments, rule=SAMSON(rho=0.5)).create_optimizer()
    names = {p: name for name, p in model.named_parameters()}
    decayed, free = ([names[p] for p in group["params"]] for group in optimizer.param_groups)
    ranges = [name for name in names.values() if name.endswith("input_range")]
    assert ranges
    assert set(ranges) <= set(free)
    assert not set(ranges) & set(decayed)


def test_bf16_trains_perturbed(tmp_path: Path) -> None:
    ends = []
    for factory, kind in ((sharp, SharpnessAwareTrainer), (sgd, Trainer)):
        model = llama()
        train(model, tmp_path, factory(model), kind, bf16=True, gradient_accumulation_steps=3)
        ends.append(snapshot(model))
    assert not equal(*ends)
    assert all(torch.allclose(ends[0][k], by_hand(sharp)[k], atol=2e-2) for k in ends[0])


def test_resuming_gives_the_same_weights(tmp_path: Path) -> None:
    ends = []
    for resume in (None, str(tmp_path / "checkpoint-1")):
        model = llama()
        optimizer = sharp(model, "every second step")
        settings = {"save_strategy": "steps", "save_steps": 1, "save_only_model": False}
        train(model, tmp_path, optimizer, gradient_accumulation_steps=3, resume=resume, **settings)
        ends.append(snapshot(model))
    assert equal(*ends)


def test_what_cannot_work_is_refused_before_training(tmp_path: Path) -> None:
    for factory, name in ((sgd, "SGD"), (lambda m: Lookbehind(sgd(m), SAM()), "Lookbehind")):
        model, begun = llama(), Losses.begun
        with pytest.raises(TypeError, match=f"must be or wrap a SharpnessAware, got {name}"):
            train(model, tmp_path, factory(model))
        assert Losses.begun == begun
    model = llama()
    with pytest.raises(ValueError, match="`rule` is for the Trainer's own optimizer"):
        train(model, tmp_path, sharp(model), rule=SAM())


def test_an_encoder_with_a_decoder_is_evaluated() -> None:
    torch.manual_seed(0)
    sizes = {"d_model": 8, "d_kv": 4, "d_ff": 16, "num_layers": 1, "num_heads": 2}
    model = T5ForConditionalGeneration(T5Config(vocab_size=9, decoder_start_token_id=0, **sizes)).eval()
    words, labels = torch.randint(1, 9, (2, 20, 7))
    batch = {"input_ids": words, "labels": labels, "decoder_input_ids": model._shift_right(labels)}
    found = evaluate(model, [batch], Gaussian(0.2), trials=2, metric="perplexity")
    with torch.no_grad():
        assert found.clean == pytest.approx(model(**batch).loss.exp().item(), rel=1e-5)
    del batch["decoder_input_ids"]
    for ask in (evaluate, sensitivity):
        with pytest.raises(ValueError, match="must have `decoder_input_ids` .* got the keys input_ids. DataCollator"):
            ask(model, [batch], Gaussian(0.2), trials=2, metric="perplexity")
