"""Where the time of a training step goes on this CPU: the share of each of PyTorch's operators.

    python experiments/bench/profile.py

Profiles steps of `nano-llm bench train` and writes profile.json beside this file. Run it alone on the machine.
"""

import json
from pathlib import Path

from torch.profiler import ProfilerActivity, profile

from nano_llm.bench.train import OURS, our_step
from nano_llm.config.schema import Precision
from nano_llm.tracking.environment import environment

NUM_STEPS, LEAST = 3, 0.01


def main() -> None:
    shares = {
        f"{scale} {model}": operators([*OURS[model], f"scale={scale}"])
        for scale in ("nano", "w512")
        for model in ("vanilla", "tarnet")
    }
    record = {"steps": NUM_STEPS, "share_of_time": shares, "environment": environment()}
    Path(__file__).with_suffix(".json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    for name, share in shares.items():
        print(name, {operator: f"{value:.0%}" for operator, value in share.items()})


def operators(overrides: list[str]) -> dict[str, float]:
    """Return the share of the time that each operator takes itself, the largest first."""
    step = our_step(overrides, Precision.fp32)
    for _ in range(2):
        step.run()
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        for _ in range(NUM_STEPS):
            step.run()
    events = profiled.key_averages()
    total = sum(event.self_cpu_time_total for event in events)
    times = {event.key: event.self_cpu_time_total / total for event in events}
    return {name: times[name] for name in sorted(times, key=times.__getitem__, reverse=True) if times[name] >= LEAST}


if __name__ == "__main__":
    main()
