"""Real brokers of Apache Kafka for tests: nodes that start, stop, die, freeze, lose their data, one or a cluster.

They run the jars of `tests/kafka/kit/install.py`. Each node listens on 127.0.0.1 with

| address | who comes in |
| --- | --- |
| `bootstrap` | everyone, unencrypted; a super user where there are access rules |
| `sasl_bootstrap` | TLS; user and password by PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512 (`USERS`) |
| `ssl_bootstrap` | TLS with a certificate that `authority` signed; the principal is `User:CN=…` |

    with KafkaBroker(tmp_path) as broker:            # about 4 s, 250 MB
        RedpandaConfig(bootstrap=broker.bootstrap)
"""

import base64
import os
import random
import shutil
import signal
import socket
import ssl
import struct
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import psutil
from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._acl import (  # what its face does not export
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
)
from confluent_kafka.admin._config import AlterConfigOpType, ConfigEntry, ConfigResource
from confluent_kafka.admin._resource import ResourcePatternType as Pattern
from confluent_kafka.admin._resource import ResourceType as Resource
from confluent_kafka.admin._scram import ScramCredentialInfo, ScramMechanism, UserScramCredentialUpsertion
from confluent_kafka.cimpl import NewPartitions, NewTopic
from kafka.kit import install
from support.certificates import Authority, Certificate
from support.eventually import poll_until
from support.topics import Record

USERS = {"bridge": "bridge-secret", "stranger": "stranger-secret"}
START_S = 90.0
_STOP_S = 30.0
_ADMIN_S = 30.0
_LISTENERS = ("PLAINTEXT", "CONTROLLER", "SASL_SSL", "MUTUAL")
_OPTIONS = ("-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto", "-Djava.awt.headless=true")


class KafkaBroker:
    """One node, all of its files in a folder; data outlives `stop` and `kill`, ports outlive everything.

    Args:
        folder: for its files; `data` in there holds the log.
        acl: whether access is by rules (`allow`): who has none of them may do nothing.
        properties: settings of the broker, over those made here.
        authority: whose certificates it shows and trusts; None makes one in the folder.
        certificate: what it shows; None: one of the authority's for 127.0.0.1 and localhost.
        data: where the log goes instead of `folder/data`, say a small file system.
    """

    def __init__(
        self,
        folder: Path,
        *,
        acl: bool = False,
        properties: Mapping[str, str] | None = None,
        authority: Authority | None = None,
        certificate: Certificate | None = None,
        data: Path | None = None,
    ) -> None:
        self.folder, self.node, self.acl = folder, 1, acl
        folder.mkdir(parents=True, exist_ok=True)
        self.data = data or folder / "data"
        self.properties = dict(properties or {})
        self.authority = authority or Authority(folder / "authority")
        self.certificate = certificate or self.authority.issue("broker", "IP:127.0.0.1", "DNS:localhost")
        self.ports = dict(zip(_LISTENERS, quiet_ports(len(_LISTENERS)), strict=True))
        self.peers: Sequence[KafkaBroker] = (self,)
        self.cluster_id = _random_id()
        self._process: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = None

    @property
    def bootstrap(self) -> str:
        return f"127.0.0.1:{self.ports['PLAINTEXT']}"

    @property
    def port(self) -> int:
        return self.ports["PLAINTEXT"]

    @property
    def sasl_bootstrap(self) -> str:
        return f"127.0.0.1:{self.ports['SASL_SSL']}"

    @property
    def ssl_bootstrap(self) -> str:
        return f"127.0.0.1:{self.ports['MUTUAL']}"

    @property
    def ca(self) -> str:
        """The authority's certificate, as settings take it."""
        return str(self.authority.certificate)

    @property
    def log(self) -> str:
        """All that the broker said, over all its lives."""
        return (self.folder / "broker.log").read_text(encoding="utf-8", errors="replace")

    @property
    def process(self) -> psutil.Process:
        assert self._process is not None
        return psutil.Process(self._process.pid)

    def start(self) -> None:
        """Starts it and waits until it answers. Its settings are written anew, so they may have changed."""
        self.launch()
        self.wait_ready()

    def launch(self) -> None:
        """Starts it and waits for nothing."""
        assert self._process is None
        assert install.main() == 0, "no Apache Kafka here: see tests/kafka/kit/install.py"
        settings = self.folder / "server.properties"
        settings.write_text("".join(f"{name}={value}\n" for name, value in self._settings().items()))
        if not (self.data / "meta.properties").exists():
            self._format(settings)
        with (self.folder / "broker.log").open("ab") as log:
            self._process = subprocess.Popen(
                [*_java(), "kafka.Kafka", str(settings)], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        # Its pipe ends with us, however we end: no broker outlives tests that are killed.
        self._guard = subprocess.Popen(
            ["sh", "-c", 'read _; kill -9 "$0"', str(self._process.pid)], stdin=subprocess.PIPE
        )

    def wait_ready(self) -> None:
        """Waits until it leads or follows in a cluster that has all its living nodes."""
        living = sum(peer.runs for peer in self.peers)

        def ready() -> bool:
            assert self.runs, f"the broker ended:\n{self.log[-3000:]}"
            try:
                return len(self.admin().list_topics(timeout=2).brokers) >= living
            except KafkaException:
                return False

        assert poll_until(ready, START_S), f"no broker after {START_S:g} s:\n{self.log[-3000:]}"

    @property
    def runs(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def stop(self) -> None:
        """In order; a frozen one is thawed first."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """As `kill -9`: connections break, ports are closed."""
        self._end(signal.SIGKILL)

    def pause(self) -> None:
        """As a machine that hangs: connections stay, nothing is answered."""
        self.process.suspend()

    def resume(self) -> None:
        self.process.resume()

    def wipe(self) -> None:
        """Loses all data; only while it does not run."""
        assert not self.runs
        if self.data.is_dir():
            for path in self.data.iterdir():  # the folder itself may be a file system's root
                shutil.rmtree(path) if path.is_dir() else path.unlink()

    def admin(self) -> AdminClient:
        """librdkafka's administration client, as a super user."""
        return AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 0})

    def create_topic(self, name: str, partitions: int = 1, copies: int = 1, **settings: str) -> None:
        """Makes a topic; settings with `_` for `.`, say `max_message_bytes="1000"`."""
        config = {key.replace("_", "."): value for key, value in settings.items()}
        topic = NewTopic(name, num_partitions=partitions, replication_factor=copies, config=config)
        admin = self.admin()  # kept: what it was asked dies with it
        _done(admin.create_topics([topic], operation_timeout=_ADMIN_S))

    def delete_topic(self, name: str) -> None:
        """Deletes it, and waits until nobody is told of it any more."""
        admin = self.admin()
        _done(admin.delete_topics([name], operation_timeout=_ADMIN_S))
        assert poll_until(lambda: name not in admin.list_topics(timeout=_ADMIN_S).topics, _ADMIN_S)

    def topics(self) -> list[str]:
        """Names of all."""
        return list(self.admin().list_topics(timeout=_ADMIN_S).topics)

    def records(self, topic: str) -> list[Record]:
        """All that is on a topic now, partition by partition."""
        consumer = Consumer({"bootstrap.servers": self.bootstrap, "group.id": "kit", "log_level": 0})
        try:
            numbers = consumer.list_topics(topic, timeout=_ADMIN_S).topics[topic].partitions
            found: list[Record] = []
            for number in sorted(numbers):
                at, end = _ends(consumer, TopicPartition(topic, number))
                consumer.assign([TopicPartition(topic, number, at)])
                while at < end:
                    rows = [Record(row) for row in consumer.consume(1000, 1.0) if row.error() is None]
                    found += rows
                    at = max((row.offset + 1 for row in rows), default=at)
            return found
        finally:
            consumer.close()

    def add_partitions(self, name: str, total: int) -> None:
        admin = self.admin()
        _done(admin.create_partitions([NewPartitions(name, total)]))

    def allow(self, principal: str, topic: str, *operations: str) -> None:
        """Grants rights (`READ`, `WRITE`, `CREATE`, `DESCRIBE`, …) on a topic, `*` for all of them.

        Args:
            principal: `User:bridge` for a password's user, `User:CN=bridge` for a certificate's.
        """
        self._grant(Resource.TOPIC, topic, principal, operations)

    def allow_group(self, principal: str, group: str, *operations: str) -> None:
        """The same on a consumer group."""
        self._grant(Resource.GROUP, group, principal, operations)

    def allow_cluster(self, principal: str, *operations: str) -> None:
        """The same on the cluster, say `IDEMPOTENT_WRITE`."""
        self._grant(Resource.BROKER, "kafka-cluster", principal, operations)

    def set_password(self, user: str, password: str) -> None:
        """Changes what the SCRAM mechanisms ask for; PLAIN's is in the broker's settings."""
        admin = self.admin()
        for mechanism in (ScramMechanism.SCRAM_SHA_256, ScramMechanism.SCRAM_SHA_512):  # one at a time
            credential = ScramCredentialInfo(mechanism, 4096)
            _done(
                admin.alter_user_scram_credentials([UserScramCredentialUpsertion(user, credential, password.encode())])
            )

    def show(self, certificate: Certificate) -> None:
        """Shows another certificate to whoever connects from now on, without a restart."""
        names = [f"listener.name.{name}.ssl.keystore.location" for name in ("sasl_ssl", "mutual")]
        entries = [
            ConfigEntry(name, str(certificate.bundle), incremental_operation=AlterConfigOpType.SET) for name in names
        ]
        self.certificate = certificate
        admin = self.admin()
        node = ConfigResource(Resource.BROKER, str(self.node), incremental_configs=entries)
        _done(admin.incremental_alter_configs([node]))
        assert poll_until(lambda: all(map(self._shows, ("SASL_SSL", "MUTUAL"))), _ADMIN_S)

    def _shows(self, listener: str) -> bool:
        """Whether its certificate is what a listener shows: a change is answered before it is made."""
        shown = ssl.get_server_certificate(("127.0.0.1", self.ports[listener]), timeout=_ADMIN_S)
        return shown.split() == self.certificate.certificate.read_text().split()

    def throttle(self, *, produce: int | None = None, consume: int | None = None, client: str | None = None) -> None:
        """Bounds what a client may send and read, in bytes/s; None lifts the bound.

        Args:
            client: its client.id; None: each that has no bound of its own.
        """
        _set_quotas(self.port, client, {"producer_byte_rate": produce, "consumer_byte_rate": consume})

    def client_certificate(self, name: str = "bridge", *, expired: bool = False) -> Certificate:
        """One that `ssl_bootstrap` lets in."""
        return self.authority.issue(name, expired=expired)

    def _grant(self, kind: Resource, name: str, principal: str, operations: Sequence[str]) -> None:
        admin = self.admin()
        for operation in operations:
            rule = (kind, name, Pattern.LITERAL, principal, "*", AclOperation[operation], AclPermissionType.ALLOW)
            _done(admin.create_acls([AclBinding(*rule)]))
            # Written down is not yet in force: the node's own rules follow the cluster's log.
            asked = AclBindingFilter(*rule)
            assert poll_until(partial(_found, admin, asked), _ADMIN_S), asked

    def _end(self, number: int) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        self._dismiss_guard()
        process.send_signal(signal.SIGCONT)
        process.send_signal(number)
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _dismiss_guard(self) -> None:
        guard, self._guard = self._guard, None
        if guard is not None:
            guard.kill()
            guard.communicate()

    def _settings(self) -> dict[str, str]:
        addresses = {name: f"{name}://127.0.0.1:{port}" for name, port in self.ports.items()}
        told = [address for name, address in addresses.items() if name != "CONTROLLER"]
        copies = str(len(self.peers))
        settings = {
            "process.roles": "broker,controller",
            "node.id": str(self.node),
            "controller.quorum.voters": ",".join(f"{p.node}@127.0.0.1:{p.ports['CONTROLLER']}" for p in self.peers),
            "controller.listener.names": "CONTROLLER",
            "listeners": ",".join(addresses.values()),
            "advertised.listeners": ",".join(told),
            "listener.security.protocol.map": ("PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL_SSL:SASL_SSL,MUTUAL:SSL"),
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": str(self.certificate.bundle),
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": self.ca,
            "ssl.allow.dn.changes": "true",  # for `show`
            "ssl.allow.san.changes": "true",
            "listener.name.mutual.ssl.client.auth": "required",
            "log.dirs": str(self.data),
            "auto.create.topics.enable": "false",
            "num.partitions": "1",
            "offsets.topic.replication.factor": copies,
            "offsets.topic.num.partitions": "1",
            "group.initial.rebalance.delay.ms": "0",
            "broker.session.timeout.ms": "3000",  # how long the name of a killed node is held against its next life
            "broker.heartbeat.interval.ms": "500",
            "log.cleaner.enable": "false",
            "num.network.threads": "2",
            "num.io.threads": "2",
            "controlled.shutdown.enable": "true" if len(self.peers) > 1 else "false",
            **_sasl_settings(),
        }
        if self.acl:
            settings |= {
                "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
                "super.users": "User:ANONYMOUS",
            }
        return settings | self.properties

    def _format(self, settings: Path) -> None:
        users = [
            argument
            for mechanism in ("SCRAM-SHA-256", "SCRAM-SHA-512")
            for name, password in USERS.items()
            for argument in ("--add-scram", f"{mechanism}=[name={name},password={password}]")
        ]
        _run("kafka.tools.StorageTool", "format", "-c", str(settings), "-t", self.cluster_id, *users)

    def __enter__(self) -> "KafkaBroker":
        try:
            self.start()
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


@contextmanager
def cluster(folder: Path, nodes: int = 3, **settings: Any) -> Iterator[list[KafkaBroker]]:
    """Nodes that know one another, all of them started.

    Args:
        folder: each node gets its own in there.
        nodes: how many.
        settings: arguments of `KafkaBroker`, the same for each.
    """
    authority = Authority(folder / "authority")
    found = [KafkaBroker(folder / f"node-{number}", authority=authority, **settings) for number in range(1, nodes + 1)]
    for number, node in enumerate(found, 1):
        node.node, node.peers, node.cluster_id = number, found, found[0].cluster_id
    try:
        for node in found:
            node.launch()
        for node in found:
            node.wait_ready()
        yield found
    finally:
        for node in found:
            node.kill()


def bootstrap_of(nodes: Sequence[KafkaBroker]) -> str:
    """What a client of the whole cluster is told."""
    return ",".join(node.bootstrap for node in nodes)


def quiet_ports(count: int) -> list[int]:
    """Free ports on 127.0.0.1 below those that outgoing connections get.

    A client that keeps trying a port of that range while nobody listens may one day be given it as its own, and then
    talks to itself.
    """
    found: list[int] = []
    while len(found) < count:
        port = random.randrange(12000, 32000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        found += [port] if port not in found else []
    return found


def _java() -> list[str]:
    return ["java", *_OPTIONS, "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp", f"{install.JARS}/*"]


def _run(*command: str) -> None:
    done = subprocess.run([*_java(), *command], capture_output=True, text=True, timeout=START_S, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def _sasl_settings() -> dict[str, str]:
    security = "org.apache.kafka.common.security"
    users = " ".join(f'user_{name}="{password}"' for name, password in USERS.items())
    scram = f"{security}.scram.ScramLoginModule required;"
    return {
        "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512",
        "listener.name.sasl_ssl.plain.sasl.jaas.config": f"{security}.plain.PlainLoginModule required {users};",
        "listener.name.sasl_ssl.scram-sha-256.sasl.jaas.config": scram,
        "listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config": scram,
    }


def _set_quotas(port: int, client: str | None, rates: Mapping[str, int | None]) -> None:
    """Kafka's AlterClientQuotas (key 49, version 0): librdkafka has it not."""
    changes = [_text(name) + struct.pack(">d?", rate or 0, rate is None) for name, rate in rates.items()]
    entity = struct.pack(">i", 1) + _text("client-id") + (struct.pack(">h", -1) if client is None else _text(client))
    body = struct.pack(">i", 1) + entity + struct.pack(">i", len(changes)) + b"".join(changes) + b"\0"
    request = struct.pack(">hhi", 49, 0, 1) + _text("kit") + body
    with socket.create_connection(("127.0.0.1", port), _ADMIN_S) as connection, connection.makefile("rb") as answers:
        connection.sendall(struct.pack(">i", len(request)) + request)
        answer = answers.read(struct.unpack(">i", answers.read(4))[0])
    [error] = struct.unpack(">h", answer[12:14])  # after the request's number, a pause, how many entities
    assert error == 0, f"error {error} of AlterClientQuotas"


def _ends(consumer: Consumer, partition: TopicPartition) -> tuple[int, int]:
    """The first offset and the next one; a node just started or thawed leads nothing for a moment."""

    def asked() -> tuple[int, int] | None:
        try:
            found = consumer.get_watermark_offsets(partition, timeout=_ADMIN_S)
        except KafkaException:
            return None
        return None if found is None else (found[0], found[1])

    found = poll_until(asked, _ADMIN_S)
    assert found is not None, f"no offsets of {partition}"
    return found


def _text(value: str) -> bytes:
    return struct.pack(">h", len(value)) + value.encode()


def _found(admin: AdminClient, asked: AclBindingFilter) -> Sequence[AclBinding]:
    found: Sequence[AclBinding] = admin.describe_acls(asked).result(_ADMIN_S)
    return found


def _done(futures: Mapping[Any, Any]) -> None:
    for future in futures.values():
        future.result(_ADMIN_S)


def _random_id() -> str:
    # A zero first: an id that begins with a dash would read as an option.
    return base64.urlsafe_b64encode(b"\0" + os.urandom(15)).rstrip(b"=").decode()
