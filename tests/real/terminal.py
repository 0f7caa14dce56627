"""Runs a program on a terminal of its own: waits for a text on it, types keys, and tells what is left behind.

usage: terminal.py TEXT KEYS PROGRAM ARGUMENT...

With the variable SEEN, all that was on the terminal is written to the file of that name.
"""

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time

text, keys, program = sys.argv[1].encode(), sys.argv[2].encode(), sys.argv[3:]
# The terminal's session is this process's own, so that it is the program's /dev/tty and stays when the program ends. Ctrl-C
# is for the program, which does not inherit a handler.
os.setsid()
signal.signal(signal.SIGINT, lambda *_: None)
here, there = pty.openpty()
fcntl.ioctl(there, termios.TIOCSCTTY, 0)
fcntl.ioctl(there, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 120, 0, 0))
before = termios.tcgetattr(there)
process = subprocess.Popen(program, stdin=there, stdout=there, stderr=there)
seen, typed, deadline = b"", False, time.monotonic() + 120
while process.poll() is None and time.monotonic() < deadline:
    if select.select([here], [], [], 0.05)[0]:
        seen += os.read(here, 1 << 16)
    if not typed and text in seen:
        os.write(here, keys)
        typed = True
while select.select([here], [], [], 0.05)[0]:
    seen += os.read(here, 1 << 16)
if process.poll() is None:
    process.terminate()
print("exit code", process.wait())
print("text was seen:", typed)
print("settings are as before:", termios.tcgetattr(there) == before)
print("first screen is back:", seen.rfind(b"\x1b[?1049l") > seen.rfind(b"\x1b[?1049h") >= 0)
print("cursor is shown:", seen.rfind(b"\x1b[?25h") > seen.rfind(b"\x1b[?25l"))
if "SEEN" in os.environ:
    with open(os.environ["SEEN"], "wb") as file:
        file.write(seen)
