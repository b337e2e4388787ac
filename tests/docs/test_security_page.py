"""The page on security: its recipe makes certificates that are good by the letter, its messages are the bridge's."""

import re
import shutil
import ssl
import subprocess
from pathlib import Path

import pytest
from support.certificates import needs_openssl

from mt5_bridge.redpanda.config import RedpandaConfig
from mt5_bridge.redpanda.security import client_options

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/redpanda-security.md").read_text(encoding="utf-8")
SPOKEN = ("causes.py", "security.py", "gates.py")


def test_the_recipe_makes_certificates_that_both_sides_take(tmp_path: Path) -> None:
    [recipe] = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
    needs_openssl()
    shell = shutil.which("bash")
    if shell is None:
        pytest.skip("there is no bash to follow the recipe with")
    done = subprocess.run([shell, "-e"], input=recipe, text=True, cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    broker = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(tmp_path / "ca.pem"))
    broker.load_cert_chain(tmp_path / "broker.pem", tmp_path / "broker.key")
    broker.verify_mode = ssl.CERT_REQUIRED
    bridge: ssl.SSLContext = client_options(
        RedpandaConfig(
            security_protocol="SSL",
            ca_file=str(tmp_path / "ca.pem"),
            cert_file=str(tmp_path / "bridge.pem"),
            key_file=str(tmp_path / "bridge.key"),
        )
    )["ssl_context"]
    for context in (broker, bridge):
        context.verify_flags |= ssl.VERIFY_X509_STRICT  # what Python does by itself from 3.13 on
    for name in ("redpanda.example", "10.0.0.5"):
        shake_hands(broker, bridge, name)


def shake_hands(server: ssl.SSLContext, client: ssl.SSLContext, name: str) -> None:
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    sides = [server.wrap_bio(up, down, server_side=True), client.wrap_bio(down, up, server_hostname=name)]
    for _ in range(5):
        for side in sides:
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    assert sides[0].getpeercert() is not None
    assert sides[1].getpeercert() is not None


def test_every_message_of_the_table_is_one_that_the_bridge_says() -> None:
    table = PAGE.partition("| the line says | do |")[2].partition("\n\n")[0]
    messages = re.findall(r"^\| `([^`]+)` \|", table, re.MULTILINE)
    assert len(messages) > 15
    room = ROOT / "mt5_bridge/redpanda"
    code = " ".join((room / name).read_text(encoding="utf-8") for name in SPOKEN)
    plain = " ".join(re.sub(r'"\s*\n\s*f?"', "", code).split())
    for message in messages:
        for part in message.split("…"):
            assert part.strip() in plain, message
