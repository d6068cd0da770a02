"""What hostile requests are made of: odd values, and the names that S3 reads."""

CID = "bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e"
# What may stand in any place where text is expected.
TEXTS = [
    "", " ", "0", "-1", "1", "+1", "1e3", "0x10", "00000000000000000001", "9" * 30, "0" * 5000,
    "9" * 5000, "NaN", "true", "null", "None", "*", '"', "'", "\\", "/", "//", "..", "../..", ".",
    "%", "%%", "%0", "%zz", "%00", "%0d%0aX-A: b", "%ff", "%c0%af", "%ed%a0%80", "%f4%90%80%80",
    "a" * 300, "a" * 1024, "a" * 1025, "a" * 3000, "\u00e4" * 600, "\U0001f600" * 300, "\u0000",
    "\ufffe", "\x7f", "<a>", "&amp;", "]]>", "${jndi:ldap://x}", "{{7*7}}", "'; DROP TABLE x;--",
    "xn--a", "ipfs", "UPPER", "a..b", "192.168.0.1", "=?utf-8?b?/w==?=", "=?utf-8?q?=0d=0ax?=",
]  # fmt: skip
PARAMETERS = """
    list-type max-keys prefix delimiter marker start-after continuation-token encoding-type
    fetch-owner key-marker version-id-marker max-uploads upload-id-marker uploads versions
    partNumber uploadId part-number-marker max-parts versionId response-content-type
    response-content-disposition response-expires response-cache-control acl policy policyStatus
    tagging attributes delete location lifecycle website cors torrent select select-type restore
    legal-hold retention object-lock versioning logging notification replication encryption
    requestPayment accelerate inventory analytics metrics id ownershipControls publicAccessBlock
    append position renameObject session max-buckets x-id Action Version
""".split()  # noqa: SIM905 - one word list reads better
HEADERS = """
    range if-match if-none-match if-modified-since if-unmodified-since if-range content-md5
    content-type content-encoding cache-control expires content-disposition x-amz-meta-a
    x-amz-meta-cid x-amz-acl x-amz-copy-source x-amz-copy-source-range x-amz-metadata-directive
    x-amz-copy-source-if-match x-amz-copy-source-if-modified-since x-amz-storage-class
    x-amz-tagging x-amz-checksum-crc32 x-amz-checksum-sha256 x-amz-checksum-crc64nvme
    x-amz-checksum-md5 x-amz-checksum-algorithm x-amz-checksum-type x-amz-checksum-mode
    x-amz-sdk-checksum-algorithm x-amz-trailer x-amz-decoded-content-length
    x-amz-server-side-encryption x-amz-server-side-encryption-customer-algorithm
    x-amz-object-lock-mode x-amz-expected-bucket-owner x-amz-mp-object-size
    x-amz-object-attributes x-amz-security-token x-amz-website-redirect-location
    x-amz-bucket-region x-amz-grant-read x-amz-grant-write-acp x-amz-object-ownership
    x-amz-request-payer x-amz-write-offset-bytes expect origin cookie te
    accept accept-encoding via upgrade connection x-forwarded-for
""".split()  # noqa: SIM905 - one word list reads better
IAM_ACTIONS = """
    GetUser ListUsers DeleteUser UpdateUser ListAccessKeys UpdateAccessKey DeleteAccessKey
    GetAccessKeyLastUsed PutUserPolicy AttachRolePolicy ListAttachedGroupPolicies GetPolicy
    GetPolicyVersion ListPolicies DeletePolicyVersion UpdateAssumeRolePolicy TagRole ListRoleTags
    GetOpenIDConnectProvider AddUserToGroup GetAccountSummary Nothing
""".split()  # noqa: SIM905 - one word list reads better
STS_ACTIONS = [
    "AssumeRole",
    "AssumeRoleWithWebIdentity",
    "GetSessionToken",
    "GetCallerIdentity",
    "",
]
IAM_FIELDS = """
    UserName GroupName RoleName PolicyName PolicyArn PolicyDocument AccessKeyId Status Path
    PathPrefix Marker MaxItems VersionId NewUserName NewPath Tags.member.1.Key Tags.member.1.Value
    TagKeys.member.1 RoleArn RoleSessionName WebIdentityToken DurationSeconds Policy
    PolicyArns.member.1.arn ExternalId OpenIDConnectProviderArn Scope X-Amz-Signature
""".split()  # noqa: SIM905 - one word list reads better
METHODS = ["GET", "HEAD", "PUT", "POST", "DELETE", "OPTIONS", "PATCH"]
BOMB = (
    b'<?xml version="1.0"?><!DOCTYPE l [<!ENTITY a "aaaaaaaaaa">'
    + b"".join(
        b'<!ENTITY %c "%s">' % (98 + i, b"&%c;" % (97 + i) * 10) for i in range(9)
    )
    + b"]><Delete><Object><Key>&j;</Key></Object></Delete>"
)  # fmt: skip

API_COMMANDS = [
    "add", "cat", "get", "ls", "refs", "resolve", "version", "id", "block/put", "block/get",
    "block/rm", "dag/put", "dag/get", "dag/import", "dag/export", "dag/stat", "pin/add", "pin/rm",
    "pin/ls", "pin/verify", "files/write", "files/read", "files/ls", "files/mkdir", "files/cp",
    "files/mv", "files/rm", "files/stat", "files/chmod", "files/touch", "repo/gc", "repo/stat",
    "key/gen", "key/list", "key/import", "name/publish", "name/resolve", "cid/format", "nothing",
]  # fmt: skip
