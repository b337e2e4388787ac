"""The figures the project promises, measured on real processes: `python -m benchmarks`."""
