"""Bodies that are nearly right are answered, or refused in our shape: never by an error of the server's, never not.

Thousands of them are in the torture tests.
"""

import http.client
import logging
from collections import Counter
from contextlib import closing
from dataclasses import replace

import pytest

from serving.malformed import MUTATIONS, VALID, check_answered, malformed
from serving.servers import LIMITS, listening, open_byte_author, served

NUM_BODIES = 300


def test_bodies_are_the_same_for_a_seed_and_differ() -> None:
    bodies = list(malformed(0, 50))
    assert bodies == list(malformed(0, 50))
    assert len({body for _, body in bodies}) > 40
    assert {path for path, _ in malformed(0, 200)} == {path for path, _ in VALID}
    assert len(MUTATIONS) > 8


@pytest.mark.parametrize("overrides", [("model=tarnet",), ("model=vanilla",)])
def test_no_body_is_answered_by_an_error_of_the_servers(
    overrides: tuple[str, ...], caplog: pytest.LogCaptureFixture
) -> None:
    statuses: Counter[int] = Counter()
    limits = replace(LIMITS, max_tokens=8, default_tokens=4, max_texts=8)
    with served(open_byte_author(*overrides), limits=limits) as service, listening(service) as url:
        with closing(http.client.HTTPConnection(url.removeprefix("http://"), timeout=60)) as connection:
            for path, body in malformed(len(overrides[0]), NUM_BODIES // 2):
                statuses[check_answered(connection, path, body)] += 1
        assert service.engine.is_alive
    assert statuses[400] > NUM_BODIES // 4, statuses
    assert statuses[200] > 5, statuses
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]
