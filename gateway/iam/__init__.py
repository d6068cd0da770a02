"""IAM and STS: users, groups, roles and sessions of an account. See docs/specs/iam.md."""
