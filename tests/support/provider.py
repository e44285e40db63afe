# SPDX-License-Identifier: Apache-2.0
"""A provider that takes so many messages a second and answers 421 to the rest."""
import threading
import time


class Provider:
    """For a receiver's script: {"MAIL": Provider(50)}."""

    def __init__(self, rate):
        self.lock = threading.Lock()
        self.taken, self.refused = [], []  # times
        self.set_rate(rate)

    def set_rate(self, rate):
        with self.lock:
            self.rate, self.tokens, self.at = rate, 1.0, time.monotonic()

    def __call__(self, receiver, session, argument):
        with self.lock:
            now = time.monotonic()
            self.tokens = min(max(1.0, self.rate / 4),
                              self.tokens + (now - self.at) * self.rate)
            self.at = now
            if self.tokens >= 1:
                self.tokens -= 1
                self.taken.append(now)
                return "250 2.1.0 ok"
            self.refused.append(now)
            return "421 4.7.28 rate limit exceeded, slow down"

    def achieved(self, since, until):
        with self.lock:
            return sum(since <= t < until for t in self.taken) / (until - since)
