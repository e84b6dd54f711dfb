"""Where the time of a training step and of a decoded token goes on this CPU: the share of each of PyTorch's operators.

    python experiments/bench/profile.py

Profiles what `nano-llm bench train` and `bench decode` measure, and writes profile.json beside this file. Run it alone
on the machine.
"""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

from torch.profiler import ProfilerActivity, profile

from nano_llm.bench.decode import our_decodings
from nano_llm.bench.train import OURS, our_step
from nano_llm.config.schema import Precision
from nano_llm.tracking.environment import environment

NUM_STEPS, NUM_TOKENS, LEAST = 3, 100, 0.01
STEPS = [(scale, model) for scale in ("nano", "w512") for model in ("vanilla", "interblock", "tarnet")]


def main() -> None:
    shares = {}
    for scale, model in STEPS:
        step = our_step([*OURS[model], f"scale={scale}"], Precision.fp32)
        shares[f"step, {scale} {model}"] = operators(step.run, NUM_STEPS)
    for model in ("vanilla", "tarnet"):
        one_text = our_decodings(model, "w512")[0]
        shares[f"token, w512 {model}"] = operators(partial(one_text.write, NUM_TOKENS), 1)
    record = {
        "steps": NUM_STEPS,
        "tokens": NUM_TOKENS,
        "share_of_operators": shares,
        "environment": environment(),
    }
    Path(__file__).with_suffix(".json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    for name, share in shares.items():
        print(name, {operator: f"{value:.0%}" for operator, value in share.items()})


def operators(run: Callable[[], object], times: int) -> dict[str, float]:
    """Return the share that each operator has itself in the time of all of them, the largest first."""
    for _ in range(2):
        run()
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        for _ in range(times):
            run()
    events = profiled.key_averages()
    total = sum(event.self_cpu_time_total for event in events)
    found = {event.key: event.self_cpu_time_total / total for event in events}
    return {name: found[name] for name in sorted(found, key=found.__getitem__, reverse=True) if found[name] >= LEAST}


if __name__ == "__main__":
    main()
