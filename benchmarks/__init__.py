"""What a session costs, beside the peers: ``python -m benchmarks``."""
