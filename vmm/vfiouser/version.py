"""The first message of a connection: which version, and which capabilities (specification, "VFIO_USER_VERSION")."""

from __future__ import annotations

import errno
import json
from typing import Final

from vmm.vfiouser.messages import MAX_DATA, MAX_DESCRIPTORS, MAX_WINDOWS, PAGE, VERSION

__all__ = ["MAJOR", "MINOR", "negotiate"]

MAJOR: Final = 0
MINOR: Final = 0  # clients refuse a minor above what they propose; QEMU proposes 0

_LIMITS: Final = {
    "max_msg_fds": MAX_DESCRIPTORS,
    "max_data_xfer_size": MAX_DATA,
    "max_dma_maps": MAX_WINDOWS,
    "pgsizes": PAGE,
}


def negotiate(payload: memoryview) -> bytes:
    """The reply's payload. Limits are always stated; a feature only if the client has offered it.

    Raises OSError: EINVAL for capabilities that are not as the specification has them, ENOTSUP for another major.
    """
    major, _minor = VERSION.unpack_from(payload)
    if major != MAJOR:
        raise OSError(errno.ENOTSUP, f"version {major}, and this is version {MAJOR}")
    offered = _capabilities(bytes(payload[VERSION.size :]))
    answer: dict[str, object] = dict(_LIMITS)
    if offered.get("write_multiple") is True:
        answer["write_multiple"] = True
    text = json.dumps({"capabilities": answer}, separators=(",", ":"))
    return VERSION.pack(MAJOR, MINOR) + text.encode() + b"\0"


def _capabilities(data: bytes) -> dict[str, object]:
    if not data:
        return {}
    if data[-1] != 0:
        raise OSError(errno.EINVAL, "version data without an end")
    try:
        parsed = json.loads(data[:-1].decode())
    except (ValueError, RecursionError) as error:  # not UTF-8, not JSON, or nested too deeply
        raise OSError(errno.EINVAL, "version data that is not JSON") from error
    capabilities = parsed.get("capabilities", {}) if isinstance(parsed, dict) else None
    if not isinstance(capabilities, dict):
        raise OSError(errno.EINVAL, "version data that is not an object")
    return capabilities
