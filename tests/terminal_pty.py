"""A pseudo-terminal of a known size for a command, and what stands on its screen afterwards."""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
import unicodedata

ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
COLOUR = re.compile(r"\x1b\[[0-9;]*m")
PATIENCE_SECONDS = 120


class Ended:
    """What a command left behind: its exit code, everything that went to the terminal, and what went to a pipe."""

    def __init__(self, code, terminal, stdout, stderr):
        self.code, self.terminal, self.stdout, self.stderr = code, terminal, stdout, stderr

    @property
    def screen(self):
        return screen(self.terminal)


def run(command, columns=80, piped=(), env=None, until=None, signal_then=signal.SIGINT, cwd=None):
    """Runs `command` with standard output and error on a terminal, but for those that are `piped`. With `until`, ends it by
    a signal once that answers true for what has been written."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    streams = {name: subprocess.PIPE if name in piped else slave for name in ("stdout", "stderr")}
    process = subprocess.Popen(
        command, stdin=slave, cwd=cwd, env=environment(env), start_new_session=True, **streams
    )
    os.close(slave)
    pipes = {name: getattr(process, name) for name in piped}
    taken = {master: b"", **{pipe.fileno(): b"" for pipe in pipes.values()}}
    open_ends, asked, give_up_at = set(taken), False, time.monotonic() + PATIENCE_SECONDS
    while open_ends:
        if time.monotonic() > give_up_at:
            process.kill()
            raise AssertionError(f"{command} does not end; so far:\n{taken}")
        for end in select.select(list(open_ends), [], [], 0.05)[0]:
            try:
                data = os.read(end, 65536)
            except OSError:  # the other side of a terminal is closed
                data = b""
            taken[end] += data
            if not data:
                open_ends.discard(end)
        if until and not asked and until({end: data.decode(errors="replace") for end, data in taken.items()}[master]):
            asked = True
            process.send_signal(signal_then)
        if process.poll() is not None and not select.select(list(open_ends), [], [], 0.2)[0]:
            break
    code = process.wait(timeout=PATIENCE_SECONDS)
    os.close(master)
    told = {name: taken[pipe.fileno()].decode() for name, pipe in pipes.items()}
    for pipe in pipes.values():
        pipe.close()
    terminal = taken[master].decode(errors="replace").replace("\r\n", "\n")
    return Ended(code, terminal, told.get("stdout"), told.get("stderr"))


def environment(changes):
    """Ours without what asks for colours or tells where a log goes."""
    told = ("NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "JOURNAL_STREAM", "COLUMNS")
    env = {name: value for name, value in os.environ.items() if name not in told}
    return {**env, "TERM": "xterm-256color", "LC_ALL": "C.UTF-8", **(changes or {})}


def width(text):
    """The columns that `text` takes, without its colours."""
    columns = 0
    for letter in ESCAPE.sub("", text):
        if unicodedata.combining(letter) or letter in "\u200d\ufe0f":
            continue
        columns += 2 if unicodedata.east_asian_width(letter) in "WF" else 1
    return columns


def screen(raw):
    """The lines that are left when carriage returns and erasures have been obeyed; without colours."""
    lines = []
    for line in COLOUR.sub("", raw).split("\n"):
        shown = ""
        for piece in re.split(r"(\r|\x1b\[K)", line):
            if piece == "\r":
                at = 0
                shown, rest = "", shown
                continue
            if piece == "\x1b[K":
                continue
            shown += piece
        lines.append(shown)
    return "\n".join(lines)
