"""Whether answers are recorded as soon while a thousand batches are scored: `python -m bench.scoring`."""
