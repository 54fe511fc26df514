"""The wire format: nothing is lost, nothing is invented, and no text costs more than its length."""

import contextlib
import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allocsync.api import wire
from allocsync.planning.model import Json, NumberLiteral

numbers = st.from_regex(r"-?(0|[1-9][0-9]{0,30})(\.[0-9]{1,20})?([eE][+-]?[0-9]{1,4})?", fullmatch=True)
values = st.recursive(
    st.none() | st.booleans() | st.text() | numbers.map(NumberLiteral),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=30,
)


@given(values)
def test_what_is_written_reads_back_equal(value: Json) -> None:
    assert wire.loads(wire.dumps(value)) == value


@given(values)
def test_what_was_read_is_written_byte_for_byte(value: Json) -> None:
    text = wire.dumps(value)
    assert wire.dumps(wire.loads(text)) == text


@given(values)
def test_what_is_written_is_json_to_everyone(value: Json) -> None:
    json.loads(wire.dumps(value))


@given(st.binary(max_size=60))
def test_no_bytes_raise_anything_but_a_wire_error(data: bytes) -> None:
    with contextlib.suppress(wire.WireError):
        wire.loads(data)


@given(before=values, value=values, after=st.text(max_size=5))
def test_a_value_can_be_read_out_of_the_middle(before: Json, value: Json, after: str) -> None:
    lead = wire.dumps(before).decode() + ","
    text = f"{lead}[{wire.dumps(value).decode()}]{after}"
    found, end = wire.load_at(text, len(lead))
    assert found == [value]
    assert text[end:] == after


@pytest.mark.parametrize(
    "text", ["NaN", "[Infinity]", '{"a":-Infinity}', "", "{", "01", "1.", "'a'", "\ufeff{}"]
)
def test_what_is_not_json_is_refused(text: str) -> None:
    with pytest.raises(wire.WireError):
        wire.loads(text)


@pytest.mark.parametrize("bracket", ["[", '{"a":'])
def test_the_depth_is_bounded_and_brackets_in_strings_do_not_count(bracket: str) -> None:
    closing = "]" if bracket == "[" else "}"

    def nested(depth: int) -> str:
        return bracket * depth + "0" + closing * depth

    assert wire.loads(nested(wire.MAX_DEPTH))
    for too_deep in (wire.MAX_DEPTH + 1, 100_000):
        with pytest.raises(wire.WireError, match="nested deeper"):
            wire.loads(nested(too_deep))
        with pytest.raises(wire.WireError, match="nested deeper"):
            wire.load_at(nested(too_deep), 0)
    assert wire.loads(json.dumps(bracket * 1000))
    assert wire.load_at(json.dumps(bracket * 1000), 0)


@pytest.mark.parametrize("value", [1, 1.5, b"x", object(), {1: "a"}, [{"a": 2}]])
def test_what_is_not_json_is_not_written(value: object) -> None:
    with pytest.raises(wire.WireError, match="cannot be written"):
        wire.dumps(value)  # type: ignore[arg-type]  # the wrong type is what this is about


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("[" * 70 + '"' + '\\"' * 500_000, id="a string of escaped quotes without an end"),
        pytest.param("[" * 70 + '"\n' * 300_000, id="strings broken by line ends"),
        pytest.param("[" * 70 + "\\" * 1_000_000, id="backslashes"),
    ],
)
def test_a_malicious_megabyte_costs_no_more_than_its_length(text: str) -> None:
    begun = time.process_time()
    with pytest.raises(wire.WireError):
        wire.loads(text)
    assert time.process_time() - begun < 2.0
