"""Equal values have equal digests, whatever has no canonical form is refused with its place, and an
item's random number depends on nothing but its own parts."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.digests import canonical_json, digest_bytes, digest_file, digest_json, unit_interval

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.floats(-1e300, 1e300),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


def test_the_canonical_text_and_its_digest_are_pinned() -> None:
    value = {"b": [1, 2.5, None], "a": {"ü": True, "x": "y"}}
    text = '{"a":{"x":"y","\\u00fc":true},"b":[1,2.5,null]}'
    assert canonical_json(value) == text
    assert digest_json(value) == hashlib.sha256(text.encode()).hexdigest()


@settings(max_examples=40, deadline=None)
@given(st.dictionaries(st.text(), JSON, max_size=6))
def test_the_order_of_keys_does_not_matter(value: dict[str, object]) -> None:
    backwards = dict(reversed(list(value.items())))
    assert digest_json(backwards) == digest_json(value)


def test_tuples_and_lists_are_the_same() -> None:
    assert digest_json((1, (2, 3))) == digest_json([1, [2, 3]])


@pytest.mark.parametrize(
    ("value", "place"),
    [
        ({"loss": [1.0, float("nan")]}, r"value\.loss\[1\]: nan"),
        ({"loss": float("inf")}, r"value\.loss: inf"),
        ({"sources": {"a", "b"}}, r"value\.sources: a set"),
        ({"config": {1: "x"}}, r"value\.config: key 1"),
        ([b"bytes"], r"value\[0\]: a bytes"),
        ({"object": object()}, r"value\.object: a object"),
    ],
)
def test_what_has_no_canonical_form_is_refused_with_its_place(value: object, place: str) -> None:
    with pytest.raises(TypeError, match=place):
        canonical_json(value)


def test_a_file_has_the_digest_of_its_bytes(tmp_path) -> None:
    data = bytes(range(256)) * 4096 * 2 + b"end"  # two blocks and a rest
    (tmp_path / "file").write_bytes(data)
    assert digest_file(tmp_path / "file") == digest_bytes(data) == hashlib.sha256(data).hexdigest()


def test_unit_interval_is_pinned_and_depends_on_every_part() -> None:
    assert unit_interval(7, "scene") == unit_interval(7, "scene")
    draws = {unit_interval(7, "scene"), unit_interval(8, "scene"), unit_interval(7, "scene2")}
    draws |= {unit_interval("7", "scene"), unit_interval(7), unit_interval("scene", 7)}
    assert len(draws) == 6
    expected = int(hashlib.sha256(b'[7,"scene"]').hexdigest()[:13], 16) / 2**52
    assert unit_interval(7, "scene") == expected


def test_unit_interval_is_uniform() -> None:
    draws = [unit_interval(0, index) for index in range(4000)]
    assert all(0 <= draw < 1 for draw in draws)
    tenths = [sum(int(10 * draw) == tenth for draw in draws) for tenth in range(10)]
    # Chi-squared with 9 degrees of freedom: 27.9 is exceeded once in a thousand.
    assert sum((count - 400) ** 2 / 400 for count in tenths) < 27.9
