"""The storage layer: erasure code, fragments, and where they lie."""
