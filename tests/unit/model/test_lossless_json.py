"""Live values survive encoding and decoding, also those that are not text."""

import json

import pytest
from hypothesis import example, given

from allocsync.model.cloud import Json, NumberLiteral
from allocsync.model.lossless_json import decode_lossless, encode_lossless
from tests.support.strategies import values


@given(values)
@example([NumberLiteral("1e400"), {"b": [None, True], "a": "1e400"}])
def test_a_live_value_is_decoded_equal_to_what_was_encoded(value: Json) -> None:
    assert decode_lossless(json.loads(json.dumps(encode_lossless(value)))) == value


@pytest.mark.parametrize("malformed", [1, 1.5, {}, {"number": 1}, {"object": {}}, {"other": "1"}, ["a", [1]]])
def test_decoding_rejects_what_encoding_never_returns(malformed: object) -> None:
    with pytest.raises(ValueError, match="not a tagged value"):
        decode_lossless(malformed)
