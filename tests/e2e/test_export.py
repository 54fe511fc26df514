"""`export`, `validate` and `plan` in real processes, on a thousand live states with unusual values."""

import json
import random
import uuid
from pathlib import Path

from allocsync.model.cloud import STATUSES, Cloud
from allocsync.reference_server import ReferenceServer
from tests.support.hard_texts import HARD_TEXTS
from tests.support.processes import command

WORDS = (*HARD_TEXTS, "us-east1", "https://mark.pieces.cloud")


def states(number: int, seed: int) -> list[Cloud]:
    """Return random live states; the same seed gives the same states."""
    rng = random.Random(seed)

    def text() -> str:
        return rng.choice(WORDS) + rng.choice(("", "", *WORDS))

    def url() -> dict[str, str]:
        return {"status": rng.choice(STATUSES), "url": text()}

    def cloud() -> Cloud:
        optional = {name: text() for name in ("region", "version") if rng.random() < 0.7}
        vanity = {"vanity": url()} if rng.random() < 0.5 else {}
        return {
            "id": str(uuid.UUID(int=rng.getrandbits(128))),
            "user": text(),
            "project": text(),
            "status": {"cloud": rng.choice(STATUSES)},
            "urls": {"base": url(), "id": url(), **vanity},
            **optional,
        }

    return [cloud() for _ in range(number)]


async def test_an_export_is_valid_and_has_no_difference_from_live_state(tmp_path: Path) -> None:
    clouds, out = states(1000, 9), tmp_path / "export.yaml"
    async with ReferenceServer.start(clouds) as server:
        status, text, stderr = await command("export", "--api-url", server.url)
        assert (status, stderr) == (0, "")
        status, shown, _ = await command("export", "--api-url", server.url, "--out", str(out))
        assert (status, shown) == (0, "")
        assert out.read_text() == text
        assert (await command("validate", str(out)))[0] == 0
        where = ("--api-url", server.url, "--desired", str(out), "--detailed-exitcode", "--json")
        status, text, _ = await command("plan", *where)
        assert (status, json.loads(text)["counts"]["in_sync"]) == (0, len(clouds))
        first = str(clouds[0]["id"])
        status, text, _ = await command("export", "--api-url", server.url, first)
        assert status == 0
        assert [str(cloud["id"]) in text for cloud in clouds] == [True] + [False] * (len(clouds) - 1)
        status, text, stderr = await command("export", "--api-url", server.url, first, "nobody")
        assert (status, text) == (1, "")
        assert "nobody: no such allocation is live" in stderr
        server.set_faults({"list": {"500": 1}})
        status, text, stderr = await command("export", "--api-url", server.url)
        assert (status, text) == (1, "")
        assert "500 Internal Server Error" in stderr


async def test_an_export_takes_a_prefix_of_an_id_that_one_live_allocation_has() -> None:
    clouds = [
        *states(2, 9),
        {**states(1, 10)[0], "id": "one-and-only"},
        {**states(1, 11)[0], "id": "one-and-more"},
    ]
    first = str(clouds[0]["id"])
    async with ReferenceServer.start(clouds, log_all=True) as server:
        where = ("export", "--api-url", server.url)
        status, whole, _ = await command(*where, first)
        assert status == 0
        assert [record["op"] for record in server.records] == ["snapshot"], "a whole id needs no list"
        assert await command(*where, first[:8], first) == (0, whole, "")
        for name, why in {
            first[:7]: f"{first[:7]} is too short: give the whole id, or at least its first 8 characters",
            "one-and-": "one-and- matches 2 allocations; give more characters of the id",
        }.items():
            status, text, stderr = await command(*where, name, first)
            assert (status, text) == (1, "")
            assert f"allocsync: {why}" in stderr
            assert stderr.endswith("allocsync: Nothing was exported.\n")
        status, text, stderr = await command(*where, first[:8], "--bulk", "off")
        assert (status, text) == (1, "")
        assert f"{first[:8]}: 410: there is no such allocation. A prefix of an id needs the list" in stderr
        server.set_faults({"list": {"500": 1}})
        status, text, stderr = await command(*where, first[:8])
        assert (status, text) == (1, "")
        assert f"{first[:8]}: 410" in stderr
        assert "500 Internal Server Error" in stderr
