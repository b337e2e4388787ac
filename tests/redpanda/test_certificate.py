"""The end of a certificate, against what another library wrote."""

import contextlib
import ssl
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.certificates import Authority

from mt5_bridge.redpanda.certificate import valid_until


def test_ends_of_this_century_in_both_spellings(authority: Authority) -> None:
    gone, young = authority.issue("gone", expired=True), authority.issue("young", "IP:127.0.0.1")
    assert valid_until(gone.certificate.read_text()) == datetime(2021, 1, 1, tzinfo=UTC)
    assert valid_until(young.certificate.read_text()) == datetime(2070, 1, 1, tzinfo=UTC)


def test_the_first_of_a_file_counts(authority: Authority) -> None:
    bundle = authority.issue("gone", expired=True).bundle
    assert valid_until(bundle.read_text()) == datetime(2021, 1, 1, tzinfo=UTC)


@given(st.binary(max_size=300), st.integers(0, 900))
def test_junk_is_refused_and_breaks_nothing(junk: bytes, cut: int) -> None:
    for der in (junk, FULL[:cut], FULL[:cut] + junk):
        with contextlib.suppress(ValueError):
            valid_until(ssl.DER_cert_to_PEM_cert(der))


def test_no_certificate_is_said_to_be_none(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no certificate"):
        valid_until("-----BEGIN PRIVATE KEY-----")


FULL = b"\x30\x82\x01\x00" + bytes(range(256))
