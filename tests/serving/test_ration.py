import pytest

from nano_llm.serving import ration
from nano_llm.serving.ration import WINDOW_SECONDS, Ration


def test_so_many_may_happen_in_a_minute_and_the_others_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(ration, "monotonic", lambda: now)
    lines = Ration(2)
    assert [lines.take() for _ in range(5)] == [True, True, False, False, False]
    assert (lines.take_withheld(), lines.take_withheld()) == (3, 0)
    now += WINDOW_SECONDS - 1
    assert not lines.take()
    now += 1
    assert [lines.take() for _ in range(3)] == [True, True, False]
    assert lines.take_withheld() == 2
