"""The JSON codec: lossless, strict, and in time proportional to the length of the text."""

import contextlib
import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allocsync.api import json_codec
from allocsync.model.cloud import Json, NumberLiteral

numbers = st.from_regex(r"-?(0|[1-9][0-9]{0,30})(\.[0-9]{1,20})?([eE][+-]?[0-9]{1,4})?", fullmatch=True)
values = st.recursive(
    st.none() | st.booleans() | st.text() | numbers.map(NumberLiteral),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=30,
)


@given(values)
def test_a_written_value_reads_back_equal(value: Json) -> None:
    assert json_codec.loads(json_codec.dumps(value)) == value


@given(values)
def test_a_read_text_is_written_back_byte_for_byte(value: Json) -> None:
    text = json_codec.dumps(value)
    assert json_codec.dumps(json_codec.loads(text)) == text


@given(values)
def test_a_written_value_is_valid_json(value: Json) -> None:
    json.loads(json_codec.dumps(value))


@given(st.binary(max_size=60))
def test_no_bytes_raise_anything_but_a_codec_error(data: bytes) -> None:
    with contextlib.suppress(json_codec.CodecError):
        json_codec.loads(data)


@given(before=values, value=values, after=st.text(max_size=5))
def test_a_value_can_be_parsed_in_the_middle_of_a_text(before: Json, value: Json, after: str) -> None:
    lead = json_codec.dumps(before).decode() + ","
    text = f"{lead}[{json_codec.dumps(value).decode()}]{after}"
    found, end = json_codec.load_at(text, len(lead))
    assert found == [value]
    assert text[end:] == after


@pytest.mark.parametrize(
    "text", ["NaN", "[Infinity]", '{"a":-Infinity}', "", "{", "01", "1.", "'a'", "\ufeff{}"]
)
def test_a_text_that_is_not_json_is_refused(text: str) -> None:
    with pytest.raises(json_codec.CodecError):
        json_codec.loads(text)


@pytest.mark.parametrize("bracket", ["[", '{"a":'])
def test_the_depth_is_limited_and_brackets_in_strings_do_not_count(bracket: str) -> None:
    closing = "]" if bracket == "[" else "}"

    def nested(depth: int) -> str:
        return bracket * depth + "0" + closing * depth

    assert json_codec.loads(nested(json_codec.MAX_DEPTH))
    for too_deep in (json_codec.MAX_DEPTH + 1, 100_000):
        with pytest.raises(json_codec.CodecError, match="nested deeper"):
            json_codec.loads(nested(too_deep))
        with pytest.raises(json_codec.CodecError, match="nested deeper"):
            json_codec.load_at(nested(too_deep), 0)
    assert json_codec.loads(json.dumps(bracket * 1000))
    assert json_codec.load_at(json.dumps(bracket * 1000), 0)


@pytest.mark.parametrize("value", [1, 1.5, b"x", object(), {1: "a"}, [{"a": 2}]])
def test_a_value_that_is_not_json_is_not_written(value: object) -> None:
    with pytest.raises(json_codec.CodecError, match="cannot be written"):
        json_codec.dumps(value)  # type: ignore[arg-type]  # the wrong type is what this test checks


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("[" * 70 + '"' + '\\"' * 500_000, id="a string of escaped quotes without an end"),
        pytest.param("[" * 70 + '"\n' * 300_000, id="strings broken by line ends"),
        pytest.param("[" * 70 + "\\" * 1_000_000, id="backslashes"),
    ],
)
def test_the_time_for_a_malicious_text_is_proportional_to_its_length(text: str) -> None:
    begun = time.process_time()
    with pytest.raises(json_codec.CodecError):
        json_codec.loads(text)
    assert time.process_time() - begun < 2.0
