#!/usr/bin/env bash
# Redpanda in Docker for the bridge, with its topics and Redpanda Console.
#
#   ./start-redpanda.sh [up] [--backend] [--monitoring]
#                                          start, wait until healthy, print the addresses; --backend: the reference
#                                          backend as well; --monitoring: Prometheus and Grafana as well, for which
#                                          METRICS_TOKEN holds a token of the bridge's gateway
#   ./start-redpanda.sh status             what runs
#   ./start-redpanda.sh logs               what Redpanda says
#   ./start-redpanda.sh down               stop; ticks, events and signals are kept
#   ./start-redpanda.sh wipe               stop and delete all that was kept
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

fail() {
    printf 'start-redpanda.sh: %s\n' "$1" >&2
    exit "${2:-1}"
}

usage() {
    sed -n '2,11s/^# \{0,1\}//p' "$0"
}

compose() {
    # Compose wants to know every secret, also of what it does not start.
    export METRICS_TOKEN="${METRICS_TOKEN:-}"
    docker compose --file docker/docker-compose.yml "$@"
}

need_docker() {
    command -v docker >/dev/null 2>&1 ||
        fail "docker is not installed: install Docker Desktop (Windows, macOS) or Docker Engine (Linux), then try again" 3
    docker compose version >/dev/null 2>&1 ||
        fail "this docker has no 'compose' command: install the Docker Compose plugin, version 2 or newer" 3
    docker info >/dev/null 2>&1 ||
        fail "docker is installed but its engine does not answer: start Docker Desktop (or: sudo systemctl start docker), then try again" 3
}

up() {
    local profiles=()
    while [[ $# -gt 0 ]]; do
        case "$1" in
            --backend | --monitoring) profiles+=("${1#--}") ;;
            *)
                usage >&2
                exit 2
                ;;
        esac
        shift
    done
    if [[ " ${profiles[*]-} " == *" monitoring "* && -z "${METRICS_TOKEN:-}" ]]; then
        fail "METRICS_TOKEN is not set: export a token that the bridge's gateway knows, then try again" 2
    fi
    local IFS=,
    export COMPOSE_PROFILES="${profiles[*]-}"
    # --wait would take the finished topics container for a failure, so it is run to its end first.
    compose up --detach --wait --wait-timeout 180 redpanda ||
        fail "Redpanda did not become healthy within 180 s: see ./start-redpanda.sh logs"
    compose run --rm --no-deps topics || fail "the topics could not be created: see ./start-redpanda.sh logs"
    compose up --detach --remove-orphans
    cat <<'TEXT'

Redpanda is up:
  for the bridge   REDPANDA_BOOTSTRAP_SERVERS=127.0.0.1:19092   (the default)
  in containers    redpanda:9092
  Console          http://127.0.0.1:8080
TEXT
    if [[ "$COMPOSE_PROFILES" == *backend* ]]; then
        printf '  reference backend   BACKEND_WS_URL=ws://127.0.0.1:8765 (token: BACKEND_AUTH_TOKEN, else see its log)\n'
    fi
    if [[ "$COMPOSE_PROFILES" == *monitoring* ]]; then
        printf '  Grafana          http://127.0.0.1:3000   (Prometheus: http://127.0.0.1:9090)\n'
    fi
}

main() {
    case "${1:-up}" in
        up | --backend | --monitoring)
            [[ "${1:-}" == up ]] && shift
            need_docker
            up "$@"
            ;;
        status)
            need_docker
            compose --profile backend --profile monitoring ps
            ;;
        logs)
            need_docker
            compose logs --tail 200 redpanda topics
            ;;
        down)
            need_docker
            compose --profile backend --profile monitoring down
            ;;
        wipe)
            need_docker
            compose --profile backend --profile monitoring down --volumes
            ;;
        -h | --help | help) usage ;;
        *)
            usage >&2
            exit 2
            ;;
    esac
}

main "$@"
