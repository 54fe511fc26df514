"""`plan` and `apply` in difficult cases: ids that do not match, 410, a held allocation, no server."""

import json
import socket
from pathlib import Path

from allocsync.reference_server import ReferenceServer
from allocsync.reference_server.sample import sample_clouds
from tests.support.processes import command, declare

CLOUDS = sample_clouds(4, 22)
GONE, *REST = (str(cloud["id"]) for cloud in CLOUDS)


def declare_with_a_mistake(file: Path) -> None:
    """Declare region mars for all, and one allocation with a mistake."""
    declare(file, CLOUDS, region="mars")
    file.write_text(file.read_text() + "  zzz: {regoin: x}\n")


async def test_an_id_that_matches_no_allocation_or_several_is_bad_usage_and_sends_no_request(
    tmp_path: Path,
) -> None:
    file = tmp_path / "desired.yaml"
    declare(file, [{**CLOUDS[0], "id": key} for key in ("ab1", "ab2", "a-long-id")], region="x")
    async with ReferenceServer.start(CLOUDS, log_all=True) as server:
        where = ("--api-url", server.url, "--desired", str(file))
        for name in ("plan", "apply"):
            status, text, stderr = await command(name, *where, "ac")
            assert (status, text) == (64, "")
            assert "ac: no such allocation is declared" in stderr
            status, text, stderr = await command(name, *where, "ab")
            assert (status, text) == (64, "")
            assert "ab matches 2 allocations; give more characters of the id" in stderr
            assert "allocsync:   ab1\nallocsync:   ab2\n" in stderr
            status, text, stderr = await command(name, *where, "a-long", "no-one")
            assert (status, text) == (64, "")
            assert "a-long is too short: give the whole id, or at least its first 8 characters" in stderr
            assert "no-one: no such allocation is declared" in stderr
        assert server.records == []


async def test_the_plan_id_depends_only_on_what_would_be_sent(tmp_path: Path) -> None:
    file = tmp_path / "desired.yaml"
    declare(file, CLOUDS, region="mars")
    async with ReferenceServer.start(CLOUDS, log_all=True) as server:
        server.remove(GONE)
        where = ("--api-url", server.url, "--desired", str(file), "--json", "--detailed-exitcode")
        status, text, _ = await command("plan", *where)
        before = json.loads(text)
        assert status == 2
        assert before["counts"] == {"in_sync": 0, "update": 3, "missing": 1, "blocked": 0, "failing": 0}
        assert {row["id"] for row in before["changes"]} == set(REST)
        assert (await command("plan", *where, GONE))[0] == 0  # a missing allocation needs no update
        declare_with_a_mistake(file)
        status, text, _ = await command("plan", *where)
        after = json.loads(text)
        assert status == 1
        assert after["counts"] == {"in_sync": 0, "update": 3, "missing": 1, "blocked": 1, "failing": 0}
        assert after["plan_id"] == before["plan_id"]
        assert after["revision"] != before["revision"]
        server.set_field(REST[0], "region", "venus")
        assert json.loads((await command("plan", *where))[1])["plan_id"] != before["plan_id"]
        assert "update" not in {row["op"] for row in server.records}


async def test_a_plan_in_json_gives_the_same_reasons_as_the_text_for_allocations_without_an_update(
    tmp_path: Path,
) -> None:
    file, reviewed = tmp_path / "desired.yaml", tmp_path / "plan.json"
    bare, gone, watched, sent = (str(cloud["id"]) for cloud in CLOUDS)
    assert "vanity" not in str(CLOUDS[0]["urls"])  # so no body can be built from its url alone
    declared = {
        bare: "urls: {vanity: {url: a.b}}",
        gone: "region: mars",
        watched: "region: mars, mode: observe",
        sent: "region: mars",
        "zzz": "regoin: x",
    }
    lines = "".join(f"  {key}: {{{fields}}}\n" for key, fields in declared.items())
    file.write_text(f"apiVersion: allocsync/v1\nallocations:\n{lines}")
    async with ReferenceServer.start(CLOUDS) as server:
        region = server.clouds[watched]["region"]
        server.remove(gone)
        where = ("--api-url", server.url, "--desired", str(file), "--out", str(reviewed))
        status, as_json, _ = await command("plan", *where, "--json")
        _, text, _ = await command("plan", *where)
    found = json.loads(as_json)
    assert status == 1
    assert found["counts"] == {"in_sync": 0, "update": 1, "missing": 1, "blocked": 2, "failing": 1}
    assert {row["id"] for row in found["changes"]} == {sent}
    withheld = {row.pop("id"): row for row in found["not_sent"]}
    assert {key: row["verdict"] for key, row in withheld.items()} == {
        bare: "failing",
        gone: "missing",
        watched: "blocked",
        "zzz": "blocked",
    }
    assert all(f"    {row['verdict']}: {row['reason']}\n" in text for row in withheld.values())
    assert withheld[gone]["reason"] == "the API answers 410 Cloud not found; no update will be sent"
    assert withheld[watched] == {
        "verdict": "blocked",
        "reason": "mode observe forbids the update",
        "source": f"{file}:5",
        "changes": [{"field": "region", "live": region, "desired": "mars"}],
    }
    assert json.loads(reviewed.read_text())["not_sent"] == json.loads(as_json)["not_sent"]


async def test_a_plan_without_a_server_is_an_error_that_names_the_address(tmp_path: Path) -> None:
    file = tmp_path / "desired.yaml"
    declare(file, CLOUDS, region="mars")
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    where = ("--api-url", f"http://{address}", "--desired", str(file), "--detailed-exitcode")
    status, text, stderr = await command("plan", *where)
    assert status == 1
    assert text.count(f"failing: no connection to {address}") == len(CLOUDS)
    assert "Traceback" not in stderr


async def test_apply_updates_only_the_named_allocations(tmp_path: Path) -> None:
    file = tmp_path / "desired.yaml"
    declare(file, CLOUDS, region="mars")
    async with ReferenceServer.start(CLOUDS) as server:
        status, text, _ = await command(
            "apply", "--api-url", server.url, "--desired", str(file), REST[0][:8], "--json"
        )
        assert status == 0
        assert json.loads(text)["updated"] == [REST[0]]
        assert [row["id"] for row in server.records] == [REST[0]]


async def test_an_apply_in_json_lists_unknown_missing_and_held_allocations(tmp_path: Path) -> None:
    file = tmp_path / "desired.yaml"
    declare_with_a_mistake(file)
    async with ReferenceServer.start(CLOUDS, faults={"update": {"timeout_after": 1}}) as server:
        server.remove(GONE)
        where = ("--api-url", server.url, "--desired", str(file), "--deadline", "3")
        status, text, _ = await command("apply", *where, "--json")
        report = json.loads(text)
        assert status == 1
        assert server.fired == {"update.timeout_after": 3}
        assert {row["id"]: row["condition"] for row in report["allocations"]} == {
            GONE: "Missing",
            "zzz": "Blocked",
            **dict.fromkeys(REST, "OutcomeUnknown"),
        }
        # The updates were applied, but no read has shown that yet, so the report must not say so.
        assert (report["updates_sent"], report["updated"], report["confirmed_after_unknown"]) == (3, [], [])
