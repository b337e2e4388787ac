"""What the bridge measures: for Prometheus, and for people who have none."""

from fastapi import APIRouter, Request, Response

from mt5_bridge.gateway import exporter
from mt5_bridge.gateway.auth import Reader
from mt5_bridge.gateway.performance import Performance, performance
from mt5_bridge.gateway.state import Here

router = APIRouter(tags=["metrics"])


@router.get(
    "/metrics",
    summary="Prometheus metrics",
    response_class=Response,
    responses={
        200: {
            "description": "In the text format that Accept asks for; docs/observability.md has every metric.",
            "content": {
                "text/plain": {"schema": {"type": "string"}},
                "application/openmetrics-text": {"schema": {"type": "string"}},
            },
        }
    },
)
async def metrics(request: Request, gateway: Here, who: Reader) -> Response:
    """Everything that is measured, as Prometheus scrapes it."""
    page, content_type = await exporter.render(await gateway.figures(), request.headers.get("accept", ""))
    return Response(page, headers={"Content-Type": content_type})


@router.get("/performance/metrics", summary="How fast the bridge is")
async def performance_metrics(gateway: Here, who: Reader) -> Performance:
    """Latencies and counters since the start, without Prometheus."""
    return performance(await gateway.figures())
