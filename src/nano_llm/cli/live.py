"""Texts on a terminal while they are written."""

from collections.abc import Sequence
from contextlib import closing
from typing import TextIO

from nano_llm.cli.asking import HEADINGS
from nano_llm.generation.author import Author, Commission
from nano_llm.generation.piece import Follower
from nano_llm.generation.teller import Teller
from nano_llm.generation.writer import Draft, Finish


def write_live(author: Author, commissions: Sequence[Commission], out: TextIO, *, censored: bool) -> list[Draft]:
    """Write texts and show them one below the other: the first that is not whole grows, later ones wait.

    Args:
        author: Of the texts.
        commissions: The texts.
        out: Where they are shown.
        censored: Whether explicit words are redacted.

    Returns:
        The texts, in their order.
    """
    place = {id(commission.order): number for number, commission in enumerate(commissions)}
    followers: dict[int, Follower] = {}
    current, teller = 0, None
    with closing(author.writer.run([commission.order for commission in commissions])) as run:
        for stepped in run:
            for draft in stepped:
                followers.setdefault(place[id(draft.order)], Follower(draft))
            while current in followers:
                if teller is None:
                    teller = Teller(censored=censored)
                    out.write(_heading(commissions[current]))
                piece = followers[current].piece()
                out.write("".join([told.text for told in teller.tell(piece)]))
                out.flush()
                if piece.finish is None:
                    break
                out.write(" [...]\n\n" if piece.finish is Finish.length else "\n\n")
                current, teller = current + 1, None
    return [followers[number].draft for number in range(len(commissions))]


def _heading(commission: Commission) -> str:
    topic = "" if commission.topic is None else f", {commission.topic}"
    return f"{HEADINGS[commission.outcome]}{topic}: "
