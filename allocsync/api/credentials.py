"""Who we are to the API and whom we trust: what every request carries, and what TLS is made of.

The rule: everything is checked before anything is sent, and a mistake names the file or the secret's name,
never the secret. The files are read when credentials are made, so that two of them are equal only if the
files hold the same: that is how a renewed certificate is noticed.

Left out: where they come from (`settings`) and when they are read again (`daemon`).
"""

import hashlib
import ssl
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from allocsync.errors import SettingsError

_BIGGEST_FILE_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Credentials:
    """Secrets and PEM files; all may be absent.

    Raises:
        SettingsError: a secret cannot travel in a header, or a file cannot be used.
    """

    token: str | None = field(default=None, repr=False)
    application_id: str | None = field(default=None, repr=False)
    ca_file: Path | None = None
    certificate_file: Path | None = None
    key_file: Path | None = None
    tls: ssl.SSLContext | None = field(init=False, repr=False, compare=False, default=None)
    digest: str = field(init=False, repr=False, default="")

    def __post_init__(self) -> None:
        """Check everything, and read the files."""
        for what, secret in (("the token", self.token), ("the application id", self.application_id)):
            if secret is not None and not all("!" <= c <= "~" for c in secret):
                raise SettingsError(
                    f"{what} is not one word of visible ASCII characters, so it cannot be a header"
                )
        if self.key_file is not None and self.certificate_file is None:
            raise SettingsError(
                "api_key_file is there without api_certificate_file: give both, or the certificate's file "
                "alone if it holds the key too"
            )
        digest = hashlib.sha256()
        for file in (self.ca_file, self.certificate_file, self.key_file):
            digest.update(b"\0" if file is None else hashlib.sha256(_read(file)).digest())
        object.__setattr__(self, "digest", digest.hexdigest())
        if self.ca_file is not None or self.certificate_file is not None:
            object.__setattr__(self, "tls", self._tls())

    def headers(self) -> Iterator[tuple[str, str]]:
        """The headers that say who we are."""
        if self.application_id:
            yield "X-Application-ID", self.application_id
        if self.token:
            yield "Authorization", f"Bearer {self.token}"

    def secrets(self) -> tuple[str, ...]:
        """What no message may hold."""
        return tuple(secret for secret in (self.token, self.application_id) if secret)

    def _tls(self) -> ssl.SSLContext:
        try:
            context = ssl.create_default_context(cafile=self.ca_file)
        except OSError as error:  # ssl.SSLError is one, and so is a file that goes meanwhile
            raise SettingsError(f"api_ca_file={self.ca_file}: no certificate in PEM form in it") from error
        if self.certificate_file is None:
            return context
        try:
            # A key with a passphrase would make OpenSSL ask on the terminal: an empty one fails instead.
            context.load_cert_chain(self.certificate_file, self.key_file, password="")
        except OSError as error:
            where = self.certificate_file if self.key_file is None else self.key_file
            raise SettingsError(
                f"api_certificate_file={self.certificate_file}: no certificate in PEM form with its key, "
                f"without a passphrase, in {where}"
            ) from error
        return context


def _read(file: Path) -> bytes:
    try:
        if not file.is_file():
            raise SettingsError(f"{file}: not a file, and a certificate or key is expected there")
        with file.open("rb") as stream:
            return stream.read(_BIGGEST_FILE_BYTES)
    except OSError as error:
        raise SettingsError(f"{file}: cannot be read: {(error.strerror or 'unreadable').lower()}") from error
