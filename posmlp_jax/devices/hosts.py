"""Several hosts, each running the same program on its own devices: how they meet, and what they have to agree on.

The first host alone writes `config.json`, the metrics and what the terminal shows; all of them write checkpoints.
"""

import importlib.util
import json
import os
from collections import deque
from collections.abc import Callable
from typing import TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from posmlp_jax.devices.mesh import join_hosts
from posmlp_jax.errors import ConfigError, PosMLPError

T = TypeVar("T")

# How long a silent host counts as alive, and how long one that ends waits for the others, in seconds. JAX's own values,
# 100 and 300, leave a run hanging for minutes when one host dies.
_HEARTBEAT, _SHUTDOWN = 30, 20
# Longest message that hosts exchange, in bytes.
_MESSAGE = 1024


def connect(coordinator_address: str | None, num_processes: int | None, process_id: int | None) -> None:
    """Joins the other hosts' runtime; to be called before anything asks JAX for devices.

    Without arguments that is automatic within a SLURM step of several tasks and on Cloud TPUs, and elsewhere the run
    is this process alone. When a host dies later, the others end with an error within a minute.

    Args:
      coordinator_address: 'host:port' of process 0.
      num_processes: how many processes there are.
      process_id: which of them this is.

    Raises:
      ConfigError: if some of the three are given, but not all, or they cannot be.
    """
    given = (coordinator_address, num_processes, process_id)
    timeouts = {"heartbeat_timeout_seconds": _HEARTBEAT, "shutdown_timeout_seconds": _SHUTDOWN}
    # JAX's preemption service would take SIGTERM for itself; `AgreedMaximum` does its work, for SIGINT as well.
    jax.config.update("jax_enable_preemption_service", False)
    if any(value is not None for value in given):
        if any(value is None for value in given):
            raise ConfigError("several hosts need all of --coordinator_address, --num_processes and --process_id")
        if not 0 <= process_id < num_processes:
            raise ConfigError(f"process_id is {process_id}, and should be from 0 to {num_processes - 1}")
        if not coordinator_address.rpartition(":")[2].isdecimal() or ":" not in coordinator_address:
            raise ConfigError(f"coordinator_address is '{coordinator_address}', and should be host:port")
        jax.distributed.initialize(*given, cluster_detection_method="deactivate", **timeouts)
    elif int(os.environ.get("SLURM_STEP_NUM_TASKS", 1)) > 1:
        jax.distributed.initialize(**timeouts)
    elif importlib.util.find_spec("libtpu"):
        try:
            jax.distributed.initialize(**timeouts)
        except ValueError:  # libtpu without a Cloud TPU.
            return


def together(function: Callable[[], T]) -> T:
    """What `function` returns on this host, once it has succeeded on every host.

    Raises:
      PosMLPError: on all hosts, if it raised one on any: nobody is left waiting for a host that has given up.
    """
    try:
        result, failure = function(), None
    except PosMLPError as error:
        result, failure = None, error
    if jax.process_count() > 1:
        text = "" if failure is None else str(failure)
        padded = text.encode()[:_MESSAGE].ljust(_MESSAGE, b"\0")
        # It fetches what it gathers in ways of its own, which a loop that guards its transfers would forbid.
        with jax.transfer_guard("allow"):
            messages = multihost_utils.process_allgather(np.frombuffer(padded, np.uint8))
        if failure is None:
            for index, message in enumerate(messages):
                text = bytes(message).rstrip(b"\0").decode(errors="ignore")
                if text:
                    raise PosMLPError(f"host {index}: {text}")
    if failure is not None:
        raise failure
    return result


def from_host_0(function: Callable[[], T]) -> T:
    """What `function` returns on the first host, on all of them: files may look different, or be absent, elsewhere.

    Args:
      function: is called on the first host alone; what it returns goes through JSON.

    Raises:
      PosMLPError: on all hosts, if it raised one; on the others than the first, if it raised anything else, so that
        nobody is left waiting.
    """
    if jax.process_count() == 1:
        return function()
    message, failure = b"", None
    if jax.process_index() == 0:
        try:
            message = json.dumps({"value": function()}).encode()
        except PosMLPError as error:
            failure, message = error, json.dumps({"error": str(error)}).encode()
        except Exception as error:
            failure, message = error, json.dumps({"error": f"host 0: {type(error).__name__}: {error}"}).encode()
    with jax.transfer_guard("allow"):  # As in `together`.
        # The others do not know how long it is.
        length = int(multihost_utils.broadcast_one_to_all(np.int32(len(message))))
        padded = np.frombuffer(message.ljust(length, b"\0"), np.uint8)
        answer = json.loads(bytes(np.asarray(multihost_utils.broadcast_one_to_all(padded), np.uint8)))
    if failure is not None:
        raise failure
    if "error" in answer:
        raise PosMLPError(answer["error"])
    return answer["value"]


class AgreedMaximum:
    """The largest of the numbers that the hosts put in: the same on all of them at the same call.

    On several hosts, a call answers for the numbers of two calls earlier, so that nobody waits for the devices.

    Args:
      mesh: whose devices carry the numbers; every host has some.
    """

    _LAG = 2

    def __init__(self, mesh: Mesh):
        self._alone = jax.process_count() == 1
        self._split = NamedSharding(mesh, PartitionSpec(mesh.axis_names))
        self._local_devices = len(mesh.local_devices)
        self._max = jax.jit(lambda numbers: numbers.max(), out_shardings=NamedSharding(mesh, PartitionSpec()))
        self._under_way = deque()

    def __call__(self, number: int) -> int:
        """Puts in this host's number, at least 0."""
        if self._alone:
            return number
        local = np.full(self._local_devices, number, np.int32)
        self._under_way.append(self._max(join_hosts(local, self._split)))
        return int(jax.device_get(self._under_way.popleft())) if len(self._under_way) > self._LAG else 0
