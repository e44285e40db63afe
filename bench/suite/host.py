# SPDX-License-Identifier: Apache-2.0
"""The machine and the processes on it: what /proc tells."""
import os
import pathlib
import platform
import signal
import socket
import statistics
import subprocess
import sys
import time

TICK = os.sysconf("SC_CLK_TCK")


class Trouble(Exception):
    """What a person can mend; shown without a trace."""


def say(text):
    print(text, file=sys.stderr, flush=True)


def stop_process(process, seconds=20):
    """Ends a process of ours, by its id; returns what it had left to say."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        out, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        out, _ = process.communicate()
    return out


def stat_fields(pid):
    """Fields of /proc/PID/stat from the state (field 3) on; None when gone."""
    try:
        text = pathlib.Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    return text.rpartition(")")[2].split()


def process_tree(root):
    parents = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit() and (fields := stat_fields(entry)):
            parents[int(entry)] = int(fields[1])
    tree, added = {root}, True
    while added:
        more = {p for p, parent in parents.items() if parent in tree} - tree
        tree, added = tree | more, bool(more)
    return tree


def cpu_seconds(root):
    """User and system time of a process, its living descendants, and those
    that ended and were waited for."""
    ticks = 0
    for pid in process_tree(root):
        if fields := stat_fields(pid):
            ticks += sum(int(f) for f in fields[11:15])
    return ticks / TICK


def status_kib(pid, field):
    """A field of /proc/PID/status that is given in kB: VmRSS, VmHWM."""
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == field:
            return int(value.split()[0])
    raise Trouble(f"/proc/{pid}/status has no {field}")


def forget_peak(pid):
    """From here on VmHWM counts anew."""
    pathlib.Path(f"/proc/{pid}/clear_refs").write_text("5")


def bytes_written(pid):
    """What a process had the kernel write to disks, of all files."""
    for line in pathlib.Path(f"/proc/{pid}/io").read_text().splitlines():
        if line.startswith("write_bytes:"):
            return int(line.split()[1])
    raise Trouble(f"/proc/{pid}/io has no write_bytes")


def wait_for_banner(port, process, log, seconds=20):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if process.poll() is not None:
            break
        try:
            with socket.create_connection(("127.0.0.1", port), 2) as s:
                if s.recv(512).startswith(b"220"):
                    s.sendall(b"QUIT\r\n")
                    s.recv(512)
                    return
        except OSError:
            pass
        time.sleep(0.05)
    text = log.read_text(errors="replace")[-2000:] if log.exists() else ""
    raise Trouble(f"the relay on port {port} does not answer\n{text}")


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def end_strays(pids, session, seconds=5):
    """Services that outlive their master; its session tells them from
    processes that got their number since."""
    end = time.monotonic() + seconds
    while True:
        left = [p for p in pids
                if (f := stat_fields(p)) and int(f[3]) == session and f[0] != "Z"]
        if not left:
            return
        if time.monotonic() > end:
            for pid in left:
                os.kill(pid, signal.SIGKILL)
            return
        time.sleep(0.02)


def command(*words):
    """Runs a command of the build; returns what it says."""
    done = subprocess.run(words, text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT)
    if done.returncode != 0:
        raise Trouble(f"{' '.join(map(str, words))}:\n{done.stdout[-4000:]}")
    return done.stdout


def sync_us(directory, count=50):
    """Median time to append 4 KB and sync it: what the disk promises."""
    path, times = directory / "sync", []
    fd = os.open(path, os.O_CREAT | os.O_WRONLY, 0o600)
    try:
        for _ in range(count):
            os.write(fd, b"x" * 4096)
            start = time.monotonic()
            os.fdatasync(fd)
            times.append(time.monotonic() - start)
    finally:
        os.close(fd)
        path.unlink()
    return round(statistics.median(times) * 1e6)


def file_system(directory):
    """Type and device of the mount that holds a directory."""
    best = ("", "unknown", "unknown")
    for line in pathlib.Path("/proc/mounts").read_text().splitlines():
        device, mount, kind = line.split()[:3]
        inside = str(directory).startswith(mount.rstrip("/") + "/")
        if inside and len(mount) >= len(best[0]):
            best = (mount, kind, device)
    return best[1], best[2]


def cpu_model():
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def memory_bytes():
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def machine(directory):
    kind, device = file_system(directory)
    return {"cpus": os.cpu_count(), "cpu": cpu_model(),
            "memory_bytes": memory_bytes(),
            "kernel": platform.release().partition("-")[0],
            "file_system": kind, "device": device,
            "load_before": os.getloadavg()[0]}


def durability_text(m):
    note = (f"Durability: a 250 from either relay means synced to disk. posthouse"
            f" syncs its log once\nper batch of messages; Postfix syncs each queue"
            f" file, its default. Here: {m['file_system']} on\n{m['device']}, where"
            f" 4 KB appended and synced took {m['fdatasync_before_us']} us before the"
            f" rounds and\n{m['fdatasync_after_us']} us after them (medians).")
    if m["file_system"] in ("tmpfs", "ramfs", "overlay"):
        note += (f"\nAttention: {m['file_system']} may keep nothing; give --dir on a"
                 " real disk.")
    return note
