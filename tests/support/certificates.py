"""Certificates for tests: an authority of the test's own and what it signs."""

import ipaddress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

_BEGIN, _EXPIRED, _END = (datetime(year, 1, 1, tzinfo=UTC) for year in (2020, 2021, 2070))


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
        self.certificate = folder / "ca.pem"
        self._name, self._key = _name(name), _new_key()
        folder.mkdir(parents=True, exist_ok=True)
        made = self._unsigned(self._name, self._key, _END).add_extension(
            x509.BasicConstraints(ca=True, path_length=None), critical=True
        )
        self.certificate.write_bytes(self._signed(made))

    def issue(self, name: str, *hosts: str, expired: bool = False, password: str | None = None) -> Certificate:
        """A certificate that this authority signs.

        Args:
            name: its common name, and its files' name.
            hosts: what it is valid for, say `IP:127.0.0.1` or `DNS:localhost`; none for a client's.
            expired: whether it ended in 2021.
            password: encrypts the key, in `key` (not in `bundle`).
        """
        found = Certificate(*(self.folder / f"{name}.{end}" for end in ("pem", "key", "bundle.pem")))
        key = _new_key()
        made = self._unsigned(_name(name), key, _EXPIRED if expired else _END)
        if hosts:
            made = made.add_extension(x509.SubjectAlternativeName([_host(host) for host in hosts]), critical=False)
        found.certificate.write_bytes(self._signed(made))
        found.key.write_bytes(_pem(key, password))
        parts = (_pem(key), found.certificate.read_bytes(), self.certificate.read_bytes())
        found.bundle.write_bytes(b"".join(parts))
        return found

    def _unsigned(self, name: x509.Name, key: rsa.RSAPrivateKey, end: datetime) -> x509.CertificateBuilder:
        made = x509.CertificateBuilder(self._name, name, key.public_key(), x509.random_serial_number(), _BEGIN, end)
        return made.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)

    def _signed(self, made: x509.CertificateBuilder) -> bytes:
        own = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        signed = made.add_extension(own, critical=False).sign(self._key, hashes.SHA256())
        return signed.public_bytes(serialization.Encoding.PEM)


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _new_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def _host(told: str) -> x509.GeneralName:
    kind, _, host = told.partition(":")
    return x509.IPAddress(ipaddress.ip_address(host)) if kind == "IP" else x509.DNSName(host)


def _pem(key: rsa.RSAPrivateKey, password: str | None = None) -> bytes:
    locked = serialization.BestAvailableEncryption(password.encode()) if password else serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, locked)
