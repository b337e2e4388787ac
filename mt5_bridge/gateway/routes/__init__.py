"""The endpoints, by what they are about. Each module has a `router`; `gateway/app.py` gathers them."""
