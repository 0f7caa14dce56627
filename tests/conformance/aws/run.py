#!/usr/bin/env python3
"""Runs AWS's clients against a development daemon of its own: `make conformance`.

run.py KEYSTORED DIRECTORY [TEST...]

The daemon's files lie in DIRECTORY, which must be empty or not there. What the clients are told is what its `dev.env` says.
"""

import os
import pathlib
import signal
import subprocess
import sys
import time
import unittest

# A daemon makes two tokens and a key store before it says that it serves.
STARTS_WITHIN = 120


def environment(file):
    """The assignments in a file for shells."""
    pairs = (line.removeprefix("export ").split("=", 1) for line in file.read_text().splitlines() if "=" in line and not line.startswith("#"))
    return {name: value.strip("'\"") for name, value in pairs}


def started(daemon, file, log):
    """What the daemon tells its clients, once it does."""
    end = time.monotonic() + STARTS_WITHIN
    while time.monotonic() < end:
        if daemon.poll() is not None:
            break
        if file.exists() and "AWS_SECRET_ACCESS_KEY" in file.read_text():
            return environment(file)
        time.sleep(0.1)
    sys.exit(f"conformance: the daemon did not start; its log:\n{log.read_text()}")


def main():
    program, directory, *tests = sys.argv[1:]
    directory = pathlib.Path(directory)
    directory.mkdir(mode=0o700, parents=True)
    log = directory / "daemon.log"
    with log.open("wb") as output:
        # Its own ports: nobody else's daemon is in the way.
        command = [program, "dev", "--dir", directory / "dev", "--listen", "127.0.0.1:0", "--ops", "127.0.0.1:0", "--aws", "127.0.0.1:0"]
        daemon = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
    try:
        told = started(daemon, directory / "dev" / "dev.env", log)
        # Nothing of whoever runs this: no profile, no other keys.
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            del os.environ[name]
        # The second client, who may use keys and nothing else.
        app = environment(directory / "dev" / "app.env")
        os.environ.update(APP_KEY_ID=app["AWS_ACCESS_KEY_ID"], APP_SECRET=app["AWS_SECRET_ACCESS_KEY"])
        # What an operator has beside them: the configuration, the log, and keystorectl with the administrator's certificate.
        os.environ.update(KEYSTORECTL=str(pathlib.Path(program).parent / "keystorectl"))
        os.environ.update(DAEMON_CONFIG=str(directory / "dev" / "keystored.toml"), DAEMON_LOG=str(log))
        os.environ.update(told, KEYSTORED_PID=str(daemon.pid), HOME=str(directory), AWS_EC2_METADATA_DISABLED="true")
        # The Go program and curl take proxies from these.
        for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
            os.environ.pop(name, None)
        here = pathlib.Path(__file__).parent
        sys.path.insert(0, str(here))
        sys.dont_write_bytecode = True
        loader = unittest.defaultTestLoader
        suite = loader.loadTestsFromNames(tests) if tests else loader.discover(str(here))
        result = unittest.TextTestRunner(verbosity=2).run(suite)
        passed = result.wasSuccessful() and result.testsRun > 0
    finally:
        if daemon.poll() is None:
            daemon.send_signal(signal.SIGTERM)
        daemon.wait(60)
    if told["AWS_SECRET_ACCESS_KEY"] in log.read_text(errors="replace"):
        print("conformance: the secret access key is in the daemon's log", file=sys.stderr)
        passed = False
    if not passed:
        print(f"conformance: the end of the daemon's log ({log}):\n{log.read_text(errors='replace')[-4000:]}", file=sys.stderr)
    sys.exit(0 if passed else 1)


if __name__ == "__main__":
    main()
