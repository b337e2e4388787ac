"""When a certificate ends: the one date that the `ssl` module does not tell of a file. Pure."""

import re
import ssl
from datetime import UTC, datetime

_PEM = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
_SEQUENCE, _VERSION, _UTC_TIME, _GENERALIZED_TIME = 0x30, 0xA0, 0x17, 0x18
_BEFORE_VALIDITY = 3
"""Serial number, signature algorithm, issuer."""


def valid_until(pem: str) -> datetime:
    """The end of the first certificate in a PEM text, in UTC.

    Raises:
        ValueError: there is none, or it cannot be read.
    """
    found = _PEM.search(pem)
    if found is None:
        raise ValueError("no certificate in it")
    try:
        return _not_after(ssl.PEM_cert_to_DER_cert(found[0]))
    except IndexError as error:
        raise ValueError("the certificate is cut off") from error


def _not_after(der: bytes) -> datetime:
    at = _inside(der, _inside(der, 0))
    if der[at] == _VERSION:
        at = _after(der, at)
    for _ in range(_BEFORE_VALIDITY):
        at = _after(der, at)
    at = _after(der, _inside(der, at))  # not before
    kind, start, end = der[at], *_span(der, at)
    if kind not in (_UTC_TIME, _GENERALIZED_TIME):
        raise ValueError("its end cannot be read")
    written = der[start:end].decode("ascii")
    # RFC 5280: two digits up to 2049, of which the pivot is 50; strptime's own is 69.
    year = written[:4] if kind == _GENERALIZED_TIME else ("19" if written[:2] >= "50" else "20") + written[:2]
    return datetime.strptime(year + written[-11:], "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)


def _span(der: bytes, at: int) -> tuple[int, int]:
    """Where the content of the element at `at` begins and ends."""
    length, start = der[at + 1], at + 2
    if length & 0x80:
        digits = length & 0x7F
        length = int.from_bytes(der[start : start + digits], "big")
        start += digits
    if start + length > len(der):
        raise ValueError("the certificate is cut off")
    return start, start + length


def _inside(der: bytes, at: int) -> int:
    if der[at] != _SEQUENCE:
        raise ValueError("it is not a certificate")
    return _span(der, at)[0]


def _after(der: bytes, at: int) -> int:
    return _span(der, at)[1]
