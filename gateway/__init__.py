"""The application layer: sealing, the catalog, and the S3 and IPFS front ends."""
