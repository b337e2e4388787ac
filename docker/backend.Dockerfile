# The reference backend: `mt5-bridge backend` in a container, beside Redpanda.
FROM python:3.12-slim

WORKDIR /app
COPY requirements/bridge.txt ./requirements/bridge.txt
RUN pip install --no-cache-dir --require-hashes -r requirements/bridge.txt && useradd --create-home bridge
COPY mt5_bridge ./mt5_bridge
ENV PYTHONPATH=/app PYTHONUNBUFFERED=1
USER bridge

EXPOSE 8765
CMD ["python", "-m", "mt5_bridge", "backend", "--listen", "0.0.0.0:8765"]
