"""The gateway's kinds of process, put together from their parts: one file each.

catalog: the one writer, the storage pool's records, administration, the ledger outbox, jobs.
worker: the S3, IPFS and console ports over the catalog's mmap, an edge cache and the pool.
jobs: what buckets are configured to have done in the background.
repair: the pool's repair queue, its survey and its deletions, over the catalog's mmap.
"""
