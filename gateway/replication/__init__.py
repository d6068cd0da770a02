"""Objects of a bucket kept a second time, at another S3 endpoint.

The commit that makes a version appends what there is to do to a queue of each endpoint
(gateway/events/noting.py); the background process works it off: docs/specs/events.md.
"""
