#!/usr/bin/env python3
"""Prints a port of 127.0.0.1 that nobody uses. It lies below those that the kernel hands out, so that a server which is
started again finds it free still."""

import random
import socket

while True:
    port = random.randrange(20000, 32000)
    with socket.socket() as listener:
        try:
            listener.bind(("127.0.0.1", port))
        except OSError:
            continue
    print(port)
    break
