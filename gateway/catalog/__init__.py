"""The catalog: what objects exist, as an ordered store of conditional batches."""
