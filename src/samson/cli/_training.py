"""`samson train`: one network, by one method."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer

from samson._errors import SetupError, require
from samson.cli._errors import require_writable
from samson.cli._options import Device
from samson.cli._showing import console, empty_table, show_whole, speaks, stage_bar
from samson.records import Problem, RhoRecord, Training, write_json


def train(
    out: Annotated[Path, typer.Option(help="Folder for `model.safetensors`, its record, and what is kept.")],
    data: Annotated[str, typer.Option(help="Data set: see `samson list data`, or MODULE:FUNCTION.")] = "digits",
    network: Annotated[str, typer.Option(help="See `samson list networks`, or MODULE:FUNCTION.")] = "small-resnet",
    method: Annotated[str, typer.Option(help="See `samson list methods`, or MODULE:FUNCTION.")] = "samson",
    seed: Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Seed of everything random.")] = 0,
    base: Annotated[str | None, typer.Option(help="Base optimizer, of `torch.optim`; SGD by default.")] = None,
    trainer: Annotated[
        str | None, typer.Option("--train", help="Your own training function, as MODULE:FUNCTION.")
    ] = None,
    task: Annotated[
        str | None, typer.Option(help="Your own task, as MODULE:CLASS; by default what the data are for.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training split.")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", metavar="PARAM=VALUE", help="A method's setting.")] = None,
    recipe: Annotated[
        list[str] | None,
        typer.Option("--recipe", metavar="KEY=VALUE", help="How to train, for example batch_size=64: see `Recipe`."),
    ] = None,
    data_root: Annotated[
        str | None, typer.Option(envvar="SAMSON_DATA", help="Folder where files of data are looked for.")
    ] = None,
    device: Device = "cpu",
    parallel: Annotated[str, typer.Option(help="Under torchrun: ddp or fsdp2.")] = "ddp",
    log: Annotated[bool, typer.Option("--log", help="Write TensorBoard logs to the folder.")] = False,
    range_test: Annotated[
        bool, typer.Option("--find-rho", help="Save no network: raise ρ step by step, suggest one, write `rho.json`.")
    ] = False,
) -> None:
    """Train a network, and save it as DIR/model.safetensors; how it was made is in DIR/training.json.

    A command that was cut off goes on where it stopped, and ends in the same weights; with several processes it starts
    again. A folder with a comparison, or with a network that was trained otherwise, is refused.
    """
    import tomllib

    from samson.experiments import check_folder, find_place, find_rho, parse_methods, plan_suite, save_trained

    settings: dict[str, Any] = {}
    for given in recipe or ():
        key, equals, value = given.partition("=")
        require(bool(equals), "--recipe", "KEY=VALUE", given, "Write for example --recipe batch_size=64.")
        try:
            settings |= tomllib.loads(f"{key} = {value}")
        except tomllib.TOMLDecodeError:
            require("=" not in value, "--recipe", "one KEY=VALUE", given, "Repeat --recipe for another.")
            settings[key.strip()] = value.strip()
            with suppress(ValueError):  # TOML takes no `.1`
                settings[key.strip()] = float(value)
    if epochs is not None:
        settings["epochs"] = epochs
    table: dict[str, Any] = {"data": data, "network": network, "methods": [method], "recipe": settings}
    more = {"base": base, "train": trainer, "task": task, "data_root": data_root}
    table |= {key: value for key, value in more.items() if value is not None}
    try:
        [parsed] = parse_methods([method], base=base or "SGD")
        table["set"] = []
        for one in set_ or ():
            target, equals, _ = one.partition("=")
            require(bool(equals), "--set", "PARAM=VALUE", one, "Write for example --set rho=0.5.")
            searched = range_test and target.rpartition(".")[2].strip() == "rho"
            require(not searched, "--set rho", "left out with --find-rho", one, "It tries many; leave one out.")
            table["set"].append(one if "." in target else f"{parsed.name}.{one}")
        plan = plan_suite(table)
    except SetupError as error:  # this command has one method
        raise SetupError(str(error).replace("`methods`", "--method").replace("task = ", "--task ")) from error
    require_writable("--out", out / ("rho.json" if range_test else "model.safetensors"))
    check_folder(plan, seed, out, free="rho" if range_test else "")
    if range_test:
        require(not log, "--log", "left out with --find-rho", log, "Leave one out.")
        with find_place(device, parallel) as place, stage_bar() as progress:
            found = find_rho(plan, seed, place, progress)
        _show_rho(found, out / "rho.json")
        return
    with find_place(device, parallel) as place, stage_bar() as progress:
        training = save_trained(plan, seed, out, place, progress, log=log)
    if training.diverged_at is not None:
        console(stderr=True).print(
            f"The training diverged at step {training.diverged_at}.\n"
            + ("Look at data and loss." if training.diverged_at == 1 else "Try a smaller lr or perturbation.")
        )
        raise typer.Exit(1)
    _show_training(plan.problems[0].record, training, out)


def _show_training(problem: Problem, training: Training, out: Path) -> None:
    if not speaks():
        return
    screen, moved = console(), training.perturbation
    if training.validation is not None:
        value = f"{100 * training.validation:.1f} %" if problem.is_fraction else f"{training.validation:.4g}"
        screen.print(f"Validation {problem.metric}: {value}, in {training.seconds:.1f} s.")
    if moved is not None:
        losses = [f"{loss:.4f}" if loss is not None else "–" for loss in (moved.clean_loss, moved.perturbed_loss)]
        norm = "" if moved.epsilon_norm is None else f", ‖ε‖ {moved.epsilon_norm:.3g}"
        screen.print(f"The last perturbation: loss {losses[0]} at the weights, {losses[1]} perturbed{norm}.")
    screen.print(f"Network: {(out / 'model.safetensors').resolve()}", soft_wrap=True)
    screen.print(f"Record: {(out / 'training.json').resolve()}", soft_wrap=True)


def _show_rho(found: RhoRecord, path: Path) -> None:
    if not speaks():
        return
    from samson.experiments import diverged

    table = empty_table(f"Range test of {found.method}")
    for name in ("rho", "Loss", "Perturbed loss"):
        table.add_column(name, justify="right")
    for point in found.points:
        table.add_row(f"{point.rho:.3g}", f"{point.clean_loss:.4f}", f"{point.perturbed_loss:.4f}")
    show_whole(table)
    screen = console()
    if found.suggested is None and diverged(found):
        screen.print("No rho to suggest: the training diverged. Take a smaller lr: --set lr=0.01.")
    elif found.suggested is None:
        screen.print("No rho to suggest: the perturbed loss did not fall and rise again. Try more --epochs.")
    else:
        screen.print(f"Suggested: --set rho={found.suggested:g}, and look at a third and a tenth of it.")
    write_json(path, found)
    screen.print(f"Record: {path.resolve()}", soft_wrap=True)
