"""The recipe of docs/redpanda-security.md makes certificates that are good by the letter."""

import re
import shutil
import ssl
import subprocess
from pathlib import Path

from mt5_bridge.redpanda.config import RedpandaConfig
from mt5_bridge.redpanda.security import client_options

PAGE = (Path(__file__).resolve().parents[2] / "docs/redpanda-security.md").read_text(encoding="utf-8")


def test_the_recipe_makes_certificates_that_both_sides_take(tmp_path: Path) -> None:
    [recipe] = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
    shell = shutil.which("bash")
    assert shell is not None
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
