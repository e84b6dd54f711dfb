"""``nano-llm serve``: a trained model behind HTTP, for OpenAI's clients and for people."""

import argparse
import logging
import math
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from types import FrameType

from nano_llm.cli.asking import add_model, author_of, find_place
from nano_llm.cli.extras import require
from nano_llm.config.schema import Device
from nano_llm.serving.key import KEY_VARIABLE, checked_key
from nano_llm.serving.limits import Limits

NUM_ROWS, DEFAULTS = 64, Limits()
NEEDED = ("fastapi", "prometheus_client", "uvicorn")


def main(arguments: Sequence[str]) -> int:
    """Serve a model until SIGINT or SIGTERM."""
    given = _parser().parse_args(arguments)
    require(NEEDED, extra="serve", purpose="Serving")
    keys = _keys(given)

    with _told_signals():
        _serve(given, keys)
    return 0


def _serve(given: argparse.Namespace, keys: Sequence[str]) -> None:
    from nano_llm import checkpoint
    from nano_llm.serving.app import create_app
    from nano_llm.serving.engine import Engine
    from nano_llm.serving.server import bind, names_of, serve, url_of
    from nano_llm.serving.service import Service

    place = find_place(given)
    folder = checkpoint.present(place.checkpoint)
    with bind(given.host, given.port, has_key=bool(keys)) as listener:
        thread = ThreadPoolExecutor(1)
        loaded = checkpoint.load(folder)
        author = thread.submit(author_of, loaded, Device[given.device], given.rows).result()
        limits = Limits(
            # What the queue could never take is no overload.
            max_texts=min(DEFAULTS.max_texts, given.rows + given.queue),
            num_waiting=given.queue,
            seconds=given.deadline,
            grace_seconds=given.grace,
        )
        service = Service(
            author=author,
            engine=Engine(author, num_waiting=limits.num_waiting, thread=thread),
            limits=limits,
            name=given.name or _name_of_run(place.folder.resolve().parts),
            fingerprint=loaded.fingerprint,
            created=int((folder / "manifest.json").stat().st_mtime),
            censored=not given.no_censor,
        )
        # Who has a key is no page of a stranger, so it may call the server as it likes.
        app = create_app(service, keys, None if keys else names_of(listener))
        logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.INFO)
        url = url_of(listener)

        def announce() -> None:
            print(f"{service.name} at {url}  page: {url}/  interface: {url}/openapi.json", flush=True)

        serve(app, service.engine, listener, grace_seconds=limits.grace_seconds, announce=announce)


@contextmanager
def _told_signals() -> Iterator[None]:
    """Let signals end the process at once, but not without a word; to `serve`, they are wishes."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    previous = {number: signal.signal(number, _end) for number in numbers}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _end(number: int, _: FrameType | None) -> None:
    told = f"{signal.Signals(number).name}: ended at once, for no request was being answered."
    print(told, file=sys.stderr, flush=True)
    signal.signal(number, signal.SIG_DFL)
    signal.raise_signal(number)  # an exception would wait for the thread that loads the model


def _keys(given: argparse.Namespace) -> list[str]:
    keys = [checked_key(key, "--api-key") for key in given.api_key]
    variable = os.environ.get(KEY_VARIABLE)
    return [*keys, checked_key(variable, KEY_VARIABLE)] if variable else keys


def _name_of_run(parts: Sequence[str]) -> str:
    """Return the id of a run's model: its arm and its seed; of a checkpoint that lies elsewhere, its folder."""
    return "-".join(parts[-2:]) if parts[-1].startswith("seed-") else parts[-1]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="nano-llm serve",
        description="Serve a trained model: the protocol of OpenAI, both outcomes live, and a page at /.",
        epilog="example: nano-llm serve latest, then open http://127.0.0.1:18080",
    )
    add_model(parser)
    parser.add_argument("--host", default="127.0.0.1", help="beyond this machine it needs a key; default: %(default)s")
    parser.add_argument("--port", type=_port, default=18080, help="0 takes a free one; default: %(default)s")
    parser.add_argument(
        "--api-key",
        action="append",
        default=[],
        metavar="KEY",
        help=f"opens the server, for which `Authorization: Bearer KEY` is then needed; may be given several times. "
        f"Others on this machine can read it here, and not in {KEY_VARIABLE}",
    )
    parser.add_argument("--name", type=_name, metavar="ID", help="of the model, for clients; default: of its run")
    bounds = parser.add_argument_group("bounds")
    bounds.add_argument("--rows", type=_count, default=NUM_ROWS, help="texts written at once; default: %(default)s")
    bounds.add_argument(
        "--queue", type=_count, default=DEFAULTS.num_waiting, help="texts that may wait; default: %(default)s"
    )
    bounds.add_argument(
        "--deadline",
        type=_time,
        default=DEFAULTS.seconds,
        metavar="SECONDS",
        help="what an answer may take, waiting included; default: %(default)g",
    )
    bounds.add_argument(
        "--grace",
        type=_seconds,
        default=DEFAULTS.grace_seconds,
        metavar="SECONDS",
        help="what running answers are given at the end; default: %(default)g",
    )
    return parser


def _port(text: str) -> int:
    return int(_checked(text, lambda port: port % 1 == 0 and 0 <= port < 1 << 16, "a port is a number from 0 to 65535"))


def _count(text: str) -> int:
    return int(_checked(text, lambda count: count % 1 == 0 and 1 <= count <= 10_000, "give a number from 1 to 10000"))


def _seconds(text: str) -> float:
    return _checked(text, lambda seconds: 0 <= seconds <= 86_400, "give seconds, from 0 to 86400")


def _time(text: str) -> float:
    return _checked(text, lambda seconds: 0 < seconds <= 86_400, "give seconds, more than 0 and at most 86400")


def _name(text: str) -> str:
    if not text.strip() or not text.isprintable():
        raise argparse.ArgumentTypeError(f"{text!r}: give a name that can be printed, or leave --name out")
    return text


def _checked(text: str, is_right: Callable[[float], bool], expected: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not is_right(number):
        raise argparse.ArgumentTypeError(f"{text!r}: {expected}")
    return number
