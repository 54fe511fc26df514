"""Seed files: how JSON and YAML are read, what is refused, and what is only reported."""

from pathlib import Path

import pytest

from allocsync.api import json_codec
from allocsync.errors import AllocsyncError
from allocsync.model.cloud import Cloud, Json, NumberLiteral
from allocsync.reference_server.clouds import value_at
from allocsync.reference_server.sample import sample_clouds, sample_seed
from allocsync.reference_server.seed import read_seed, schema_warnings
from tests.integration.reference_server.conftest import CLOUDS


def seed_file(tmp_path: Path, text: str | bytes) -> Path:
    path = tmp_path / "seed"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def read_single(tmp_path: Path, fields: str) -> Cloud:
    (cloud,) = read_seed(seed_file(tmp_path, f"iterable:\n- id: a\n  {fields}\n"))
    return cloud


def test_a_saved_response_is_read_unchanged(tmp_path: Path) -> None:
    assert read_seed(seed_file(tmp_path, json_codec.dumps(sample_seed(5, 1)))) == sample_clouds(5, 1)


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("1.10", NumberLiteral("1.10")),
        ("-0", NumberLiteral("-0")),
        ("0x1F", NumberLiteral("31")),
        ("1_000", NumberLiteral("1000")),
        ("+1", NumberLiteral("1")),
        ("1e400", "1e400"),  # without a dot this is a string in YAML 1.1
        ("'1'", "1"),
        ("2026-01-02", "2026-01-02"),
        ("2026-01-02T03:04:05Z", "2026-01-02T03:04:05Z"),
        ("True", True),
        ("no", "no"),
        ("~", None),
    ],
)
def test_a_yaml_scalar_is_read_as_json_would_have_it(tmp_path: Path, written: str, read: Json) -> None:
    assert read_single(tmp_path, f"x: {written}")["x"] == read


def test_a_string_field_stays_a_string_if_yaml_reads_a_number(tmp_path: Path) -> None:
    cloud = read_single(tmp_path, "version: 1.10\n  project: 0123\n  urls: {id: {url: 5}, extra: 5}")
    assert (cloud["version"], cloud["project"]) == ("1.10", "0123")
    assert (value_at(cloud, "urls.id.url"), value_at(cloud, "urls.extra")) == ("5", NumberLiteral("5"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1]", "not a response of GET /allocations"),
        ("", "not a response of GET /allocations"),
        ('{"iterable": {}}', "not a response of GET /allocations"),
        ('{"iterable": [1]}', "entry 1 of iterable has no id"),
        ('{"iterable": [{"id": "a"}, {"id": 5}]}', "entry 2 of iterable has no id"),
        (
            '{"iterable": [{"id": "a"}, {"id": "a"}]}',
            "entry 2 of iterable has the same id as an earlier entry: 'a'",
        ),
        ("iterable: [{id: a, x: .inf}]", ".inf is not a number in JSON"),
        ("iterable: [{id: a, 5: x}]", "nor YAML that can be written as JSON"),
        ("iterable: [{id: a, x: !!binary aGk=}]", "nor YAML that can be written as JSON"),
        ("iterable: &loop [{id: a, x: *loop}]", "nor YAML that can be written as JSON"),
        ("iterable: [{id: a, x: !!python/object:os.system {}}]", "nor YAML that can be written as JSON"),
        ("iterable: [", "neither JSON nor YAML"),
        (b"\xff\xfe\x00", "neither JSON nor YAML"),
        ("[" * 5_000, "neither JSON nor YAML"),
    ],
)
def test_an_invalid_seed_is_refused_in_one_line(tmp_path: Path, text: str | bytes, message: str) -> None:
    path = seed_file(tmp_path, text)
    with pytest.raises(AllocsyncError) as caught:
        read_seed(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unreadable_seed_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(AllocsyncError, match="Is a directory"):
        read_seed(tmp_path)


def test_an_invalid_cloud_is_reported_and_kept() -> None:
    odd: Cloud = {**CLOUDS[0], "user": NumberLiteral("1"), "status": {}}
    assert list(schema_warnings(CLOUDS)) == []
    (warning,) = schema_warnings([*CLOUDS[1:], odd])
    assert repr(odd["id"]) in warning
    assert "user must be a string; status.cloud must be one of PENDING" in warning
