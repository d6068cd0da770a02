"""Health and metrics of a running gateway."""
