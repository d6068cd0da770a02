"""Websites on hosts of their own: subdomains, DNSLink names and `_redirects`."""
