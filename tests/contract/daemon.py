"""Programs with a daemon, as text for `python -c`: what they leave behind has to end with the bed that they ran in."""

from __future__ import annotations

LEAVES_A_DAEMON = """
import os, time
hear, say = os.pipe()
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.write(say, b"ready")
        time.sleep(600)
    os._exit(0)
os.wait()
print(os.read(hear, 5).decode(), flush=True)
"""
"""Says `ready` when its daemon is up, and ends."""

HAS_A_DAEMON = LEAVES_A_DAEMON + "time.sleep(600)\n"
"""The same, and stays."""
