"""The list: complete records however its bytes are split, and errors for malformed responses."""

import asyncio
import contextlib
import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allocsync.api import json_codec, list_parser
from allocsync.api.list_parser import WINDOW_BYTES, ListParser
from allocsync.errors import BulkUnavailable
from allocsync.model.cloud import Cloud, NumberLiteral
from tests.integration.api.conftest import (
    Peer,
    RawServer,
    Request,
    eventually,
    http_response,
    open_client,
    raw_server,
    respond_with,
)

MAX = 1024 * 1024
ids = st.text(max_size=8)
extras = st.dictionaries(
    st.text(max_size=3), st.text(max_size=3) | st.none() | st.lists(st.booleans()), max_size=3
)


def parse(*chunks: bytes, max_record_bytes: int = MAX) -> list[Cloud]:
    return list(ListParser(chunks, max_record_bytes=max_record_bytes))


@given(
    clouds=st.lists(st.tuples(ids, extras), max_size=6),
    before=extras,
    number=st.sampled_from(["0", "-1.50", "1e400", "12E-3"]),
    indent=st.sampled_from([None, 2]),
    ascii_only=st.booleans(),
    size=st.integers(1, 40),
    window=st.integers(1, 20),
)
def test_the_records_do_not_depend_on_how_the_bytes_are_split(
    *,
    clouds: list[tuple[str, dict[str, object]]],
    before: dict[str, object],
    number: str,
    indent: int | None,
    ascii_only: bool,
    size: int,
    window: int,
) -> None:
    written = [{**extra, "id": key} for key, extra in clouds]
    whole = {**before, "iterable": written, "last": 0}
    text = json.dumps(whole, indent=indent, ensure_ascii=ascii_only)
    data = (text[:-1].rstrip()[:-1] + number + "}").encode()
    chunks = [data[at : at + size] for at in range(0, len(data), size)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(list_parser, "WINDOW_BYTES", window)
        assert parse(*chunks) == written


def test_a_record_keeps_its_number_literals() -> None:
    (cloud,) = parse(b'{"iterable":[{"id":"a","n":[1.10,1e400]}]}')
    assert cloud["n"] == [NumberLiteral("1.10"), NumberLiteral("1e400")]


def test_records_across_many_windows_are_complete_and_in_order() -> None:
    written = [{"id": f"é{n}", "pad": "ü" * (n * 37 % 5000)} for n in range(2000)]
    data = json.dumps({"iterable": written}, ensure_ascii=False).encode()
    assert len(data) > 50 * WINDOW_BYTES
    records = ListParser([data], max_record_bytes=MAX)
    found: list[Cloud] = []
    while batch := records.take(7):
        found.extend(batch)
    assert found == written


def test_a_record_may_exceed_the_window_but_not_the_limit() -> None:
    record = b'{"id":"a","x":"' + b"x" * (5 * WINDOW_BYTES) + b'"}'
    data = b'{"iterable":[' + record + b"," + record + b"]}"
    assert len(parse(data)) == 2
    with pytest.raises(json_codec.CodecError, match="characters"):
        parse(data, max_record_bytes=2 * WINDOW_BYTES)


BROKEN = [
    pytest.param(b"", id="empty"),
    pytest.param(b"[]", id="an array"),
    pytest.param(b"{}", id="no key"),
    pytest.param(b'{"items":[]}', id="another key"),
    pytest.param(b'{"iterable":{}}', id="not an array"),
    pytest.param(b'{"iterable":null}', id="null"),
    pytest.param(b'{"iterable":[1]}', id="a number for a record"),
    pytest.param(b'{"iterable":[{"id":1}]}', id="a number for an id"),
    pytest.param(b'{"iterable":[{}]}', id="no id"),
    pytest.param(b'{"iterable":[{"id":"a"},]}', id="a comma too many"),
    pytest.param(b'{"iterable":[{"id":"a"}{"id":"b"}]}', id="a comma missing"),
    pytest.param(b'{"iterable":[],}', id="a comma at the end"),
    pytest.param(b'{"iterable":[{"id":"a"}', id="cut after a record"),
    pytest.param(b'{"iterable":[{"id":"a"}]', id="cut at the end"),
    pytest.param(b'{"iterable":[{"id":"a', id="cut in a record"),
    pytest.param(b'{"iterable":[]} x', id="text after the end"),
    pytest.param(b'{"iterable":[],"iterable":[]}', id="the key twice"),
    pytest.param(b'{"iterable":[{"id":"a","n":NaN}]}', id="NaN"),
    pytest.param(b'{"iterable":[{"id":"\xff"}]}', id="not UTF-8"),
    pytest.param(b'{"iterable":[{"id":"a"}]}\xc3', id="half a character"),
    pytest.param(b'{"iterable":[{"id":"a","x":' + b"[" * 300_000, id="deep"),
    pytest.param(b"<html></html>", id="html"),
]


@pytest.mark.parametrize("data", BROKEN)
@pytest.mark.parametrize("size", [1, 10**6])
def test_a_malformed_list_raises_a_codec_error(data: bytes, size: int) -> None:
    if len(data) > 1000:
        size = max(size, 1000)
    with pytest.raises(json_codec.CodecError):
        parse(*(data[at : at + size] for at in range(0, len(data), size)))


@given(st.binary(max_size=80))
def test_no_bytes_raise_anything_but_a_codec_error(data: bytes) -> None:
    with contextlib.suppress(json_codec.CodecError):
        parse(b'{"iterable":[' + data)


def test_deep_nesting_in_a_record_is_refused() -> None:
    deep = b"[" * 70 + b"]" * 70
    with pytest.raises(json_codec.CodecError, match="nested deeper"):
        parse(b'{"iterable":[{"id":"a","x":' + deep + b"}]}")


async def read_list(server: RawServer, **timeouts: float) -> list[Cloud]:
    async with open_client(server, **timeouts) as client:
        return [listed.cloud async for listed in client.list()]


async def test_the_list_yields_every_record_and_skips_other_keys() -> None:
    body = b' {"schema":{"iterable":[1]},"iterable":[{"id":"a"},{"id":"b","n":1.0}],"count":2}\n'
    async with raw_server(respond_with(http_response(200, body))) as server:
        assert await read_list(server) == [{"id": "a"}, {"id": "b", "n": NumberLiteral("1.0")}]
    assert [request.line for request in server.requests] == ["GET /allocations HTTP/1.1"]


async def test_a_list_of_any_number_of_batches_is_complete() -> None:
    for count in (0, 1, 99, 100, 101, 1234):
        written = [{"id": str(n)} for n in range(count)]
        async with raw_server(
            respond_with(http_response(200, json.dumps({"iterable": written}).encode()))
        ) as server:
            assert await read_list(server) == written


@pytest.mark.parametrize(
    ("status", "supported"),
    [
        (404, False),
        (405, False),
        (501, False),
        (302, True),
        (401, True),
        (410, True),
        (500, True),
        (503, True),
    ],
)
async def test_a_server_without_the_list_differs_from_one_that_fails(status: int, *, supported: bool) -> None:
    async with raw_server(respond_with(http_response(status, b"Route not found"))) as server:
        with pytest.raises(BulkUnavailable, match=rf"{status} .*: Route not found") as caught:
            await read_list(server)
    assert (caught.value.supported, caught.value.status, caught.value.asked) == (supported, status, True)
    assert len(server.requests) == 1


@pytest.mark.parametrize("data", BROKEN)
async def test_a_malformed_list_is_unavailable(data: bytes) -> None:
    async with raw_server(respond_with(http_response(200, data))) as server:
        with pytest.raises(BulkUnavailable) as caught:
            await read_list(server)
    assert caught.value.supported
    assert len(server.requests) == 1


async def test_a_list_that_is_cut_off_yields_nothing() -> None:
    async def script(_: Request, peer: Peer) -> bool:
        await peer.send(http_response(200, b'{"iterable":[{"id":"a"}]}', length=10_000))
        return False

    async with raw_server(script) as server, open_client(server) as client:
        records = client.list()
        with pytest.raises(BulkUnavailable, match="cut off"):
            await anext(records)
        assert len(server.requests) == 1


async def test_a_list_past_its_deadline_or_without_a_server_is_unavailable() -> None:
    async def drip(_: Request, peer: Peer) -> None:
        await peer.send(http_response(200, length=900), *[b" "] * 900, every_seconds=0.05)

    async with raw_server(drip) as server:
        begun = time.monotonic()
        with pytest.raises(BulkUnavailable, match=r"not complete within 0\.3 s"):
            await read_list(server, list_seconds=0.3)
        assert time.monotonic() - begun < 3
        url = server.url
        assert len(server.requests) == 1
    with pytest.raises(BulkUnavailable, match="no connection") as caught:
        async with open_client(url) as client:
            await anext(client.list())
    assert caught.value.supported


async def test_cancelling_a_list_raises() -> None:
    async def script(_: Request, peer: Peer) -> None:
        await peer.reader.read()

    async with raw_server(script) as server:
        task = asyncio.create_task(read_list(server))
        await eventually(lambda: bool(server.requests))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_the_deadline_of_a_list_does_not_apply_to_a_slow_consumer() -> None:
    written = [{"id": str(n)} for n in range(250)]
    async with (
        raw_server(respond_with(http_response(200, json.dumps({"iterable": written}).encode()))) as server,
        open_client(server, list_seconds=0.2) as client,
    ):
        seen = 0
        async for _ in client.list():
            seen += 1
            if seen % 100 == 0:
                await asyncio.sleep(0.15)
    assert seen == 250


async def test_a_large_list_does_not_block_the_event_loop() -> None:
    """The list has a tenth of the real size, and the limit is loose because the machine may be busy."""
    pad = "x" * 350
    written = [{"id": str(n), "status": {"cloud": "RUNNING"}, "pad": pad, "n": 1.5} for n in range(12_000)]
    body = json.dumps({"iterable": written}).encode()
    assert len(body) > 5_000_000
    lags: list[float] = []
    async with raw_server(respond_with(http_response(200, body))) as server, open_client(server) as client:

        async def watch() -> None:
            while True:
                begun = time.monotonic()
                await asyncio.sleep(0.001)
                lags.append(time.monotonic() - begun - 0.001)

        task = asyncio.create_task(watch())
        seen = 0
        async for _ in client.list():
            seen += 1
        task.cancel()
    assert seen == 12_000
    assert len(lags) > 20
    assert sorted(lags)[len(lags) // 2] < 0.05
