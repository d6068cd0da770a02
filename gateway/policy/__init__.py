"""IAM's policy language as S3 uses it: pure, without I/O. See docs/adr/150-one-decision.md."""
