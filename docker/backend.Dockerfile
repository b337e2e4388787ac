# The reference backend: `mt5-bridge backend` in a container, beside Redpanda.
FROM python:3.12-slim

WORKDIR /app
COPY pyproject.toml README.md LICENSE ./
COPY requirements ./requirements
COPY mt5_bridge ./mt5_bridge
RUN pip install --no-cache-dir --require-hashes -r requirements/bridge.txt \
    && pip install --no-cache-dir --no-deps . \
    && useradd --create-home bridge
USER bridge

EXPOSE 8000
CMD ["mt5-bridge", "backend", "--listen", "0.0.0.0:8000"]
