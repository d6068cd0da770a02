"""The delivery layer: caches of sealed segments between miners and gateways."""
