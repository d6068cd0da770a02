"""Settings of the S3 front end."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class S3Config:
    """Everything `[s3]` in cumulus.toml may say that this front end reads.

    Raises ValueError for a domain that is none.
    """

    domains: tuple[str, ...] = ("localhost",)  # virtual-hosted style: BUCKET.DOMAIN
    region: str = ""  # "": any signing region is accepted
    sigv2: bool = True
    sse_requires_tls: bool = False  # refuse SSE-C and SSE-KMS over plain HTTP, as AWS does
    workers: int = 1  # that share what buckets and accounts may be asked
    server_headers: bool = True  # send Date and Server; False where the HTTP server does
    targets: frozenset[str] = frozenset()  # names of those that notifications may go to
    endpoints: frozenset[str] = frozenset()  # names of those that objects may be replicated to

    def __post_init__(self) -> None:
        for domain in self.domains:
            if not domain or domain != domain.lower() or domain.startswith(".") or ":" in domain:
                raise ValueError(f"not a lower-case domain name: {domain!r}")
