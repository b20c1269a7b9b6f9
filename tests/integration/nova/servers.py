"""The servers that the tests ask consoles of, one for every state that matters."""

from __future__ import annotations

import json
from typing import Any

#: Machines of the simulated vSphere, so that a console really opens; the second is off.
WEB = "5f1c7e20-0000-4000-8000-000000000001"
OFF = "5f1c7e20-0000-4000-8000-000000000003"
VCENTER = "9d51f082-58a4-4449-beed-6fd205a5726b"

ACTIVE = "00000001-0000-4000-8000-000000000001"
NOT_SCHEDULED = "00000002-0000-4000-8000-000000000002"
NO_HOST = "00000003-0000-4000-8000-000000000003"
SHELVED = "00000004-0000-4000-8000-000000000004"
DELETING = "00000005-0000-4000-8000-000000000005"
MIGRATING = "00000006-0000-4000-8000-000000000006"
BUILDING = "00000007-0000-4000-8000-000000000007"
STOPPED = "00000008-0000-4000-8000-000000000008"
SOFT_DELETED = "00000009-0000-4000-8000-000000000009"
OF_OTHER = "00000010-0000-4000-8000-000000000010"
NONEXISTENT = "00000077-0000-4000-8000-000000000077"

SERVERS: list[dict[str, Any]] = [
    {
        "uuid": WEB,
        "name": "web-1",
        "node": f"domain-c26.{VCENTER}",
        "console": {
            "host": "esxi-1.example.com",
            "port": 902,
            "internal_access_path": json.dumps(
                {
                    "ticket": "52fd3d7e-issued-to-nova",
                    "cfgFile": "[datastore1] web-1/web-1.vmx",
                    "thumbprint": "AA:BB:CC",
                }
            ),
        },
    },
    {"uuid": OFF, "name": "off-1", "vm_state": "stopped"},
    {"uuid": ACTIVE, "name": "vm-active"},
    {
        "uuid": NOT_SCHEDULED,
        "name": "vm-scheduling",
        "vm_state": "building",
        "task_state": "scheduling",
        "host": None,
        "cell": None,
    },
    {"uuid": NO_HOST, "name": "vm-no-host", "vm_state": "error", "host": None, "cell": "cell0"},
    {"uuid": SHELVED, "name": "vm-shelved", "vm_state": "shelved_offloaded", "host": None},
    {"uuid": DELETING, "name": "vm-deleting", "task_state": "deleting"},
    {"uuid": MIGRATING, "name": "vm-migrating", "task_state": "migrating"},
    {
        "uuid": BUILDING,
        "name": "vm-building",
        "vm_state": "building",
        "task_state": "spawning",
    },
    {"uuid": STOPPED, "name": "vm-stopped", "vm_state": "stopped"},
    {"uuid": SOFT_DELETED, "name": "vm-soft-deleted", "vm_state": "soft-delete"},
    {"uuid": OF_OTHER, "name": "vm-of-other", "project": "other"},
]
