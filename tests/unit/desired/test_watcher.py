"""What a watch sees by itself, long before it polls: links are swapped, files edited where they lead to."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from allocsync.desired.watcher import DirectoryWatch
from allocsync.model.desired_state import Generation, Mode
from tests.support.loading import HEAD

POLL_SECONDS, SOON_SECONDS = 600.0, 30.0
# By then it watches; where it does not yet, its first look finds what is new, which passes and shows nothing.
WATCHES_SECONDS = 0.5


def write(file: Path, region: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"{HEAD}allocations: {{a: {{region: {region}}}}}\n")


def swap(link: Path, target: str | Path) -> None:
    """Have a link lead elsewhere in one step."""
    beside = link.with_name("new")
    beside.symlink_to(target)
    beside.replace(link)


@asynccontextmanager
async def following(
    path: Path, on_change: Callable[[], None] = lambda: None
) -> AsyncIterator[asyncio.Queue[Generation]]:
    """The generations that a watch of it gives after the first, which says region one."""
    found: asyncio.Queue[Generation] = asyncio.Queue()
    watch = DirectoryWatch(
        path,
        default_mode=Mode.ENFORCE,
        on_change=on_change,
        on_loaded=lambda _: None,
        on_rejected=lambda _: None,
        poll_seconds=POLL_SECONDS,
    )

    async def follow() -> None:
        while True:
            found.put_nowait(await watch.next())

    task = asyncio.create_task(follow())
    try:
        assert await region(found) == "one"
        await asyncio.sleep(WATCHES_SECONDS)
        yield found
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def region(found: asyncio.Queue[Generation]) -> str:
    async with asyncio.timeout(SOON_SECONDS):
        ((only,),) = [each.leaves for each in (await found.get()).allocations.values()]
    return only[1]


@pytest.mark.parametrize("name", ["desired", "desired/a.yaml"])
async def test_a_link_on_the_way_that_is_swapped_is_seen(tmp_path: Path, name: str) -> None:
    for release in ("one", "two"):
        write(tmp_path / "releases" / release / "desired" / "a.yaml", release)
    (tmp_path / "current").symlink_to(tmp_path / "releases" / "one")
    async with following(tmp_path / "current" / name) as found:
        swap(tmp_path / "current", tmp_path / "releases" / "two")
        assert await region(found) == "two"


async def test_a_directory_that_is_a_link_and_is_swapped_is_seen(tmp_path: Path) -> None:
    for release in ("one", "two"):
        write(tmp_path / release / "a.yaml", release)
    (tmp_path / "desired").symlink_to("one")
    async with following(tmp_path / "desired") as found:
        swap(tmp_path / "desired", "two")
        assert await region(found) == "two"


async def test_an_edit_of_what_a_file_in_the_directory_links_to_is_seen(tmp_path: Path) -> None:
    write(tmp_path / "store" / "real.yaml", "one")
    (tmp_path / "desired").mkdir()
    (tmp_path / "desired" / "a.yaml").symlink_to(tmp_path / "store" / "real.yaml")
    async with following(tmp_path / "desired") as found:
        write(tmp_path / "store" / "real.yaml", "two")
        assert await region(found) == "two"


async def test_a_plain_edit_is_seen(tmp_path: Path) -> None:
    write(tmp_path / "a.yaml", "one")
    async with following(tmp_path) as found:
        write(tmp_path / "a.yaml", "two")
        assert await region(found) == "two"


async def test_an_edit_is_announced_when_it_is_noticed_and_nothing_else_is(tmp_path: Path) -> None:
    write(tmp_path / "a.yaml", "one")
    announced: list[int] = []
    async with following(tmp_path, lambda: announced.append(found.qsize())) as found:
        assert announced == []
        write(tmp_path / "a.yaml", "two")
        async with asyncio.timeout(SOON_SECONDS):
            while not found.qsize():
                await asyncio.sleep(0.01)
        assert announced[0] == 0


@pytest.mark.parametrize("name", ["desired/a.yaml", "desired"])
async def test_a_link_that_a_link_leads_through_is_seen_when_it_is_swapped(tmp_path: Path, name: str) -> None:
    for release in ("one", "two"):
        write(tmp_path / "releases" / release / "desired" / "a.yaml", release)
    (tmp_path / "current").symlink_to("releases/one")
    path = tmp_path / "etc" / name
    path.parent.mkdir(parents=True)
    path.symlink_to(tmp_path / "current" / name)
    async with following(tmp_path / "etc" / "desired") as found:
        swap(tmp_path / "current", "releases/two")
        assert await region(found) == "two"


async def test_links_that_lead_nowhere_or_in_a_circle_do_not_cost_the_watch_of_the_rest(
    tmp_path: Path,
) -> None:
    write(tmp_path / "desired" / "a.yaml", "one")
    (tmp_path / "desired" / ".old.yaml").symlink_to("/nonexistent/directory/x.yaml")
    (tmp_path / "desired" / ".round.yaml").symlink_to(".round.yaml")
    async with following(tmp_path / "desired") as found:
        write(tmp_path / "desired" / "a.yaml", "two")
        assert await region(found) == "two"
        (tmp_path / "desired" / "gone.yaml").symlink_to("/nonexistent/directory/x.yaml")
        await asyncio.sleep(WATCHES_SECONDS)
        (tmp_path / "desired" / "gone.yaml").unlink()
        write(tmp_path / "desired" / "a.yaml", "three")
        assert await region(found) == "three"


@pytest.mark.parametrize("name", ["etc", "etc/a.yaml", "etc/../etc"])
async def test_a_link_beside_the_content_is_seen_by_whatever_name_the_directory_goes(
    tmp_path: Path, name: str
) -> None:
    for release in ("one", "two"):
        write(tmp_path / "srv" / "releases" / release / "a.yaml", release)
    (tmp_path / "etc").symlink_to("srv")
    (tmp_path / "srv" / "a.yaml").symlink_to("current/a.yaml")
    (tmp_path / "srv" / "current").symlink_to("releases/one")
    async with following(tmp_path / name) as found:
        swap(tmp_path / "srv" / "current", "releases/two")
        assert await region(found) == "two"
