# SPDX-License-Identifier: Apache-2.0
"""Free ports on loopback addresses: below those the kernel gives to clients, so
that no connection takes one meanwhile, and none is given out twice."""
import random
import socket

FIRST, LAST = 10240, 32000
_next = random.randrange(FIRST, LAST)


def free_port(host="127.0.0.1"):
    global _next
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for _ in range(LAST - FIRST):
        _next = _next + 1 if _next < LAST else FIRST
        with socket.socket(family) as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                s.bind((host, _next))
                return _next
            except OSError:
                continue
    raise RuntimeError(f"no free port on {host}")
