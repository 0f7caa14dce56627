#!/usr/bin/env python3
"""Makes sigv4-aws.json: AWS's own test suite of Signature Version 4, as one file.

The suite is part of the source of the crate aws-sigv4 (https://github.com/smithy-lang/smithy-rs), Copyright
Amazon.com, Inc. or its affiliates, Apache-2.0. Here are, of each case, the signed request as it is, whether the path is
normalized (S3 does without), and the signature.

Usage: make-sigv4-aws.py ~/.cargo/registry/src/*/aws-sigv4-1.6.4/aws-signing-test-suite/v4 > sigv4-aws.json
"""

import json
import pathlib
import sys

cases = []
for case in sorted(path for path in pathlib.Path(sys.argv[1]).iterdir() if (path / "context.json").exists()):
    context = json.loads((case / "context.json").read_text())
    assert context["timestamp"] == "2015-08-30T12:36:00Z", case
    assert (context["region"], context["service"]) == ("us-east-1", "service"), case
    cases.append({
        "name": case.name,
        "normalize": context["normalize"],
        "secret": context["credentials"]["secret_access_key"],
        "request": (case / "header-signed-request.txt").read_text(),
        "signature": (case / "header-signature.txt").read_text().strip(),
    })

print(json.dumps({
    "source": "aws-sigv4 1.6.4, aws-signing-test-suite/v4; Copyright Amazon.com, Inc. or its affiliates; Apache-2.0",
    "cases": cases,
}, indent=1, ensure_ascii=False))
