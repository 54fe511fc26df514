"""Credentials: trusted servers, client certificates, errors in files, and renewal."""

import asyncio
import re
import shutil
import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from allocsync.api.client import AllocationClient
from allocsync.api.credentials import Credentials
from allocsync.errors import SettingsError
from allocsync.model.api_answers import (
    Accepted,
    Failed,
    Live,
    NotSent,
    OutcomeUnknown,
    Snapshot,
    UpdateAnswer,
)
from allocsync.model.ids import AllocationId
from tests.integration.api.conftest import RawServer, http_response, raw_server, respond_with

A = AllocationId("a")
CLOUD = b'{"id":"a"}'
needs_openssl = pytest.mark.skipif(not shutil.which("openssl"), reason="apt-get install openssl")


@dataclass(frozen=True, slots=True)
class Pki:
    """A certificate authority and the certificates that it signed, as PEM files."""

    directory: Path

    def file(self, name: str) -> Path:
        return self.directory / name

    def make(self, name: str, *, by: str | None = None) -> None:
        """Make a key and a certificate, signed by itself or by the certificate named `by`."""
        common = ["-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}", "-days", "2"]
        signed = (
            [] if by is None else ["-CA", str(self.file(f"{by}.pem")), "-CAkey", str(self.file(f"{by}.key"))]
        )
        extension = "basicConstraints=critical,CA:TRUE" if by is None else "subjectAltName=IP:127.0.0.1"
        files = ["-keyout", str(self.file(f"{name}.key")), "-out", str(self.file(f"{name}.pem"))]
        command = ["openssl", "req", "-x509", *common, *signed, "-addext", extension, *files]
        subprocess.run(command, check=True, capture_output=True)

    def server(self, *, requires_certificate: bool) -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=self.file("ca.pem"))
        context.load_cert_chain(self.file("server.pem"), self.file("server.key"))
        context.verify_mode = ssl.CERT_REQUIRED if requires_certificate else ssl.CERT_NONE
        return context


@pytest.fixture(scope="session", name="pki")
def _pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    made = Pki(tmp_path_factory.mktemp("pki"))
    made.make("ca")
    for name in ("server", "client"):
        made.make(name, by="ca")
    made.make("stranger")
    return made


async def read_and_update(server: RawServer, credentials: Credentials) -> tuple[Snapshot, UpdateAnswer]:
    async with AllocationClient.open(server.url, credentials=credentials) as client:
        return await client.snapshot(A), await client.update(A, {"id": "a"})


@pytest.mark.real
@needs_openssl
async def test_a_server_is_trusted_by_the_ca_file_and_by_no_other(pki: Pki) -> None:
    async with raw_server(
        respond_with(http_response(200, CLOUD)), tls=pki.server(requires_certificate=False)
    ) as server:
        read, sent = await read_and_update(server, Credentials(ca_file=pki.file("ca.pem")))
        assert isinstance(read, Live)
        assert isinstance(sent, Accepted)
        for wrong in (None, pki.file("stranger.pem")):
            read, sent = await read_and_update(server, Credentials(ca_file=wrong))
            assert isinstance(read, Failed)
            assert isinstance(sent, NotSent)
            assert "TLS with 127.0.0.1:" in sent.reason
    assert len(server.requests) == 2


@pytest.mark.real
@needs_openssl
async def test_the_client_certificate_is_sent_to_a_server_that_asks_for_it(pki: Pki) -> None:
    certificate, key = pki.file("client.pem"), pki.file("client.key")
    both = pki.file("both.pem")
    both.write_bytes(certificate.read_bytes() + key.read_bytes())
    async with raw_server(
        respond_with(http_response(200, CLOUD)), tls=pki.server(requires_certificate=True)
    ) as server:
        for files in ((certificate, key), (both, None)):
            read, sent = await read_and_update(server, Credentials(None, None, pki.file("ca.pem"), *files))
            assert isinstance(read, Live)
            assert isinstance(sent, Accepted)
        assert len(server.requests) == 4
        read, sent = await read_and_update(server, Credentials(ca_file=pki.file("ca.pem")))
        assert isinstance(read, Failed)
        # TLS 1.3 rejects the client after the handshake, so the client only sees a dropped connection.
        assert isinstance(sent, OutcomeUnknown)
    assert len(server.requests) == 4


@pytest.mark.real
@needs_openssl
async def test_a_wrong_file_is_named_before_anything_is_sent(pki: Pki, tmp_path: Path) -> None:
    junk = tmp_path / "junk.pem"
    junk.write_text("not PEM")
    locked = tmp_path / "locked.key"
    lock = ["openssl", "rsa", "-aes128", "-passout", "pass:x", "-in", str(pki.file("client.key"))]
    command = [*lock, "-out", str(locked)]
    await asyncio.to_thread(subprocess.run, command, check=True, capture_output=True)
    certificate = pki.file("client.pem")
    for files, message in (
        ((junk, None, None), f"api_ca_file={junk}: contains no PEM certificate"),
        ((tmp_path / "none", None, None), f"{tmp_path / 'none'}: not a file"),
        ((tmp_path, None, None), f"{tmp_path}: not a file"),
        ((None, junk, None), f"needs a PEM certificate, and its private key without a passphrase in {junk}"),
        ((None, certificate, None), "its private key"),
        ((None, certificate, pki.file("server.key")), "its private key"),
        ((None, certificate, locked), f"without a passphrase in {locked}"),
        ((None, None, pki.file("client.key")), "api_key_file is set without api_certificate_file"),
    ):
        with pytest.raises(SettingsError, match=re.escape(message)):
            Credentials(None, None, *files)


@pytest.mark.real
@needs_openssl
def test_credentials_are_equal_exactly_if_their_files_have_the_same_content(pki: Pki, tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    file.write_bytes(pki.file("ca.pem").read_bytes())
    first = Credentials(ca_file=file)
    assert first == Credentials(ca_file=file)
    file.write_bytes(pki.file("stranger.pem").read_bytes())
    assert first != Credentials(ca_file=file)


async def test_renewed_secrets_are_sent_with_the_next_request_and_old_ones_stay_secret() -> None:
    async with (
        raw_server(respond_with(http_response(401, b"who are old-token and new-token?"))) as server,
        AllocationClient.open(server.url, credentials=Credentials("old-token")) as client,
    ):
        await client.snapshot(A)
        client.set_credentials(Credentials("new-token", "app"))
        result = await client.snapshot(A)
    first, second = [request.headers for request in server.requests]
    assert first["authorization"] == "Bearer old-token"
    assert "x-application-id" not in first
    assert (second["authorization"], second["x-application-id"]) == ("Bearer new-token", "app")
    assert isinstance(result, Failed)
    assert result.reason == "401 Unauthorized: who are *** and ***?"


def test_the_repr_of_credentials_contains_no_secret() -> None:
    shown = repr(Credentials("the-token", "the-application"))
    assert "the-token" not in shown
    assert "the-application" not in shown
