# SPDX-License-Identifier: Apache-2.0
"""All rows, in the order of the report."""
import dataclasses
import typing

from . import rows_alone, rows_backlog, rows_crowd, rows_fair, rows_rates


@dataclasses.dataclass
class Row:
    name: str
    title: str
    run: typing.Callable


ROWS = [
    Row("main", "4 KB messages, 1 recipient, 32 connections, pipelined",
        rows_rates.row_main),
    Row("lone", "4 KB messages, one lone connection, not pipelined",
        rows_rates.row_lone),
    Row("large", "100 KB messages, 32 connections, pipelined",
        rows_rates.row_large),
    Row("tls", "STARTTLS from the generator to the relay and on to the sink",
        rows_rates.row_tls),
    Row("syncs", "64 submitters of 4 KB messages", rows_rates.row_syncs),
    Row("recipients", "1 message to 1,000 recipients at 50 domains",
        rows_alone.row_recipients),
    Row("memory", "a message of 50 MB", rows_alone.row_memory),
    Row("crowd", "idle and dribbling clients", rows_crowd.row_crowd),
    Row("transactional", "transactional mail while bulk flows",
        rows_fair.row_transactional),
    Row("tenants", "a small tenant beside a large one", rows_fair.row_tenants),
    Row("backlog", "a long queue: memory, rate, parked, restart",
        rows_backlog.row_backlog),
]
