"""A program that evaluates on a local cluster of two nodes, while workers and a node are lost; it writes what it found.

It is a process of its own since Ray reads its environment when it is imported.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path
from threading import Thread
from typing import Any

import torch

from samson.evaluation import Evaluation, Ray, Serial, evaluate
from tests.distributed.evaluate_checks import DATA, LAYOUT, NOISE, make
from tests.distributed.evaluate_tasks import Watching

LOOPBACK = "127.0.0.1"
NODE = {"num_cpus": 1, "node_ip_address": LOOPBACK, "object_store_memory": 80_000_000}
ENVIRONMENT = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_health_check_period_ms": "1000",
    "RAY_worker_niceness": "0",  # else, on a busy machine, the workers wait for everything else
}
folder = Path(sys.argv[-1])


def measured(executor: Any, **settings: Any) -> Evaluation:
    return evaluate(make(), DATA, NOISE, layout=LAYOUT, executor=executor, **{"trials": 12, "seed": 3} | settings)


def answers(result: Evaluation) -> list[Any]:
    return [result.trials, result.scores.tolist()]


def a_worker_is_killed() -> dict[str, Any]:
    watching = Watching(Ray(), folder / "kills", kills=5)
    done: list[int] = []
    result = measured(watching, progress=lambda state: done.append(state.done))
    return {
        "same": answers(result) == answers(measured(Serial())),
        "other seed": answers(result) == answers(measured(Serial(), seed=4)),
        "begun": watching.begun(),
        "processes": watching.processes(),
        "done": done,
    }


def an_interrupt(ray: Any) -> dict[str, Any]:
    """By Ctrl-C, as soon as a trial runs: long before it ends, however slowly the interrupt arrives."""
    watching = Watching(Ray(), folder / "interrupt", seconds=6.0)

    def interrupt() -> None:
        while not watching.begun():
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    Thread(target=interrupt, daemon=True).start()
    try:
        measured(watching, trials=60)
    except KeyboardInterrupt:
        before = watching.ended(), len(watching.begun())
        time.sleep(7.0)
        after = watching.ended(), len(watching.begun())
        return {"before": before, "after": after, "still connected": ray.is_initialized()}
    return {}


def a_node_is_lost(ray: Any) -> dict[str, Any]:
    """With all that runs on it, as soon as a trial begins there."""
    head = ray.get_runtime_context().get_node_id()
    watching = Watching(Ray(), folder / "node", spares=head)
    result = measured(watching)
    deadline = time.monotonic() + 60
    while len(alive := [node for node in ray.nodes() if node["Alive"]]) > 1 and time.monotonic() < deadline:
        time.sleep(0.2)
    return {"same": answers(result) == answers(measured(Serial())), "begun": watching.begun(), "nodes": len(alive)}


def main() -> None:
    os.environ.update(ENVIRONMENT)
    torch.set_num_threads(1)
    import ray
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args=NODE)
    cluster.add_node(**NODE)
    ray.init(address=cluster.address, _node_ip_address=LOOPBACK, log_to_driver=False)
    found = {
        "a killed worker": a_worker_is_killed(),
        "an interrupt": an_interrupt(ray),
        "a lost node": a_node_is_lost(ray),
    }
    (folder / "found.json").write_text(json.dumps(found))
    ray.shutdown()
    cluster.shutdown()


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # whatever the parent ignores
    main()
