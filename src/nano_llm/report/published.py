"""The figures that the reference system published for its three 512-wide runs (one seed each)."""

from dataclasses import dataclass

WIDTH = 512


@dataclass(frozen=True)
class Published:
    """One row of the published table."""

    parameters: int
    epochs: int
    best_ce: float
    """Nats a target; for two heads it includes the separation term, as our val_objective does."""
    final_ce: float
    """As best_ce, after the last epoch."""
    ppl: float
    """exp(best_ce)."""
    hours: float
    """Wall time of the whole run."""


PUBLISHED = {
    "imdb_baseline_vanilla_20m": Published(18_062_400, 20, 1.727, 1.727, 5.62, 1.2),
    "imdb_baseline_natural_20m": Published(18_074_688, 20, 1.717, 1.717, 5.57, 2.2),
    "counterfactual_repeat_20m": Published(20_040_768, 40, 1.650, 1.664, 5.21, 4.8),
}
"""Name of the reference's run, which is the name of our arm in experiment=table512 -> its row."""


def published_row(name: str, protocol: object, width: object, parameters: float | None) -> Published | None:
    """Return the published row of an arm; None unless it is the same run.

    Args:
        name: Of the arm.
        protocol: Name of its protocol.
        width: Of its trunk.
        parameters: Of its model; None before a seed has finished.
    """
    row = PUBLISHED.get(name)
    if row is None or protocol != "reference" or width != WIDTH or parameters not in (None, row.parameters):
        return None
    return row
