"""How fast comparisons are claimed, sent and recorded, beside the bare cost of the same requests."""
