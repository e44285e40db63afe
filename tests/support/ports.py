# SPDX-License-Identifier: Apache-2.0
"""Free ports on loopback addresses."""
import socket


def free_port(host="127.0.0.1"):
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        s.bind((host, 0))
        return s.getsockname()[1]
