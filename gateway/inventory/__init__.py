"""Lists of what a bucket holds, made on a schedule and stored in another bucket as CSV."""
