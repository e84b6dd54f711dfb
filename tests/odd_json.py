"""Values of JSON such as nobody meant to write, and sound documents with a part of them changed."""

import copy
from typing import Any

from hypothesis import strategies as st

numbers = st.sampled_from([0, 1, 2, 3, -1, 7, 2**31, 2**63, 10**400, 0.5, 1e300, float("nan"), float("inf")])
words = st.sampled_from(["", "a", " ", "\0", "\ud800", "🎬", "type", "tarnet", "null", "../x", "${seed}", "x" * 300])
leaves: st.SearchStrategy[Any] = st.none() | st.booleans() | numbers | words | st.integers() | st.text(max_size=8)
values: st.SearchStrategy[Any] = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3), max_leaves=6
)


@st.composite
def changed(draw: st.DrawFn, sound: Any, others: st.SearchStrategy[Any] = values) -> Any:
    """Return a document with one to three of its parts removed, added, exchanged or put in another's place."""
    document = copy.deepcopy(sound)
    for _ in range(draw(st.integers(1, 3))):
        node = document
        while isinstance(node, dict | list) and node:
            key = draw(st.sampled_from([*node] if isinstance(node, dict) else range(len(node))))
            if isinstance(node[key], dict | list) and node[key] and draw(st.integers(0, 3)):
                node = node[key]
                continue
            action = draw(st.sampled_from(["other", "remove", "add", "swap"]))
            if action == "remove":
                del node[key]
            elif action == "add" and isinstance(node, dict):
                node[draw(words)] = draw(others)
            elif action == "swap":
                other = draw(st.sampled_from([*node] if isinstance(node, dict) else range(len(node))))
                node[key], node[other] = node[other], node[key]
            else:
                node[key] = draw(others)
            break
    return document
