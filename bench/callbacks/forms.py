"""The forms that are compared: which processes take the callbacks from Kafka into the rows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cjtasks.dev.processes import Process, read_procfile

PROCFILE = Path(__file__).resolve().parents[2] / "Procfile"


@dataclass(frozen=True)
class Form:
    """`keeps_inbox`: what was received stands in the inbox, each message once. `sends`: other batches are sent too."""

    name: str
    processes: tuple[Process, ...]
    keeps_inbox: bool = True
    sends: bool = False


def product(workers: int) -> Form:
    """Return the product's own processes of this path, as its Procfile has them."""
    command = {process.name: process.command for process in read_procfile(PROCFILE)}
    copies = tuple(Process(f"worker-{number}", command["worker"]) for number in range(1, workers + 1))
    return Form("cjtasks", (Process("consumer", command["consumer"]), *copies))


def product_that_sends(workers: int) -> Form:
    """Return the product with its submitter, which has enough to send for the whole run."""
    command = {process.name: process.command for process in read_procfile(PROCFILE)}
    submitter = Process("submitter", command["submitter"])
    return Form("with sending", (*product(workers).processes, submitter), sends=True)


INLINE = Form("inline", (Process("consumer", "exec python -m bench.callbacks.inline"),))

ONE_EACH = Form(
    "task each",
    (
        Process("consumer", "exec python -m bench.callbacks.one_each"),
        Process(
            "worker",
            "exec celery -A bench.callbacks.one_each worker -Q answers --pool prefork -c 4 -n one-each-$$@%h "
            "--without-gossip --without-mingle",
        ),
    ),
    keeps_inbox=False,
)
