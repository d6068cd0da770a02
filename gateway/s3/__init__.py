"""The S3 front end."""
