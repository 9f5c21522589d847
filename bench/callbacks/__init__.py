"""How fast answers come from Kafka into committed rows: `python -m bench.callbacks`."""
