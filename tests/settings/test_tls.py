import ssl
from pathlib import Path

import pytest
from support.certificates import Authority, Certificate

from mt5_bridge.core.errors import SettingsError
from mt5_bridge.settings.tls import TlsFiles, client_context


def context(files: TlsFiles) -> ssl.SSLContext:
    return client_context(files, group="ITS", whose="its")


def fault(files: TlsFiles) -> str:
    with pytest.raises(SettingsError) as refused:
        context(files)
    assert "secret" not in str(refused.value)
    return str(refused.value)


def test_without_files_the_platform_decides_whom_to_trust() -> None:
    made = context(TlsFiles())
    assert made.verify_mode is ssl.CERT_REQUIRED
    assert made.check_hostname


def test_a_ca_made_by_hand_is_good_enough(authority: Authority) -> None:
    made = context(TlsFiles(ca=str(authority.certificate)))
    assert not made.verify_flags & ssl.VERIFY_X509_STRICT
    assert made.verify_mode is ssl.CERT_REQUIRED
    assert len(made.get_ca_certs()) == 1


def test_a_ca_file_that_is_none_is_named(tmp_path: Path) -> None:
    empty = tmp_path / "empty.pem"
    empty.write_text("nothing")
    assert fault(TlsFiles(ca=str(tmp_path / "none.pem"))).startswith("ITS_SSL_CA_FILE: ")
    assert "give a PEM file with its CA" in fault(TlsFiles(ca=str(empty)))


def test_a_certificate_with_its_key_beside_it_or_in_it(pair: Certificate, locked: Certificate) -> None:
    context(TlsFiles(cert=str(pair.certificate), key=str(pair.key)))
    context(TlsFiles(cert=str(pair.bundle)))
    context(TlsFiles(cert=str(locked.certificate), key=str(locked.key), key_password="key-secret"))


@pytest.mark.parametrize(
    ("key", "password", "words"),
    [
        (None, "wrong-secret", "ITS_SSL_KEY_PASSWORD: does not open the key"),
        (None, None, "ITS_SSL_KEY_PASSWORD: is not set, and the key is encrypted"),
        ("/no/such/key", None, "ITS_SSL_KEY_FILE: '/no/such/key'"),
    ],
)
def test_a_key_that_does_not_open_is_named(
    locked: Certificate, key: str | None, password: str | None, words: str
) -> None:
    assert words in fault(TlsFiles(cert=str(locked.certificate), key=key or str(locked.key), key_password=password))


def test_a_certificate_that_is_none_or_lacks_its_key_or_has_anothers_is_named(
    authority: Authority, pair: Certificate, tmp_path: Path
) -> None:
    empty = tmp_path / "empty.pem"
    empty.write_text("nothing")
    for cert in (str(tmp_path / "none.pem"), str(empty), str(pair.certificate)):
        assert fault(TlsFiles(cert=cert)).startswith("ITS_SSL_CERT_FILE: ")
    other = authority.issue("other")
    told = fault(TlsFiles(cert=str(pair.certificate), key=str(other.key)))
    assert told.startswith("ITS_SSL_KEY_FILE: the key in ")
    assert "is not that of" in told


def test_the_password_is_not_in_the_repr() -> None:
    assert "key-secret" not in repr(TlsFiles(key_password="key-secret"))
