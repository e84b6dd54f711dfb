"""What is new of a text in the making."""

from generation.drafts import draft_of
from nano_llm.generation.piece import Follower, Piece
from nano_llm.generation.writer import Finish


def test_pieces_hold_each_token_once_and_the_end_with_what_was_held_back() -> None:
    tokens = draft_of(["a", " fine", " film"]).tokens
    draft = draft_of([], finish=None)
    follower = Follower(draft)
    assert follower.piece() == Piece()
    draft.tokens += tokens[:2]
    assert follower.piece() == Piece(tuple(tokens[:2]))
    draft.tokens.append(tokens[2])
    draft.tail, draft.finish = "!", Finish.stop
    assert follower.piece() == Piece((tokens[2],), Finish.stop, "!")


def test_a_piece_does_not_change_with_its_draft() -> None:
    draft = draft_of(["a"], finish=None)
    piece = Follower(draft).piece()
    draft.tokens.append(draft.tokens[0])
    assert len(piece.tokens) == 1
