"""Many batches at once through the whole product, from Kafka to Kafka: `python -m bench.journey`."""
