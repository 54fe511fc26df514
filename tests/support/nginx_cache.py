"""A real nginx in front of an API: it answers reads from its cache for a minute, whatever requests say.

Left out: a cache that sends `Age` (`tests/integration/api/caching_proxy.py`); nginx does not.
"""

import asyncio
import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

CACHE_SECONDS = 60
CONFIGURATION = """
daemon off; worker_processes 1; pid {run}/nginx.pid; error_log {run}/nginx.err warn;
{user}
events {{ worker_connections 64; }}
http {{
  log_format requests '$request_method $uri $upstream_cache_status $http_cache_control';
  access_log {run}/access.log requests;
  client_body_temp_path {run}/t1; proxy_temp_path {run}/t2; fastcgi_temp_path {run}/t3;
  uwsgi_temp_path {run}/t4; scgi_temp_path {run}/t5;
  proxy_cache_path {run}/cache keys_zone=reads:1m;
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass {upstream};
      proxy_cache reads; proxy_cache_valid 200 410 {seconds}s; proxy_cache_methods GET;
      proxy_ignore_headers Cache-Control Expires;
      proxy_pass_header Date;
    }}
  }}
}}
"""
needs_nginx = pytest.mark.skipif(not shutil.which("nginx"), reason="apt-get install nginx")


class NginxCache:
    """A running nginx: its URL, and what it was asked."""

    def __init__(self, url: str, log: Path) -> None:
        self.url = url
        self._log = log

    def requests(self) -> list[tuple[str, str, str, str]]:
        """Method, path, HIT or MISS or EXPIRED or -, and Cache-Control of each request so far."""
        rows = (line.split(" ", 3) for line in self._log.read_text(encoding="utf-8").splitlines())
        return [(method, path, cached, control) for method, path, cached, control in rows]


@asynccontextmanager
async def nginx_cache(upstream: str, directory: Path, port: int) -> AsyncIterator[NginxCache]:
    """Run nginx on this loopback port until the context ends; its files are in `directory`."""
    text = CONFIGURATION.format(
        run=directory,
        port=port,
        upstream=upstream,
        seconds=CACHE_SECONDS,
        user="user root;" if os.geteuid() == 0 else "",
    )
    configuration, errors = directory / "nginx.conf", directory / "start.err"
    configuration.write_text(text, encoding="utf-8")
    with errors.open("wb") as log:
        nginx = subprocess.Popen(["nginx", "-p", directory, "-c", configuration], stderr=log)  # noqa: ASYNC220 - returns at once
        try:
            async with asyncio.timeout(10):
                while nginx.poll() is None and not (directory / "nginx.pid").exists():
                    await asyncio.sleep(0.02)
            assert nginx.poll() is None, errors.read_text(encoding="utf-8")
            yield NginxCache(f"http://127.0.0.1:{port}", directory / "access.log")
        finally:
            nginx.terminate()
            await asyncio.to_thread(nginx.wait, 10)
