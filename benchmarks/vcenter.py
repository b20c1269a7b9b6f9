"""A simulated vCenter whose tickets lead to the benchmark's console host:
``python -m benchmarks.vcenter PORT CERTIFICATE MACHINES [VCENTERS DELAY]``.

The simulator's own ESXi hosts have a greenlet and an SSL socket for each console, which is more
than the proxy in front of them; :mod:`benchmarks.console_host` carries ten thousand. It ends when
its standard input does.
"""

from __future__ import annotations

import json
import ssl
import sys
from pathlib import Path

from mksfilter.simulator.net.certificates import thumbprint
from mksfilter.simulator.server import Options, Simulator, serve

_BEGIN = "-----BEGIN CERTIFICATE-----"


def main() -> None:
    port, certificate, machines = int(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    vcenters, delay = (int(sys.argv[4]), float(sys.argv[5])) if len(sys.argv) > 4 else (1, 0.0)
    settings = (("vcenter", "", {"delay": delay}),) if delay else ()
    simulator = Simulator(Options(vms=machines, vcenters=vcenters, settings=settings))
    try:
        pem = _BEGIN + certificate.read_text().partition(_BEGIN)[2]
        der = ssl.PEM_cert_to_DER_cert(pem)
        for host in simulator.inventory.hosts():
            host.address, host.port, host.pem = "127.0.0.1", port, pem
            host.digests = {name: thumbprint(der, name) for name in host.digests}
        print(json.dumps(simulator.state()), flush=True)
        serve(until_eof=True)
    finally:
        simulator.stop()


if __name__ == "__main__":
    main()
