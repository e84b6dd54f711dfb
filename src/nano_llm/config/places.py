"""What a configuration says of one machine and its user, and a shipped model must not: places, devices, accounts."""

from dataclasses import replace

from nano_llm.config.compose import compose_config
from nano_llm.config.schema import Config, Device, ImdbConfig, PathsConfig, TrackerConfig

PLACES = (
    "data.path=",
    "data.cad=",
    "data.movies=",
    "data.prepared=",
    "paths.",
    "trainer.device=",
    "trainer.num_threads=",
    "tracker",
)
"""Beginnings of overrides that tell of one machine or account; `without_places` takes the same out of a config."""


def without_places(config: Config) -> Config:
    """Return a configuration that tells of no machine and no account: neither where things lie or are shown nor what
    computes.

    None of this names a run or changes its numbers but ``data.movies``, by which the splits were drawn: the run's
    data.json says whether there were any.
    """
    data = replace(config.data, prepared=None)
    if isinstance(data, ImdbConfig):
        data = replace(data, path=None, cad=None, movies=None)
    trainer = replace(config.trainer, device=Device.auto, num_threads=None)
    # As conf/paths has them where no variable says otherwise.
    paths = PathsConfig(outputs="outputs", cache="~/.cache/nano_llm")
    return replace(config, data=data, trainer=trainer, tracker=TrackerConfig(), paths=paths)


def with_places(config: Config, *, has_movies: bool, cad: str | None = None) -> Config:
    """Return a configuration that told of no machine with the places of this one, as the environment gives them.

    Counterfactual reviews that are not here take no originals out of the corpus, which changes its fingerprint: a model
    can be judged without them.

    Args:
        config: As `without_places` returned it.
        has_movies: Whether the splits were drawn by movies.
        cad: Folder of the counterfactual reviews, in the place of the environment's.
    """
    here = compose_config(["data=imdb"])
    data = config.data
    if isinstance(data, ImdbConfig):
        assert isinstance(here.data, ImdbConfig)
        movies = here.data.movies if has_movies else None
        cad = cad or here.data.cad
        exclude_cad = data.exclude_cad and cad is not None
        data = replace(data, path=here.data.path, cad=cad, movies=movies, exclude_cad=exclude_cad)
    return replace(config, data=data, paths=here.paths)
