"""What the tests share: clients that are told nothing but what the environment says, as applications are."""

import contextlib
import json
import os
import pathlib
import re
import signal
import subprocess
import time
import unittest
import uuid

import boto3
import botocore.config
import botocore.exceptions

# A test waits for a condition at most so long, in seconds.
LONG = 60
# What the daemon says when it has taken its configuration over.
READ_AGAIN = "SIGHUP: the configuration was read again"


def client(service="kms", **overrides):
    """A client that finds address, CA, region and keys where every AWS client looks for them, and repeats nothing."""
    looks = overrides.pop("looks_first", True)
    settings = botocore.config.Config(retries={"total_max_attempts": 1}, parameter_validation=looks)
    return boto3.client(service, config=settings, **overrides)


def until(condition, what):
    """Waits until a condition holds, and fails with what was seen last."""
    end, seen = time.monotonic() + LONG, None
    while time.monotonic() < end:
        seen = condition()
        if seen:
            return seen
        time.sleep(0.05)
    raise AssertionError(f"{what}: not within {LONG} s; seen last: {seen!r}")


class Case(unittest.TestCase):
    """One with a client and a key."""

    @classmethod
    def setUpClass(cls):
        cls.kms = client()
        cls.store = cls.kms.describe_custom_key_stores()["CustomKeyStores"][0]

    def new_key(self, **parameters):
        """A key in the only key store that there is."""
        asked = {"Origin": "AWS_CLOUDHSM", "CustomKeyStoreId": self.store["CustomKeyStoreId"], **parameters}
        return self.kms.create_key(**asked)["KeyMetadata"]

    def refused(self, name, call, *arguments, **parameters):
        """The message of a call that is refused under this name, with AWS's status."""
        with self.assertRaises(botocore.exceptions.ClientError) as raised:
            call(*arguments, **parameters)
        response = raised.exception.response
        self.assertEqual(response["Error"]["Code"], name, response)
        server = name in ("DependencyTimeoutException", "KMSInternalException", "KeyUnavailableException")
        self.assertEqual(response["ResponseMetadata"]["HTTPStatusCode"], 500 if server else 400, response)
        self.assertRegex(response["ResponseMetadata"]["RequestId"], r"^[0-9a-f-]{36}$")
        return response["Error"]["Message"]


def unique(name):
    """A name that no other test has."""
    return f"{name}-{uuid.uuid4().hex[:12]}"


def run(*command, given=None, **environment):
    """Runs another client's program; its standard output."""
    done = subprocess.run(
        [str(part) for part in command],
        input=given,
        capture_output=True,
        env={**os.environ, **environment},
        timeout=LONG,
        check=False,
    )
    if done.returncode != 0:
        raise AssertionError(f"{command} ended with {done.returncode}: {done.stderr.decode()} {done.stdout.decode()}")
    return done.stdout


def reconfigured(text):
    """Has the daemon take over another configuration."""
    log = pathlib.Path(os.environ["DAEMON_LOG"])
    read = lambda: log.read_text(errors="replace").count(READ_AGAIN)
    before = read()
    pathlib.Path(os.environ["DAEMON_CONFIG"]).write_text(text)
    os.kill(int(os.environ["KEYSTORED_PID"]), signal.SIGHUP)
    until(lambda: read() > before, "the configuration is read again")


@contextlib.contextmanager
def needing_approval(*operations):
    """While this lasts one other has to approve these operations."""
    before = pathlib.Path(os.environ["DAEMON_CONFIG"]).read_text()
    reconfigured(f"{before}\n[approvals]\noperations = {json.dumps(operations)}\nrequired = 1\n")
    try:
        yield
    finally:
        reconfigured(before)


def approved(approval):
    """Approves a call as the administrator, who is somebody else than the clients' principal; what it was shown as."""
    ctl = os.environ["KEYSTORECTL"]
    shown = json.loads(run(ctl, "approval", "show", approval, "--json"))
    run(ctl, "approval", "approve", approval, "--digest", shown["digest"], "--json")
    return shown


def workers(zone):
    """The worker processes of the HSM in a zone of the daemon under test."""
    daemon = int(os.environ["KEYSTORED_PID"])
    found = []
    for entry in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            with open(f"/proc/{entry}/stat", encoding="utf-8") as file:
                parent = int(re.sub(r"^.*\) ", "", file.read()).split()[1])
            with open(f"/proc/{entry}/cmdline", encoding="utf-8") as file:
                command = file.read().split("\0")
            if parent == daemon and f"hsm-{zone}" in command:
                found.append(int(entry))
    return found


@contextlib.contextmanager
def zone_stopped(zone):
    """While this lasts the HSM of a zone answers nothing."""
    stopped = workers(zone)
    assert stopped, f"zone {zone} has no workers"
    for process in stopped:
        os.kill(process, signal.SIGSTOP)
    try:
        yield
    finally:
        for process in stopped:
            # The daemon may have killed it meanwhile.
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGCONT)
