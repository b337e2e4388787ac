#!/bin/bash
# The bridge's topics, with room for many symbols and a week of ticks. What exists is left as it is.
# Run by docker-compose.yml inside the Redpanda image, against RPK_BROKERS.
set -euo pipefail

hour=3600000
day=$((24 * hour))

create() { # NAME PARTITIONS RETENTION_MS
    rpk topic create --if-not-exists -X brokers="$RPK_BROKERS" "$1" -p "$2" -r 1 \
        -c retention.ms="$3" -c cleanup.policy=delete
}

create "$REDPANDA_TICK_TOPIC" 8 $((7 * day))
create "$REDPANDA_BAR_TOPIC" 4 $((30 * day))
create "$REDPANDA_EVENT_TOPIC" 4 $((30 * day))
create "$REDPANDA_SIGNAL_TOPIC" 4 $((1 * day))
create "$REDPANDA_SIGNAL_TOPIC.dlq" 1 $((30 * day))
