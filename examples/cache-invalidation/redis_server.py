"""A Redis for the example, in memory: redis_server.py PORT."""

import os
import shutil
import sys

program = shutil.which("redis-server") or shutil.which("valkey-server")
if program is None:
    sys.exit("redis-server was not found; on Debian: apt-get install redis-server")
options = ("--port", sys.argv[1], "--bind", "127.0.0.1", "--save", "", "--appendonly", "no")
os.execv(program, (program, *options))
