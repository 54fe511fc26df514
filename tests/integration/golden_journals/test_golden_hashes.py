"""Hashes and checksums in journals are computed in the same way as in earlier versions.

The rule: the literals never change. A hash of unmanaged fields is compared with one that an earlier process
stored. A link of the hash chain is checked as long as its row exists, and a checksum with every read.

Left out: whole journals (`test_golden_journals`).
"""

from itertools import pairwise

import pytest

from allocsync.journal.checksum import decode_with_checksum, encode_with_checksum
from allocsync.journal.hash_chain import NOTHING_BEFORE, Row, link
from allocsync.model.cloud import Cloud, NumberLiteral
from allocsync.model.intent_record import hash_unmanaged_fields
from allocsync.model.times import WallTime

EMPTY = "4f53cda18c2baa0c0354bb5f9a3ecbe5ed12ab4d8e11ba873c2f11161202b945"
TWO_FIELDS = "545c94453a77043a36d167197e188fcfa5dda162da609cfae555bc383e6ce39f"
URLS = {"base": {"status": "RUNNING", "url": "x"}}
HASHES: dict[str, tuple[Cloud, tuple[str, ...], str]] = {
    "nothing": ({}, (), EMPTY),
    "two fields": ({"user": "u", "id": "a"}, (), TWO_FIELDS),
    "a declared field is left out": ({"id": "a", "user": "u", "region": "r"}, ("region",), TWO_FIELDS),
    "a number and the text of it": (
        {"n": NumberLiteral("1e400"), "t": "1e400"},
        (),
        "46b279e66cda9a80dcb369cf29b4fb0b42190ba9eae15ad87e0d7c4a4b3d0571",
    ),
    "each kind of value": (
        {
            "n": NumberLiteral("1.10"),
            "z": NumberLiteral("-0"),
            "none": None,
            "yes": True,
            "list": [NumberLiteral("1"), "1", []],
        },
        (),
        "17812c902fc9927f753b9371069a7699082695263db691e861b55bcaab333e7d",
    ),
    "what the server moves by itself is left out": (
        {"status": {"cloud": "RUNNING"}, "updated": "t", "schema": "s", "urls": URLS},
        ("urls.base.url",),
        EMPTY,
    ),
    "nested fields beside declared ones": (
        {
            "status": {"cloud": "RUNNING", "since": "t"},
            "urls": {**URLS, "more": {"b": NumberLiteral("2"), "a": "ü"}},
        },
        ("urls.base.url",),
        "12e715085ce6aa251097fcba345d10478ea9f9f7d9ba5b9f3ffa999e6cf023c4",
    ),
    "any script, and half a character": (
        {"name": "北京 😀", "half": "\ud800", "ключ": {"ß": [{}]}},
        ("region", "version"),
        "8f44b421b1b8e2504424762dec3dfb9fbab697eee69df01c17e8cc1e66c1b503",
    ),
}
ROWS = (
    Row(1, WallTime(1700000000.0), "intent", "a", None, '{"changes":[]}'),
    Row(2, WallTime(1700000000.25), "outcome", "a", 1, '{"outcome":"applied","reason":"\\u2013"}'),
    Row(3, WallTime(1700000001.5), "gap", None, None, '{"reason":"Zürich"}'),
    Row(4, WallTime(1700000002.0), "intent", "北京", None, "{}"),
)
LINKS = (
    "24a162db44952c1853f6ae0e2ef6e98f4a30527887c48d9f8df1b63f541a9a33",
    "e016cba82a9f53fc07a700bb6a424da25cf764b835d7a2308f0d55a3e1a737c8",
    "d92b76dfdce752cfa935ca12c1dfa17037f1c0b8e0591028afc70bc58fb2b2dd",
    "46acdcecc5f2247e6402f600dd4549b0646af442b6546d1323853da33af592b2",
)
SEALED: dict[str, tuple[str, object, str]] = {
    "numbers": (
        "settle",
        {"lag_seconds": 0.0, "unknowns": []},
        '7bf071c0 {"lag_seconds":0.0,"unknowns":[]}',
    ),
    "any script": (
        "allocation/北京",
        {"moved": True, "text": "Zürich"},
        '18332b41 {"moved":true,"text":"Z\\u00fcrich"}',
    ),
    "none inside": (
        "in_force/a",
        {"mode": None, "at": 1700000000.25},
        'dcd83aeb {"mode":null,"at":1700000000.25}',
    ),
    "an empty key": ("", None, "036cfb4a null"),
}


@pytest.mark.parametrize("name", HASHES)
def test_the_hash_of_undeclared_fields_is_the_one_that_is_stored(name: str) -> None:
    cloud, declared, stored = HASHES[name]
    assert hash_unmanaged_fields(cloud, declared) == stored


def test_each_link_of_the_chain_is_the_one_that_is_stored() -> None:
    links = [NOTHING_BEFORE, *map(bytes.fromhex, LINKS)]
    for row, (before, stored) in zip(ROWS, pairwise(links), strict=True):
        assert link(before, row) == stored


@pytest.mark.parametrize("name", SEALED)
def test_what_is_remembered_is_sealed_as_it_is_stored(name: str) -> None:
    key, value, stored = SEALED[name]
    assert encode_with_checksum(key, value) == stored
    assert decode_with_checksum(key, stored) == value


@pytest.mark.parametrize("name", SEALED)
def test_a_sealed_value_belongs_to_its_key(name: str) -> None:
    key, _, stored = SEALED[name]
    with pytest.raises(ValueError, match="is damaged"):
        decode_with_checksum(f"{key} of another", stored)
