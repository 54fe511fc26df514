"""Edits that the watch notices long before the next poll: replaced links, and edits of link targets."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from allocsync.desired.watcher import DirectoryWatch
from allocsync.model.desired_state import Mode, Revision
from allocsync.model.times import WallTime
from tests.support.loading import HEAD

POLL_SECONDS, SOON_SECONDS = 600.0, 30.0
# Time to start watching. If it takes longer, the first read finds the edit: the test passes but proves less.
WATCHES_SECONDS = 0.5


def write(file: Path, region: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"{HEAD}allocations: {{a: {{region: {region}}}}}\n")


def retarget(link: Path, target: str | Path) -> None:
    """Give a link another target in one step."""
    new_link = link.with_name("new")
    new_link.symlink_to(target)
    new_link.replace(link)


@asynccontextmanager
async def watched(
    path: Path, on_change: Callable[[], None] = lambda: None
) -> AsyncIterator[asyncio.Queue[Revision]]:
    """A queue of the revisions after the first one, in which the region is `one`."""
    revisions: asyncio.Queue[Revision] = asyncio.Queue()
    watch = DirectoryWatch(
        path,
        default_mode=Mode.ENFORCE,
        on_change=on_change,
        on_loaded=lambda _: None,
        on_rejected=lambda _: None,
        poll_seconds=POLL_SECONDS,
        wall=lambda: WallTime(time.time()),
    )

    async def follow() -> None:
        while True:
            revisions.put_nowait(await watch.next())

    task = asyncio.create_task(follow())
    try:
        assert await next_region(revisions) == "one"
        await asyncio.sleep(WATCHES_SECONDS)
        yield revisions
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def next_region(revisions: asyncio.Queue[Revision]) -> str:
    async with asyncio.timeout(SOON_SECONDS):
        ((only,),) = [each.fields for each in (await revisions.get()).allocations.values()]
    return only[1]


@pytest.mark.parametrize("name", ["desired", "desired/a.yaml"])
async def test_a_replaced_link_above_the_path_is_noticed(tmp_path: Path, name: str) -> None:
    for release in ("one", "two"):
        write(tmp_path / "releases" / release / "desired" / "a.yaml", release)
    (tmp_path / "current").symlink_to(tmp_path / "releases" / "one")
    async with watched(tmp_path / "current" / name) as revisions:
        retarget(tmp_path / "current", tmp_path / "releases" / "two")
        assert await next_region(revisions) == "two"


async def test_a_replaced_link_to_the_directory_is_noticed(tmp_path: Path) -> None:
    for release in ("one", "two"):
        write(tmp_path / release / "a.yaml", release)
    (tmp_path / "desired").symlink_to("one")
    async with watched(tmp_path / "desired") as revisions:
        retarget(tmp_path / "desired", "two")
        assert await next_region(revisions) == "two"


async def test_an_edit_of_the_target_of_a_linked_file_is_noticed(tmp_path: Path) -> None:
    write(tmp_path / "store" / "real.yaml", "one")
    (tmp_path / "desired").mkdir()
    (tmp_path / "desired" / "a.yaml").symlink_to(tmp_path / "store" / "real.yaml")
    async with watched(tmp_path / "desired") as revisions:
        write(tmp_path / "store" / "real.yaml", "two")
        assert await next_region(revisions) == "two"


async def test_an_edit_of_a_regular_file_is_noticed(tmp_path: Path) -> None:
    write(tmp_path / "a.yaml", "one")
    async with watched(tmp_path) as revisions:
        write(tmp_path / "a.yaml", "two")
        assert await next_region(revisions) == "two"


async def test_an_edit_is_announced_before_it_is_read(tmp_path: Path) -> None:
    write(tmp_path / "a.yaml", "one")
    announced: list[int] = []
    async with watched(tmp_path, lambda: announced.append(revisions.qsize())) as revisions:
        assert announced == []
        write(tmp_path / "a.yaml", "two")
        async with asyncio.timeout(SOON_SECONDS):
            while not revisions.qsize():
                await asyncio.sleep(0.01)
        assert announced[0] == 0


@pytest.mark.parametrize("name", ["desired/a.yaml", "desired"])
async def test_a_replaced_link_behind_another_link_is_noticed(tmp_path: Path, name: str) -> None:
    for release in ("one", "two"):
        write(tmp_path / "releases" / release / "desired" / "a.yaml", release)
    (tmp_path / "current").symlink_to("releases/one")
    path = tmp_path / "etc" / name
    path.parent.mkdir(parents=True)
    path.symlink_to(tmp_path / "current" / name)
    async with watched(tmp_path / "etc" / "desired") as revisions:
        retarget(tmp_path / "current", "releases/two")
        assert await next_region(revisions) == "two"


async def test_dangling_and_circular_links_do_not_prevent_watching_the_others(
    tmp_path: Path,
) -> None:
    write(tmp_path / "desired" / "a.yaml", "one")
    (tmp_path / "desired" / ".old.yaml").symlink_to("/nonexistent/directory/x.yaml")
    (tmp_path / "desired" / ".round.yaml").symlink_to(".round.yaml")
    async with watched(tmp_path / "desired") as revisions:
        write(tmp_path / "desired" / "a.yaml", "two")
        assert await next_region(revisions) == "two"
        (tmp_path / "desired" / "gone.yaml").symlink_to("/nonexistent/directory/x.yaml")
        await asyncio.sleep(WATCHES_SECONDS)
        (tmp_path / "desired" / "gone.yaml").unlink()
        write(tmp_path / "desired" / "a.yaml", "three")
        assert await next_region(revisions) == "three"


@pytest.mark.parametrize("name", ["etc", "etc/a.yaml", "etc/../etc"])
async def test_a_replaced_link_in_the_directory_is_noticed_under_any_name_of_the_directory(
    tmp_path: Path, name: str
) -> None:
    for release in ("one", "two"):
        write(tmp_path / "srv" / "releases" / release / "a.yaml", release)
    (tmp_path / "etc").symlink_to("srv")
    (tmp_path / "srv" / "a.yaml").symlink_to("current/a.yaml")
    (tmp_path / "srv" / "current").symlink_to("releases/one")
    async with watched(tmp_path / name) as revisions:
        retarget(tmp_path / "srv" / "current", "releases/two")
        assert await next_region(revisions) == "two"
