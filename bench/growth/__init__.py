"""Whether a callback and a batch cost the same however much is stored already: `python -m bench.growth`."""
