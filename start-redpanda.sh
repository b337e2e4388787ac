#!/usr/bin/env bash
# Redpanda in Docker for the bridge, with its topics and Redpanda Console.
#
#   ./start-redpanda.sh [up] [--backend]   start, wait until healthy, print the addresses; --backend: the reference
#                                          backend as well
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
    sed -n '2,9s/^# \{0,1\}//p' "$0"
}

compose() {
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
    if [[ "${1:-}" == --backend ]]; then
        export COMPOSE_PROFILES=backend
    elif [[ $# -gt 0 ]]; then
        usage >&2
        exit 2
    fi
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
    if [[ -n "${COMPOSE_PROFILES:-}" ]]; then
        printf '  reference backend   BACKEND_WS_URL=ws://127.0.0.1:8765 (token: BACKEND_AUTH_TOKEN, else see its log)\n'
    fi
}

main() {
    case "${1:-up}" in
        up | --backend)
            [[ "${1:-}" == up ]] && shift
            need_docker
            up "$@"
            ;;
        status)
            need_docker
            compose --profile backend ps
            ;;
        logs)
            need_docker
            compose logs --tail 200 redpanda topics
            ;;
        down)
            need_docker
            compose --profile backend down
            ;;
        wipe)
            need_docker
            compose --profile backend down --volumes
            ;;
        -h | --help | help) usage ;;
        *)
            usage >&2
            exit 2
            ;;
    esac
}

main "$@"
