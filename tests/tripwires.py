"""Tripwires around a call: they note what happened, and stop a call that takes too much."""

import resource
import shutil
import signal
import sys
from contextlib import contextmanager
from pathlib import Path

SECONDS, BYTES = 20, 2 << 30  # of the processor: other processes may be busy
DANGEROUS = (
    *("posix", "os", "subprocess", "builtins", "__builtin__", "shutil", "webbrowser"),
    "payload_mod",
)
CANARIES = ("payload_mod", "é_payload", "payload_pkg", "antigravity", "this", "turtledemo")
VICTIMS = ("victim.txt", "victim.ckpt", "victims/inner.ckpt")
EVENTS = (
    *("os.system", "os.exec", "os.posix_spawn", "subprocess.Popen", "shutil.rmtree"),
    *(
        "socket.connect",
        "socket.getaddrinfo",
        "urllib.Request",
        "webbrowser.open",
        "ftplib.connect",
    ),
)


class Hang(BaseException):
    """A call took too long."""


class Tripwires:
    """Everything that a payload might do, noted: files made or lost, imports, calls of the system.

    Args:
        folder: Scratch folder; the marker files of the payloads lie in it.
    """

    _current = None  # an audit hook stays for ever, so there is only one

    def __init__(self, folder):
        self.folder, self.events, self.armed = folder, [], False
        self.markers = folder / "markers"
        self.markers.mkdir(parents=True, exist_ok=True)
        self.sprung()

    def use(self):
        """Makes these the tripwires that hear what the interpreter does."""
        if Tripwires._current is None:
            sys.addaudithook(lambda event, args: Tripwires._current._hear(event, args))
        Tripwires._current = self

    def payload(self, *_, **__):
        """Function `__main__.Payload`, which no checkpoint may call."""
        (self.markers / "main").touch()

    def sprung(self):
        """What happened since the last call, in words; sets everything up again."""
        found = [*self.events, *(f"made {path.name}" for path in self.markers.iterdir())]
        found += [f"imported {name}" for name in CANARIES if name in sys.modules]
        for name in VICTIMS:
            path = self.folder / name
            if not path.is_file() or path.read_text() != "alive":
                found.append(f"harmed {name}")
            path.parent.mkdir(exist_ok=True)
            path.write_text("alive")
        self.events = []
        shutil.rmtree(self.markers)
        self.markers.mkdir()
        for name in [m for m in sys.modules if m.split(".")[0] in CANARIES]:
            del sys.modules[name]
        return found

    def _hear(self, event, args):
        if not self.armed:
            return
        # Folders elsewhere are temporary ones, of torch itself.
        if event in EVENTS and (event != "shutil.rmtree" or f"{self.folder}/vic" in str(args[0])):
            self.events.append(f"{event}{str(args)[:80]}")
        elif event == "import" and str(args[0]).split(".")[0] in CANARIES:
            self.events.append(f"import {args[0]}")
        elif event == "pickle.find_class" and str(args[0]).split(".")[0] in DANGEROUS:
            self.events.append(f"unpickled {args[0]}.{args[1]}")

    @contextmanager
    def around(self):
        """Context of one call: tripwires on, little time and little memory."""

        def stop(*_):
            raise Hang

        # A module named __main__ is imported already; a name of it may be called all the same.
        sys.modules["__main__"].Payload = self.payload
        alarms = (signal.SIGPROF, signal.ITIMER_PROF, 1), (signal.SIGALRM, signal.ITIMER_REAL, 9)
        old = [signal.signal(number, stop) for number, _, _ in alarms]
        limits = resource.getrlimit(resource.RLIMIT_AS)
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + BYTES, limits[1]))
        for _, timer, factor in alarms:
            signal.setitimer(timer, factor * SECONDS)
        self.armed = True
        try:
            yield
        finally:
            self.armed = False
            for (number, timer, _), handler in zip(alarms, old, strict=True):
                signal.setitimer(timer, 0)
                signal.signal(number, handler)
            resource.setrlimit(resource.RLIMIT_AS, limits)
            del sys.modules["__main__"].Payload


def wants_too_much(error):
    """Whether an error, or one of its causes, is about memory."""
    while error is not None:
        if isinstance(error, MemoryError) or "allocate memory" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False
