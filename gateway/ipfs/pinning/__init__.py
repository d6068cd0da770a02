"""The pinning service: https://ipfs.github.io/pinning-services-api-spec/ (1.0.0)."""
