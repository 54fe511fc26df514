"""What is written down of live values: it comes back equal, also where a server puts no text."""

import json

import pytest
from hypothesis import example, given

from allocsync.model.cloud import Json, NumberLiteral
from allocsync.model.lossless_json import tagged, untagged
from tests.support.strategies import values


@given(values)
@example([NumberLiteral("1e400"), {"b": [None, True], "a": "1e400"}])
def test_what_was_written_down_of_a_live_value_comes_back_equal(value: Json) -> None:
    assert untagged(json.loads(json.dumps(tagged(value)))) == value


@pytest.mark.parametrize("nothing", [1, 1.5, {}, {"number": 1}, {"object": {}}, {"other": "1"}, ["a", [1]]])
def test_what_was_never_written_so_is_damage_and_no_value(nothing: object) -> None:
    with pytest.raises(ValueError, match="not a tagged value"):
        untagged(nothing)
