"""Every metric there is: name, type, unit, labels, meaning. `docs/observability.md` is written from here."""

from enum import StrEnum

import msgspec


class Kind(StrEnum):
    """How a metric is to be read."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Family(msgspec.Struct, frozen=True):
    """A metric.

    Attributes:
        name: as Prometheus has it; a counter's ends in `_total`.
        unit: of its values, in words; empty for what is only counted.
        meaning: for people, in one sentence.
        labels: their names, in order.
    """

    name: str
    kind: Kind
    unit: str
    meaning: str
    labels: tuple[str, ...] = ()


PREFIX = "mt5_bridge_"


def _counter(name: str, meaning: str, *labels: str, unit: str = "") -> Family:
    return Family(PREFIX + name, Kind.COUNTER, unit, meaning, labels)


def _gauge(name: str, meaning: str, *labels: str, unit: str = "") -> Family:
    return Family(PREFIX + name, Kind.GAUGE, unit, meaning, labels)


def _seconds(name: str, meaning: str, *labels: str) -> Family:
    return Family(PREFIX + name, Kind.HISTOGRAM, "seconds", meaning, labels)


BRIDGE = (
    _gauge("info", "Always 1; what runs is in the labels.", "version", "mode", "bridge_id", "account", "terminal"),
    _gauge("uptime_seconds", "Since the daemon began.", unit="seconds"),
    _gauge("resident_memory_bytes", "Memory of the daemon, its hosts not counted.", unit="bytes"),
    _gauge("host_resident_memory_bytes", "Memory of a terminal host (live, history) that runs.", "host", unit="bytes"),
    _counter("cpu_seconds_total", "Processor time of the daemon, its hosts not counted.", unit="seconds"),
    _gauge("health_state", "1 for the health that holds: ok, degraded or not_ready.", "state"),
    _gauge("ready", "1 while an order could be sent: reconciled, connected, trading allowed, journal writable."),
    _counter("loop_stalls_total", "How often the event loop stood still for more than 50 ms."),
    _gauge("loop_stall_worst_seconds", "The longest of these stalls since the start.", unit="seconds"),
)

HALT = (
    _gauge("halt_state", "1 for the state that holds: active, reducing or halted.", "state"),
    _gauge("halt_durable", "1 while the halt state is written down; 0 while the disk does not take it."),
    _counter("emergency_stops_total", "Stops that latched or asked for more since the start, from wherever."),
    _gauge("survivors", "Tickets that a stop could not close or cancel yet."),
)

CHANNELS = (
    _gauge("channel_up", "1 while the channel (terminal, redpanda, backend) is connected.", "channel"),
    _gauge("channel_state", "1 for the state that the channel is in.", "channel", "state"),
    _counter("backend_connections_total", "Connections to the backend that came about."),
    _counter("backend_refusals_total", "Connections that the backend refused: 401 or 403."),
    _counter("backend_frames_total", "Frames exchanged with the backend.", "direction"),
    _counter("producer_records_total", "Records that the broker acknowledged."),
    _counter("producer_batches_total", "Batches that the broker acknowledged."),
    _counter("producer_refused_total", "Records that the broker will never take."),
    _gauge("producer_pending_bytes", "Bytes that wait for the broker.", unit="bytes"),
)

ACCOUNT = (
    _gauge("account_balance", "Balance.", "currency", unit="account currency"),
    _gauge("account_equity", "Equity.", "currency", unit="account currency"),
    _gauge("account_margin", "Margin in use.", "currency", unit="account currency"),
    _gauge("account_free_margin", "Margin that is free.", "currency", unit="account currency"),
    _gauge("account_age_seconds", "How long ago the account was read completely.", unit="seconds"),
    _gauge("positions", "Open positions."),
    _gauge("pending_orders", "Pending orders."),
    _gauge("day_trades", "Openings of the trading day that count to MAX_DAILY_TRADES."),
    _gauge("day_trades_limit", "MAX_DAILY_TRADES; absent when off."),
    _gauge("day_loss_ratio", "Loss of the trading day as a part of the equity it began with.", unit="ratio"),
    _gauge("day_loss_limit_ratio", "MAX_DAILY_LOSS_PCT as a part; absent when off.", unit="ratio"),
)

TICKS = (
    _gauge("symbols", "Symbols that are streamed."),
    _gauge("symbols_missing", "Symbols of the settings that the terminal does not stream."),
    _counter("ticks_published_total", "Ticks that the broker acknowledged, or the socket was given."),
    _counter("ticks_resent_total", "Ticks given to the broker once more: so many may be there twice."),
    _counter("ticks_conflated_total", "Ticks left out because a newer one is enough."),
    _counter("ticks_unusable_total", "Ticks left out because a price is no number."),
    _counter("tick_gaps_total", "How often the terminal no longer had the tick up to which a symbol had been read."),
    _counter("tick_polls_total", "Round trips to the live host for ticks."),
    _counter("tick_poll_failures_total", "Those that failed."),
    _counter("tick_publish_failures_total", "Deliveries of ticks that failed."),
    _counter("tick_missed_slots_total", "Deadlines of TICK_HZ at which the round before was still going on."),
    _counter("tick_catch_ups_total", "How often a symbol far behind was read by the history host."),
    _gauge("last_tick_timestamp_seconds", "UTC time of the tick delivered last.", unit="seconds since 1970"),
    _seconds("tick_age_seconds", "Age of the newest tick of a delivery when the broker or the socket had it."),
    _counter("bars_published_total", "Bars published; absent without BARS."),
    _counter("bars_corrected_total", "Bars published once more because the terminal corrected them."),
)

SIGNALS = (
    _counter("signals_received_total", "Records or frames that brought something to sort, by where from.", "source"),
    _counter("signals_accepted_total", "Signals that entered the inbox."),
    _counter("signals_duplicate_total", "Signals that were in the inbox already."),
    _counter("signals_foreign_total", "Signals for other accounts, skipped."),
    _counter("signals_tombstones_total", "Records without a value, skipped."),
    _counter("dead_letters_total", "Records that went to the DLQ."),
    _counter("bad_signatures_total", "Signals whose signature is missing or wrong."),
    _gauge("signal_lag_records", "Records of the signal topic that are not entered yet.", "partition"),
)

ORDERS = (
    _counter("results_total", "Results by status, interim ones (unknown) and corrections included.", "status"),
    _counter("denials_total", "Signals and commands denied, by reason.", "reason"),
    _counter("order_sends_total", "Calls of order_send, an emergency stop's included."),
    _counter("stops_repaired_total", "Stops that were missing after a fill and were set."),
    _gauge("orders_in_flight", "Orders that the terminal has not answered yet."),
    _gauge("unknown_intents", "Orders whose outcome is being looked up."),
    _seconds("signal_to_send_seconds", "From a signal's or command's arrival to its first order_send."),
    _seconds("order_send_seconds", "What the terminal took over an order_send, its queue not counted."),
    _seconds("command_seconds", "From a command's turn to its answer.", "command"),
    _counter("commands_repeated_total", "Commands asked again and given their first answer."),
)

TERMINAL = (
    _counter("terminal_calls_total", "Calls handed to a terminal host."),
    _counter("terminal_failures_total", "Calls that failed."),
    _counter("terminal_timeouts_total", "Calls that took too long, whose host was killed."),
    _counter("terminal_preempted_total", "Hosts killed because something critical waited behind a read."),
    _counter("host_restarts_total", "Starts of the live host after the first."),
    _counter("host_deaths_total", "Hosts that went, killed or not."),
    _counter("terminal_reconnects_total", "Connections to the terminal made anew."),
    _counter("breaker_trips_total", "How often the circuit breaker opened."),
    _gauge("clock_skew_seconds", "How far the terminal's last tick was from this PC's clock.", unit="seconds"),
)

JOURNAL = (
    _gauge("journal_size_bytes", "The database and its log on the disk.", unit="bytes"),
    _gauge("journal_healthy", "1 while the journal can be written."),
    _gauge("journal_pending", "Calls that wait for the disk."),
    _counter("journal_failures_total", "Calls that the disk failed."),
    _seconds("journal_commit_seconds", "What a group of calls took, fsync included."),
    _gauge("outbox_depth", "Events that wait for the channel.", "channel"),
    _counter("outbox_announced_total", "Events that entered the outbox."),
    _counter("outbox_delivered_total", "Events that the channel took.", "channel"),
    _counter("outbox_held_total", "Deliveries that the broker did not take then and that wait."),
    _counter("outbox_aged_out_total", "Events dropped because nobody fetched them for a day."),
    _counter("outbox_undeliverable_total", "Events dropped because the broker will never take them."),
)

GATEWAY = (
    _seconds("gateway_request_seconds", "From a request's first byte to the answer's last.", "method", "route"),
    _counter("gateway_requests_total", "Requests answered, by the answer's status.", "method", "route", "status"),
    _gauge("gateway_requests_in_flight", "Requests being answered."),
    _counter("gateway_refused_total", "Requests turned away before any route, by the problem's code.", "code"),
    _gauge("gateway_websocket_clients_limit", "MAX_CONNECTIONS."),
    _gauge("gateway_websocket_clients", "Clients of the WebSocket hub."),
    _counter("gateway_websocket_messages_total", "Frames of the WebSocket hub.", "direction"),
    _counter("gateway_websocket_conflated_total", "Frames replaced by newer ones because a client is slow."),
    _counter("gateway_websocket_dropped_total", "Clients dropped because they were too slow."),
    _counter("gateway_websocket_turned_away_total", "Clients not let in: full, or unauthorized.", "reason"),
    _counter("gateway_websocket_refused_total", "Frames of clients over the rate, or that make no sense."),
    _counter("gateway_audit_entries_total", "Entries of the audit trail: written, or lost to a dead journal.", "state"),
    _counter("gateway_cache_hits_total", "Answers from a cache tier.", "tier"),
    _counter("gateway_cache_misses_total", "Answers that the tier did not have.", "tier"),
)

SECTIONS: dict[str, tuple[Family, ...]] = {
    "The daemon": BRIDGE,
    "Halt": HALT,
    "Channels": CHANNELS,
    "Account": ACCOUNT,
    "Ticks and bars": TICKS,
    "Signals": SIGNALS,
    "Orders": ORDERS,
    "Terminal": TERMINAL,
    "Journal and outbox": JOURNAL,
    "Gateway": GATEWAY,
}
FAMILIES: dict[str, Family] = {family.name: family for section in SECTIONS.values() for family in section}
