"""The secrets and certificates of the client: the headers of every request, and the TLS context.

The rules:
- Everything is checked before anything is sent.
- An error names the file or the kind of secret, never the secret.
- The files are read when the object is made. Two objects are equal only if their files have the same content;
  this is how a renewed certificate is noticed.

Left out: where the values come from (`settings.model`) and when they are read again (`runtime.daemon`).
"""

import hashlib
import ssl
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from allocsync.errors import SettingsError

_MAX_FILE_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Credentials:
    """Secrets and PEM files, each of them optional.

    `tls_context` is None without files: the system's certificate authorities are trusted then. `files_sha256`
    stands for the content of all files.

    Raises:
        SettingsError: a header cannot carry one of the secrets, or a file cannot be used.
    """

    token: str | None = field(default=None, repr=False)
    application_id: str | None = field(default=None, repr=False)
    ca_file: Path | None = None
    certificate_file: Path | None = None
    key_file: Path | None = None
    tls_context: ssl.SSLContext | None = field(init=False, repr=False, compare=False, default=None)
    files_sha256: str = field(init=False, repr=False, default="")

    def __post_init__(self) -> None:
        """Check the values and read the files."""
        for name, secret in (("the token", self.token), ("the application id", self.application_id)):
            if secret is not None and not all("!" <= c <= "~" for c in secret):
                raise SettingsError(
                    f"{name} cannot be sent in a header: it has characters other than visible ASCII"
                )
        if self.key_file is not None and self.certificate_file is None:
            raise SettingsError(
                "api_key_file is set without api_certificate_file: set both, or only api_certificate_file "
                "if that file holds the key too"
            )
        digest = hashlib.sha256()
        for file in (self.ca_file, self.certificate_file, self.key_file):
            digest.update(b"\0" if file is None else hashlib.sha256(_read_pem(file)).digest())
        object.__setattr__(self, "files_sha256", digest.hexdigest())
        if self.ca_file is not None or self.certificate_file is not None:
            object.__setattr__(self, "tls_context", self._make_tls_context())

    def headers(self) -> Iterator[tuple[str, str]]:
        """Yield the headers that identify the client, as (name, value)."""
        if self.application_id:
            yield "X-Application-ID", self.application_id
        if self.token:
            yield "Authorization", f"Bearer {self.token}"

    def secrets(self) -> tuple[str, ...]:
        """Return the values that no message may contain."""
        return tuple(secret for secret in (self.token, self.application_id) if secret)

    def _make_tls_context(self) -> ssl.SSLContext:
        try:
            context = ssl.create_default_context(cafile=self.ca_file)
        except OSError as error:  # includes ssl.SSLError, and a file that was removed after it was checked
            raise SettingsError(f"api_ca_file={self.ca_file}: contains no PEM certificate") from error
        if self.certificate_file is None:
            return context
        try:
            # Without a password OpenSSL would ask for the passphrase on the terminal. An empty one fails.
            context.load_cert_chain(self.certificate_file, self.key_file, password="")
        except OSError as error:
            key_file = self.certificate_file if self.key_file is None else self.key_file
            raise SettingsError(
                f"api_certificate_file={self.certificate_file}: needs a PEM certificate, and its private key "
                f"without a passphrase in {key_file}"
            ) from error
        return context


def _read_pem(file: Path) -> bytes:
    try:
        if not file.is_file():
            raise SettingsError(f"{file}: not a file; a certificate or key is expected")
        with file.open("rb") as stream:
            return stream.read(_MAX_FILE_BYTES)
    except OSError as error:
        raise SettingsError(f"{file}: cannot be read: {(error.strerror or 'unreadable').lower()}") from error
