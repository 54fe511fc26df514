"""A real Prometheus and a real Alertmanager for a test, on loopback and ports that the system chooses."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import yaml

SCRAPE = "500ms"
START_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Prometheus:
    """A Prometheus that scrapes daemons; `alertmanager` is the URL of what it tells, empty without one."""

    url: str
    http: aiohttp.ClientSession
    alertmanager: str = ""

    async def ask(self, path: str, **query: str) -> Mapping[str, Any]:
        """Return the data of an answer of its API."""
        async with self.http.get(f"{self.url}/api/v1/{path}", params=query) as answer:
            found = await answer.json()
        assert found["status"] == "success", found
        data: Mapping[str, Any] = found["data"]
        return data

    async def firing(self) -> set[tuple[str, str]]:
        """The alerts that fire now: name, and instance (empty if it has none)."""
        alerts = (await self.ask("alerts"))["alerts"]
        return {
            (alert["labels"]["alertname"], alert["labels"].get("instance", ""))
            for alert in alerts
            if alert["state"] == "firing"
        }

    async def told(self) -> set[str]:
        """The names of the alerts that the Alertmanager has now."""
        async with self.http.get(f"{self.alertmanager}/api/v2/alerts") as answer:
            return {alert["labels"]["alertname"] for alert in await answer.json()}


@asynccontextmanager
async def prometheus(
    folder: Path, targets: Sequence[str], rules: Path, *, with_alertmanager: bool = False
) -> AsyncIterator[Prometheus]:
    """Run a Prometheus that scrapes these addresses twice a second and loads these rules."""
    async with AsyncExitStack() as stack:
        told = ""
        if with_alertmanager:
            route = {"route": {"receiver": "none", "group_wait": "0s"}, "receivers": [{"name": "none"}]}
            told = await stack.enter_async_context(
                _program(folder, "prometheus-alertmanager", route, "--cluster.listen-address=")
            )
        config: dict[str, Any] = {
            "global": {"scrape_interval": SCRAPE, "evaluation_interval": SCRAPE},
            "rule_files": [str(rules)],
            "scrape_configs": [
                {
                    "job_name": "allocsync",
                    "scrape_timeout": SCRAPE,
                    "static_configs": [{"targets": list(targets)}],
                }
            ],
        }
        if told:
            address = told.removeprefix("http://")
            config["alerting"] = {"alertmanagers": [{"static_configs": [{"targets": [address]}]}]}
        url = await stack.enter_async_context(_program(folder, "prometheus", config))
        http = await stack.enter_async_context(aiohttp.ClientSession())
        yield Prometheus(url, http, told)


@asynccontextmanager
async def _program(
    folder: Path, program: str, config: Mapping[str, Any], *arguments: str
) -> AsyncIterator[str]:
    """Run a program of the Prometheus project with a configuration; yields its URL."""
    file = folder / f"{program}.yml"
    file.write_text(yaml.safe_dump(dict(config)), encoding="utf-8")
    data = "--storage.path" if program.endswith("manager") else "--storage.tsdb.path"
    with (folder / f"{program}.log").open("w") as log:
        process = await asyncio.create_subprocess_exec(
            *(program, f"--config.file={file}", "--web.listen-address=127.0.0.1:0"),
            *(f"{data}={folder / program}", *arguments),
            stdout=log,
            stderr=log,
        )
    try:
        async with asyncio.timeout(START_SECONDS):
            while (port := listening_port(process.pid)) is None:
                assert process.returncode is None, (folder / f"{program}.log").read_text(encoding="utf-8")
                await asyncio.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


def listening_port(pid: int) -> int | None:
    """The port on which a process listens, by the kernel; None while it does not."""
    inodes = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        try:
            inodes.add(str(link.readlink()).removeprefix("socket:[").removesuffix("]"))
        except OSError:
            continue  # closed meanwhile
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text(encoding="ascii").splitlines()[1:]:
            words = line.split()
            if words[3] == "0A" and words[9] in inodes:  # LISTEN
                return int(words[1].rpartition(":")[2], 16)
    return None
