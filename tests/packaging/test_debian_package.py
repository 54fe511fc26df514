"""The Debian package in a suite with a real systemd, from the installation to the purge.

The package is built from this tree by `make deb`. The root file systems, one to build and one to boot for
each suite, are made once (two minutes each) and kept in $XDG_CACHE_HOME/allocsync (~/.cache/allocsync). The
package of the version before is this one with an older version number.

Left out: what needs no package (`test_systemd_unit.py`, `test_install.py`, `tests/e2e`).
"""

import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from allocsync.journal.reader import OPEN
from allocsync.reference_server.sample import sample_clouds
from tests.packaging.conftest import ROOT, require
from tests.support.booted_suite import BootedSuite, boot, wait_until
from tests.support.processes import declare

pytestmark = [pytest.mark.real, pytest.mark.distribution]

CLOUDS = sample_clouds(24, 1)  # what `allocsync serve` has without a seed
UNIT = "allocsync.service"
SETTINGS = "/etc/allocsync/allocsync.yaml"
FILES = "/etc/allocsync/allocations"
DROP_IN = "/etc/systemd/system/allocsync.service.d/test.conf"
API = 8080
EXPOSURE_TENTHS = 11  # 1.1
READY_SECONDS = 2.0
BUILD_SECONDS = 900


@pytest.fixture(scope="module", name="packages", params=["bookworm", "trixie"])
def _packages(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """Build the package of a suite as new.deb, and old.deb with an older version number."""
    for program in ("mmdebstrap", "systemd-nspawn", "nsenter", "dpkg-deb"):
        require(program)
    if os.geteuid() != 0:
        pytest.skip("a container with systemd needs root: run the tests as root")
    suite, out = str(request.param), tmp_path_factory.mktemp("packages")
    command = ["make", "deb", f"SUITES={suite}", f"OUT={out}"]
    built = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=BUILD_SECONDS, check=False
    )
    assert built.returncode == 0, built.stderr
    new = Path(built.stdout.split()[-1]).rename(out / "new.deb")
    unpacked = out / "old"
    subprocess.run(["dpkg-deb", "-R", new, unpacked], check=True)
    control = unpacked / "DEBIAN/control"
    lines = control.read_text().splitlines(keepends=True)
    control.write_text("".join("Version: 0.0.9\n" if line.startswith("Version:") else line for line in lines))
    subprocess.run(["dpkg-deb", "-Znone", "--root-owner-group", "-b", unpacked, out / "old.deb"], check=True)
    return suite, out


@pytest.fixture(scope="module", name="machine")
def _machine(packages: tuple[str, Path]) -> Iterator[BootedSuite]:
    with boot(*packages) as machine:
        yield machine


def install(machine: BootedSuite, name: str) -> None:
    machine.run("systemctl", "reset-failed")  # systemd refuses a sixth start within ten seconds
    machine.run("dpkg", "--force-downgrade", "-i", f"/opt/packages/{name}.deb")


def restart(machine: BootedSuite, *, check: bool = True) -> int:
    machine.run("systemctl", "reset-failed")  # as in install
    return machine.run("systemctl", "restart", UNIT, check=check).returncode


def status(machine: BootedSuite) -> dict[str, Any]:
    """What an operator without any right sees, without any option."""
    said = machine.run("allocsync", "status", "--json", user="nobody", check=False).stdout
    return dict(json.loads(said)) if said else {}


def in_sync(machine: BootedSuite) -> bool:
    return bool(status(machine).get("conditions", {}).get("InSync") == len(CLOUDS))


def posts(machine: BootedSuite) -> list[dict[str, Any]]:
    return [json.loads(line) for line in machine.read("/run/posts.jsonl").splitlines()]


def edit(machine: BootedSuite, tmp_path: Path, region: str) -> None:
    declare(tmp_path / "a.yaml", CLOUDS, region=region)
    machine.write(f"{FILES}/a.yaml", (tmp_path / "a.yaml").read_text())


def set_faults(machine: BootedSuite, **faults: object) -> None:
    status, said = machine.http("/-/faults", port=API, method="PUT", body=json.dumps(faults))
    assert status == 200, said


def drop_in(machine: BootedSuite, text: str) -> None:
    machine.write(DROP_IN, f"[Service]\n{text}\n")
    machine.run("systemctl", "daemon-reload")
    restart(machine)


def warnings(machine: BootedSuite) -> list[str]:
    return [str(line["MESSAGE"]) for line in machine.journal("-u", UNIT, "-p", "warning")]


def update_under_way(machine: BootedSuite) -> bool:
    return any(
        line.startswith("allocsync_open_intents ") and float(line.split()[1]) > 0
        for line in machine.http("/metrics")[1].splitlines()
    )


def test_the_package_does_in_the_suite_what_deploy_readme_says(
    machine: BootedSuite, packages: tuple[str, Path], tmp_path: Path
) -> None:
    suite, _ = packages
    _installs_and_waits_for_its_files(machine)
    _is_ready_while_the_api_refuses(machine, tmp_path)
    _follows_edits_and_reloads(machine, tmp_path, waits=suite != "bookworm")
    _comes_back_with_a_directory_that_vanished(machine, tmp_path)
    _is_restarted_when_it_stalls(machine)
    _settles_what_a_kill_left_open(machine, tmp_path)
    _stops_in_time_under_load(machine, tmp_path)
    _does_not_loop_after_a_wrong_setting(machine)
    _reads_credentials_that_nobody_else_can_read(machine)
    _rotates_a_secret_by_a_reload(machine)
    _runs_an_instance(machine)
    _is_downgraded_upgraded_removed_and_purged(machine, tmp_path)


def _installs_and_waits_for_its_files(machine: BootedSuite) -> None:
    install(machine, "new")
    assert machine.run("systemctl", "is-enabled", UNIT).stdout.strip() == "enabled"
    assert machine.run("systemctl", "is-active", UNIT).stdout.strip() == "active"
    units = (UNIT, "allocsync@blue.service")
    assert machine.run("systemd-analyze", "verify", *units).stderr == ""
    machine.run("systemd-analyze", "security", f"--threshold={EXPOSURE_TENTHS}", *units)
    code, reason = machine.http("/readyz")
    assert (code, "no desired state has loaded" in reason) == (503, True)
    # The daemon cannot write bytecode, so the installation has to.
    assert machine.run("find", "/usr/lib/allocsync", "-name", "daemon.*.pyc").stdout.count("\n") == 1
    for place in ("/usr/share/man/man1/allocsync.1.gz", "/usr/share/bash-completion/completions/allocsync"):
        assert machine.exists(place)
    modes = machine.run("stat", "-c", "%a %U", SETTINGS, FILES, "/usr/bin/allocsync").stdout.split("\n")
    assert modes[:3] == ["644 root", "755 root", "755 root"]


def _is_ready_while_the_api_refuses(machine: BootedSuite, tmp_path: Path) -> None:
    edit(machine, tmp_path, "mars")
    wait_until(lambda: machine.http("/readyz")[0] == 200)  # picked up when they came
    settings = f"api_url: http://127.0.0.1:{API}\nsettle_seconds: 5\nmax_changes_percent: 100\n"
    machine.write(SETTINGS, settings)
    assert min(_seconds_until_ready(machine) for _ in range(3)) < READY_SECONDS
    assert machine.http("/", port=API)[0] == 0
    wait_until(lambda: status(machine)["api"]["reachable"] is False)


def _seconds_until_ready(machine: BootedSuite) -> float:
    """Restart the service; returns seconds until READY=1, without the time that it waited for a processor."""
    restart(machine)
    waited = int(machine.read(f"/proc/{machine.shows(UNIT, 'MainPID')}/schedstat").split()[1]) / 1e9
    names = ("InactiveExitTimestampMonotonic", "ActiveEnterTimestampMonotonic")
    started, ready = (int(machine.shows(UNIT, name)) / 1e6 for name in names)
    return ready - started - waited


def _follows_edits_and_reloads(machine: BootedSuite, tmp_path: Path, *, waits: bool) -> None:
    serve = ("allocsync", "serve", "--listen", f"127.0.0.1:{API}", "--log", "/run/posts.jsonl")
    machine.run("systemd-run", "--unit=api", *serve)
    wait_until(lambda: in_sync(machine), 60)
    assert len(posts(machine)) == len(CLOUDS)
    edit(machine, tmp_path, "venus")
    wait_until(lambda: in_sync(machine) and len(posts(machine)) == 2 * len(CLOUDS))
    explained = machine.run("allocsync", "explain", str(CLOUDS[0]["id"]), user="nobody").stdout
    assert "InSync" in explained

    assert machine.shows(UNIT, "Type") == ("notify-reload" if waits else "notify")
    machine.run("systemctl", "reload", UNIT)
    assert machine.shows(UNIT, "ReloadResult") == "success"
    machine.write(f"{FILES}/b.yaml", "apiVersion: allocsync/v1\nallocations: [\n")
    machine.run("systemctl", "reload", UNIT)
    wait_until(lambda: status(machine)["rejected"])
    assert machine.shows(UNIT, "ActiveState") == "active"
    assert any("b.yaml" in line for line in warnings(machine))
    assert not any("listening" in line for line in warnings(machine))
    machine.run("rm", f"{FILES}/b.yaml")
    machine.run("systemctl", "reload", UNIT)
    wait_until(lambda: not status(machine)["rejected"])
    assert len(posts(machine)) == 2 * len(CLOUDS)


def _comes_back_with_a_directory_that_vanished(machine: BootedSuite, tmp_path: Path) -> None:
    machine.run("mv", FILES, "/etc/away")
    wait_until(lambda: status(machine)["rejected"])
    machine.run("mv", "/etc/away", FILES)
    wait_until(lambda: not status(machine)["rejected"])
    sent = len(posts(machine))
    edit(machine, tmp_path, "earth")
    wait_until(lambda: len(posts(machine)) == sent + len(CLOUDS) and in_sync(machine))
    assert machine.shows(UNIT, "NRestarts") == "0"


def _is_restarted_when_it_stalls(machine: BootedSuite) -> None:
    drop_in(machine, "WatchdogSec=5\nRestartSec=1")
    machine.run("systemctl", "kill", "--signal=STOP", "--kill-who=main", UNIT)
    wait_until(lambda: machine.shows(UNIT, "NRestarts") == "1", 60)
    assert any("Watchdog timeout" in str(line["MESSAGE"]) for line in machine.journal("-u", UNIT))
    wait_until(lambda: in_sync(machine))


def _settles_what_a_kill_left_open(machine: BootedSuite, tmp_path: Path) -> None:
    sent = len(posts(machine))
    set_faults(machine, update={"timeout_after": 1, "timeout_seconds": 60})
    edit(machine, tmp_path, "pluto")
    wait_until(lambda: update_under_way(machine))
    machine.run("systemctl", "kill", "--signal=KILL", "--kill-who=main", UNIT)
    machine.run("systemctl", "stop", UNIT)
    left_open = history(machine, OPEN)
    assert left_open  # the kill cut off updates
    set_faults(machine)
    restart(machine)
    wait_until(lambda: in_sync(machine), 60)
    assert history(machine, OPEN) == []
    answered = {str(row["id"]) for row in posts(machine)[sent:] if row["answer"] == 200}
    # What had been applied when the kill came was found so by a read, and not sent again.
    assert answered == {str(cloud["id"]) for cloud in CLOUDS} - {row["id"] for row in left_open}
    assert machine.run("allocsync", "history", "--verify").returncode == 0


def history(machine: BootedSuite, outcome: str) -> list[dict[str, Any]]:
    lines = machine.run("allocsync", "history", "--json", "--outcome", outcome).stdout.splitlines()
    return [json.loads(line) for line in lines]


def _stops_in_time_under_load(machine: BootedSuite, tmp_path: Path) -> None:
    drop_in(machine, "TimeoutStopSec=5")  # shorter than the requests in flight get
    set_faults(machine, update={"timeout_before": 1, "timeout_seconds": 300})
    edit(machine, tmp_path, "neptune")
    wait_until(lambda: update_under_way(machine))
    began = time.monotonic()
    machine.run("systemctl", "stop", UNIT)
    assert 5 < time.monotonic() - began < 40
    assert machine.shows(UNIT, "Result") == "success"
    assert history(machine, OPEN)
    set_faults(machine)
    machine.run("rm", DROP_IN)
    machine.run("systemctl", "daemon-reload")
    restart(machine)
    wait_until(lambda: in_sync(machine), 90)


def _does_not_loop_after_a_wrong_setting(machine: BootedSuite) -> None:
    right = machine.read(SETTINGS)
    machine.write(SETTINGS, right + "mode: observed\n")
    assert restart(machine, check=False) != 0
    shown = [machine.shows(UNIT, name) for name in ("ActiveState", "SubState", "ExecMainStatus")]
    assert shown == ["failed", "failed", "78"]  # a restart to come would be activating, auto-restart
    assert any("ALLOCSYNC_MODE=observed is not one of" in line for line in warnings(machine))
    install(machine, "new")  # succeeds although the service cannot start
    assert machine.shows(UNIT, "ActiveState") == "failed"
    machine.write(SETTINGS, right)
    restart(machine)
    wait_until(lambda: in_sync(machine))


def _reads_credentials_that_nobody_else_can_read(machine: BootedSuite) -> None:
    secrets = ["s3cret-of-the-first-day-" + "x" * 20, "s3cret-of-the-second-day-" + "x" * 20]
    credential = "/run/credentials/allocsync.service/allocsync_listen_token"
    for count, secret in enumerate(secrets):  # the second one needs the restart in drop_in
        machine.write("/etc/allocsync/listen_token", secret + "\n", mode="600")
        drop_in(machine, "LoadCredential=allocsync_listen_token:/etc/allocsync/listen_token")
        for place in ("/etc/allocsync/listen_token", credential):
            assert machine.run("cat", place, user="nobody", check=False).returncode != 0
        for each in secrets[: count + 1]:
            answer = machine.run("env", f"ALLOCSYNC_LISTEN_TOKEN={each}", "allocsync", "sync", check=False)
            assert (answer.returncode == 0) is (each == secret), answer.stderr
    pid = machine.shows(UNIT, "MainPID")
    seen = machine.run(
        "sh",
        "-c",
        "journalctl --no-pager; systemctl show allocsync; cat /proc/$1/environ /proc/$1/cmdline",
        "-",
        pid,
    ).stdout
    assert "allocsync" in seen
    assert "s3cret" not in seen
    machine.run("rm", DROP_IN, "/etc/allocsync/listen_token")
    machine.run("systemctl", "daemon-reload")
    restart(machine)


def _rotates_a_secret_by_a_reload(machine: BootedSuite) -> None:
    file = "/etc/allocsync/secrets/allocsync_listen_token"
    for count in (1, 2):
        secret = f"s3cret-that-is-read-again-{count}-" + "x" * 20
        machine.write(file, secret + "\n", mode="640")
        machine.run("chgrp", "-R", "adm", "/etc/allocsync/secrets")
        machine.run("chmod", "750", "/etc/allocsync/secrets")
        if count == 1:
            drop_in(machine, "BindReadOnlyPaths=/etc/allocsync/secrets:/run/secrets\nSupplementaryGroups=adm")
            pid = machine.shows(UNIT, "MainPID")
        machine.run("systemctl", "reload", UNIT)
        line = ("env", f"ALLOCSYNC_LISTEN_TOKEN={secret}", "allocsync", "sync")
        wait_until(lambda: machine.run(*line, check=False).returncode == 0)  # noqa: B023 - called at once
        assert machine.run("cat", file, user="nobody", check=False).returncode != 0
    assert machine.shows(UNIT, "MainPID") == pid
    machine.run("rm", "-r", DROP_IN, "/etc/allocsync/secrets")
    machine.run("systemctl", "daemon-reload")
    restart(machine)


def _runs_an_instance(machine: BootedSuite) -> None:
    text = (
        f"api_url: http://127.0.0.1:{API}\nlisten: 127.0.0.1:9900\nstate_dir: /var/lib/allocsync-blue\n"
        "mode: observe\n"
    )
    machine.write("/etc/allocsync/blue/allocsync.yaml", text)
    machine.run("systemctl", "start", "allocsync@blue")
    assert machine.http("/livez", port=9900)[0] == 200
    assert machine.exists("/var/lib/private/allocsync-blue/journal.db")
    machine.run("allocsync", "--config", "/etc/allocsync/blue/allocsync.yaml", "reload")


def _is_downgraded_upgraded_removed_and_purged(machine: BootedSuite, tmp_path: Path) -> None:
    settings, rows = machine.read(SETTINGS), len(history(machine, "applied"))
    assert rows > 0
    for name, version in (("old", "0.0.9"), ("new", "0.2.0")):
        main, instance = machine.shows(UNIT, "MainPID"), machine.shows("allocsync@blue", "MainPID")
        install(machine, name)
        found = machine.run("dpkg-query", "-W", "-f", "${Version}", "allocsync").stdout
        assert found.startswith(version)
        assert machine.shows(UNIT, "MainPID") not in {main, "0"}
        assert machine.shows("allocsync@blue", "MainPID") not in {instance, "0"}
        assert machine.read(SETTINGS) == settings
        edit(machine, tmp_path, f"after-{version}")
        wait_until(lambda: in_sync(machine))
        found_rows = len(history(machine, "applied"))
        assert found_rows > rows  # the journal went on
        rows = found_rows
        machine.run("allocsync", "history", "--verify")

    machine.run("dpkg", "--remove", "allocsync")
    assert machine.http("/livez")[0] == 0
    assert machine.http("/livez", port=9900)[0] == 0
    assert machine.exists("/var/lib/private/allocsync/journal.db")
    assert machine.read(SETTINGS) == settings
    assert not machine.exists("/usr/lib/allocsync")
    machine.run("dpkg", "--purge", "allocsync")
    for place in ("/etc/allocsync", "/var/lib/allocsync", "/var/lib/allocsync-blue"):
        assert not machine.exists(place)
    assert machine.run("find", "/var/lib/private", "-mindepth", "1").stdout == ""
