"""Certificates for tests, made by the `openssl` command: an authority of the test's own and what it signs.

Where the command is missing, a test that wants one is skipped; `.ci/run` sees to it that it is there.
"""

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

_CONFIG = """
[ca]
default_ca = own
[own]
database = {folder}/index.txt
new_certs_dir = {folder}
rand_serial = yes
unique_subject = no
default_md = sha256
policy = any
copy_extensions = copy
[any]
commonName = supplied
"""


@dataclass(frozen=True)
class Certificate:
    """Files of one: certificate, key, and both with the authority's in one (what a Java keystore of PEM takes)."""

    certificate: Path
    key: Path
    bundle: Path


class Authority:
    """A certificate authority in a folder: whoever trusts `certificate` trusts what `issue` signs.

    Args:
        folder: where its files go; made when missing.
        name: its common name.
    """

    def __init__(self, folder: Path, name: str = "test-authority") -> None:
        self.folder = folder
        self.certificate, self._key = folder / "ca.pem", folder / "ca.key"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "index.txt").touch()
        (folder / "ca.cnf").write_text(_CONFIG.format(folder=folder))
        files = ("-keyout", str(self._key), "-out", str(self.certificate))
        _openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30", "-subj", f"/CN={name}", *files)

    def issue(self, name: str, *hosts: str, expired: bool = False, password: str | None = None) -> Certificate:
        """A certificate that this authority signs.

        Args:
            name: its common name, and its files' name.
            hosts: what it is valid for, say `IP:127.0.0.1` or `DNS:localhost`; none for a client's.
            expired: whether it ended in 2021.
            password: encrypts the key, in `key` (not in `bundle`).
        """
        key, request = self.folder / f"{name}.key", self.folder / f"{name}.csr"
        found = Certificate(self.folder / f"{name}.pem", key, self.folder / f"{name}.bundle.pem")
        names = ("-addext", f"subjectAltName={','.join(hosts)}") if hosts else ()
        files = ("-keyout", str(key), "-out", str(request))
        _openssl("req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}", *names, *files)
        life = ("20200101000000Z", "20210101000000Z") if expired else ("20200101000000Z", "20700101000000Z")
        signing = ("-config", str(self.folder / "ca.cnf"), "-cert", str(self.certificate), "-keyfile", str(self._key))
        dates = ("-startdate", life[0], "-enddate", life[1])
        files = ("-in", str(request), "-out", str(found.certificate))
        _openssl("ca", "-batch", "-notext", *signing, *dates, *files)
        found.bundle.write_bytes(b"".join(path.read_bytes() for path in (key, found.certificate, self.certificate)))
        if password:
            clear = key.read_bytes()
            _openssl("pkcs8", "-topk8", "-passout", f"pass:{password}", "-out", str(key), text=clear)
        return found


def needs_openssl() -> None:
    """Skip the test that runs, where there is no such command."""
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl command to make certificates with")


def _openssl(*arguments: str, text: bytes = b"") -> None:
    needs_openssl()
    done = subprocess.run(["openssl", *arguments], input=text, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, f"openssl {' '.join(arguments)[:300]}:\n{done.stderr.decode('utf-8', 'replace')}"
