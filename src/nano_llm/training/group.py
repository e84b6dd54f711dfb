"""The group: the processes that train one model together. Every word between them is spoken here.

All of them hold the same weights and cut the same batches; each takes a share of the rows. Rank 0 decides what hangs
on a clock, a signal or a file, and tells the others.
"""

import contextlib
import json
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from safetensors.torch import load, save
from torch import Tensor

from nano_llm.data.batches import Batch
from nano_llm.errors import GroupError, NanoLLMError
from nano_llm.interruption import Interrupted, ignore_requests
from nano_llm.training.lifelines import End, Lifelines, tie
from nano_llm.training.place import SOLE, Place

T = TypeVar("T")

MEETING = timedelta(minutes=10)
"""What the processes may take to find each other: machines of a cluster do not start at once."""

PATIENCE = timedelta(hours=2)
"""How long the others wait while rank 0 validates or prepares data. Deaths are noticed at once, by other means."""

NEWS_SECONDS = 2.0
"""After a word has failed to arrive, how long news may take of who has gone."""

RELEASE_SECONDS = 20.0
"""What a process may take to end by itself after another one has failed; torchrun kills it after 30 s."""

WORDS_SECONDS = 5.0
"""What it may then take to say why."""

MESSAGE_BYTES = 1024
"""Size of the message that opens every broadcast; what is longer follows in a second one."""

LENGTH_BYTES = 8


class Group(Protocol):
    """What a process says to the others; all of them make the same calls in the same order."""

    place: Place
    """Which one this process is."""

    def told(self, make: Callable[[], T]) -> T:
        """Return what ``make`` returns on rank 0; it is called there only, and gives JSON's types.

        Raises:
            Interrupted: On every process, when ``make`` raises it.
        """

    def handed_out(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the tensors that rank 0 gives, on the CPU; what others give is not read."""

    def collected(self, tensors: dict[str, Tensor]) -> list[dict[str, Tensor]]:
        """Return on rank 0 the tensors of every process, by rank; all give the same names, types and shapes.

        Others have their own only.
        """

    def share(self, batch: Batch) -> Batch:
        """Return the rows of a batch that are this process's; there may be none."""

    def add_up(self, parameters: Sequence[Tensor], measured: Tensor) -> None:
        """Replace gradients and figures by their sums over all processes.

        A parameter that has no gradient on any process is left without one, as a single process leaves it.
        """

    def first_here(self, make: Callable[[], T]) -> T:
        """Call on one process of each machine, then on the others there: they find the work done."""

    def use(self, device: torch.device) -> None:
        """Prepare to sum gradients that lie on a device."""

    def demand_whole(self) -> None:
        """Make sure that no process has failed so far, without asking any.

        Raises:
            GroupError: One has, or has gone.
        """

    def dismiss(self) -> None:
        """Need the others no more: how they end is of no account from here on. Nothing may be said to them after."""

    def last_words(self, keep: Callable[[GroupError], None]) -> AbstractContextManager[None]:
        """Have an error kept, during a block, if it ends this process where it waits in vain: nothing else will be."""


class Alone:
    """A process without others: it is given back what it gives."""

    place = SOLE

    def told(self, make: Callable[[], T]) -> T:
        """Return what is made."""
        return make()

    def handed_out(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the tensors."""
        return tensors

    def collected(self, tensors: dict[str, Tensor]) -> list[dict[str, Tensor]]:
        """Return the tensors of the one process."""
        return [tensors]

    def share(self, batch: Batch) -> Batch:
        """Return the batch."""
        return batch

    def add_up(self, parameters: Sequence[Tensor], measured: Tensor) -> None:
        """Leave everything as it is."""

    def first_here(self, make: Callable[[], T]) -> T:
        """Return what is made."""
        return make()

    def use(self, device: torch.device) -> None:
        """Need nothing."""

    def demand_whole(self) -> None:
        """Find nobody missing."""

    def dismiss(self) -> None:
        """Have nobody to dismiss."""

    def last_words(self, keep: Callable[[GroupError], None]) -> AbstractContextManager[None]:
        """Wait for nobody."""
        return contextlib.nullcontext()


ALONE: Group = Alone()


class Together:
    """One of several processes, over ``gloo``; gradients on a GPU are summed over NCCL.

    Raises:
        GroupError: From every method that speaks: another process has failed or gone.
    """

    def __init__(self, place: Place, tell: Callable[[GroupError], object]) -> None:
        """Meet the others.

        Args:
            place: Of this process.
            tell: Tells the user of the error that ends this process where it waits in vain.

        Raises:
            GroupError: They do not come, or cannot be reached.
        """
        self.place = place
        try:
            dist.init_process_group("gloo", timeout=MEETING)
            self._control = dist.new_group(backend="gloo", timeout=PATIENCE)
            lines = tie(place, os.environ["MASTER_ADDR"], self._introduced, MEETING.total_seconds())
        except (RuntimeError, ValueError, OSError) as error:
            address = ":".join(os.environ[name] for name in ("MASTER_ADDR", "MASTER_PORT"))
            raise GroupError(
                f"Rank {place.rank} cannot meet the other {place.size - 1} processes of this job at {address}: {error}"
            ) from error
        self._sums = self._control
        self._tell = tell
        self._keep: Callable[[GroupError], None] | None = None
        self._lifelines = Lifelines(lines, self._see_to_the_end)
        # What it calls at a failure reads all of the above.
        self._lifelines.start()

    def _introduced(self, address: tuple[int, str]) -> tuple[int, str]:
        port, token = json.loads(self._broadcast(json.dumps(address).encode()))
        return port, token

    # ------------------------------------------------------------------------------------- speaking

    def told(self, make: Callable[[], T]) -> T:
        """Return what ``make`` returns on rank 0."""
        answer: dict[str, Any] = {}
        if self.place.rank == 0:
            try:
                answer = {"value": make()}
            except Interrupted as interrupted:
                answer = {"interrupted": interrupted.reason}
        with self._explained():
            answer = json.loads(self._broadcast(json.dumps(answer).encode()))
        if "interrupted" in answer:
            raise Interrupted(answer["interrupted"])
        value: T = answer["value"]
        return value

    def handed_out(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the tensors that rank 0 gives."""
        with self._explained():
            return load(self._broadcast(save(tensors) if self.place.rank == 0 else b""))

    def collected(self, tensors: dict[str, Tensor]) -> list[dict[str, Tensor]]:
        """Return on rank 0 the tensors of every process."""
        mine = _bytes_tensor(save(tensors))
        if self.place.rank:
            with self._explained():
                dist.gather(mine, group=self._control)
            return [tensors]
        parts = [torch.empty_like(mine) for _ in range(self.place.size)]
        with self._explained():
            dist.gather(mine, parts, group=self._control)
        return [load(part.numpy().tobytes()) for part in parts]

    def share(self, batch: Batch) -> Batch:
        """Return the rows of a batch that are this process's."""
        return batch.share(self.place.rank, self.place.size)

    def add_up(self, parameters: Sequence[Tensor], measured: Tensor) -> None:
        """Replace gradients and figures by their sums over all processes, in one go.

        Which parameters have gradients is known to the host and told apart, or it would have to wait for a GPU.
        """
        has_gradient = torch.tensor([p.grad is not None for p in parameters], dtype=torch.uint8)
        with self._explained():
            dist.all_reduce(has_gradient, dist.ReduceOp.MAX, group=self._control)
        parameters = [p for p, is_taught in zip(parameters, has_gradient.tolist(), strict=True) if is_taught]
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        everything = torch.cat([tensor.flatten() for tensor in (*gradients, measured)])
        with self._explained():
            dist.all_reduce(everything, group=self._sums)
        *summed, figures = torch.split(everything, [tensor.numel() for tensor in (*gradients, measured)])
        for parameter, gradient in zip(parameters, summed, strict=True):
            parameter.grad = gradient.view_as(parameter)
        measured.copy_(figures)

    def first_here(self, make: Callable[[], T]) -> T:
        """Call on one process of each machine, then on the others there."""
        if self.place.local_rank == 0:
            made = make()
            self._await_all()
            return made
        self._await_all()
        return make()

    def use(self, device: torch.device) -> None:
        """Prepare to sum gradients that lie on a device."""
        if device.type == "cuda":
            with self._explained():
                self._sums = dist.new_group(backend="nccl", timeout=PATIENCE)

    def _await_all(self) -> None:
        with self._explained():
            dist.barrier(group=self._control)

    def _broadcast(self, payload: bytes) -> bytes:
        """Return the payload of rank 0."""
        size = MESSAGE_BYTES - LENGTH_BYTES
        opening = _bytes_tensor((len(payload).to_bytes(LENGTH_BYTES) + payload[:size]).ljust(MESSAGE_BYTES, b"\0"))
        dist.broadcast(opening, src=0, group=self._control)
        received = opening.numpy().tobytes()
        length = int.from_bytes(received[:LENGTH_BYTES])
        if length <= size:
            return received[LENGTH_BYTES : LENGTH_BYTES + length]
        rest = _bytes_tensor(payload[size:]) if self.place.rank == 0 else torch.empty(length - size, dtype=torch.uint8)
        dist.broadcast(rest, src=0, group=self._control)
        return received[LENGTH_BYTES:] + rest.numpy().tobytes()

    # -------------------------------------------------------------------------------------- failing

    def demand_whole(self) -> None:
        """Make sure that no process has failed so far."""
        if (end := self._lifelines.failure()) is not None:
            raise GroupError(self._told_of(end))

    def dismiss(self) -> None:
        """Need the others no more."""
        self._lifelines.ignore()

    @contextlib.contextmanager
    def last_words(self, keep: Callable[[GroupError], None]) -> Iterator[None]:
        """Have an error kept, during a block, if it ends this process where it waits in vain."""
        self._keep = keep
        try:
            yield
        finally:
            self._keep = None

    def leave(self, words: str) -> None:
        """End this process's part in good order or, where there are words, for the reason that they give."""
        self._lifelines.leave(words)
        if words:
            self._give_sums_up()
        dist.destroy_process_group(self._control if words else None)
        # A thread of theirs that let go of a tensor while the interpreter ends would end the process by SIGABRT.
        del self._control, self._sums

    def is_heard(self) -> bool:
        """Whether rank 0 tells the user why the job fails, so that this process need not."""
        end = self._lifelines.failure()
        return self.place.rank != 0 and (end is None or end.words is not None)

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """Say who is to blame when the others cannot be reached."""
        try:
            yield
        except RuntimeError as error:
            end = self._lifelines.failure(NEWS_SECONDS)
            reason = f"Rank {self.place.rank} has lost the other processes of this job: {error}"
            raise GroupError(reason if end is None else self._told_of(end)) from error

    def _told_of(self, end: End) -> str:
        who = f"Rank {end.rank} of {self.place.size}"
        if end.words:
            return f"{who} has failed: {end.words}"
        if end.words is None:
            return (
                f"{who} has gone without a word: it was killed (out of memory?), or its machine is lost. The same "
                "command goes on from the last checkpoint, on any number of processes."
            )
        return f"{who} has ended."

    def _see_to_the_end(self, end: End) -> None:
        """Make this process end after another one has failed, whatever it waits for; called beside its work."""
        self._give_sums_up()
        if not self._lifelines.left(RELEASE_SECONDS):
            # Not in this thread: what the process waits for may be what the words have to be written to.
            speaker = threading.Thread(target=self._speak_last, args=[GroupError(self._told_of(end))], daemon=True)
            speaker.start()
            speaker.join(WORDS_SECONDS)
            os._exit(GroupError.exit_status)

    def _speak_last(self, error: GroupError) -> None:
        if not self.is_heard():
            self._tell(error)
        if self._keep is not None:
            self._keep(error)

    def _give_sums_up(self) -> None:
        """Let sums on a GPU return: for a process that has gone they would wait for ever. Does not wait itself."""
        if self._sums is not self._control:
            threading.Thread(target=self._sums.abort, daemon=True).start()


@contextlib.contextmanager
def joined(place: Place, tell: Callable[[GroupError], object]) -> Iterator[Group]:
    """Be one of the processes of a run until the block ends; the others learn how it has ended.

    From here on signals are heard by rank 0 alone, where it listens. A launcher sends one to the processes that are
    left after another has gone; they end anyhow, and are to say why.

    Args:
        place: Of this process.
        tell: Tells the user of the error that ends this process where it waits in vain for others. Every other
            error is raised.

    Raises:
        GroupError: Another process has failed or gone.
        SystemExit: This one has failed, but is not rank 0, which tells the user.
    """
    if place.size == 1:
        yield ALONE
        return
    group = Together(place, tell)
    ignore_requests()
    try:
        yield group
    except NanoLLMError as error:
        group.leave(str(error))
        if group.is_heard():
            raise SystemExit(error.exit_status) from error
        if group.place.rank and not isinstance(error, GroupError):
            raise GroupError(f"Rank {place.rank} of {place.size} has failed, after rank 0 had gone: {error}") from error
        raise
    except Exception as error:
        group.leave(f"{type(error).__name__}: {error}")
        raise
    except BaseException:
        group.leave("")
        raise
    group.leave("")


def _bytes_tensor(content: bytes) -> Tensor:
    return torch.from_numpy(np.frombuffer(content, np.uint8).copy())
