"""The same sentences under gevent's monkey-patching, as in the proxy's worker."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
PATCH = "from gevent import monkey; monkey.patch_all()\n"
IMPORT = "import mksfilter.backends.resolver\n"
RUN = "import sys, pytest; sys.exit(pytest.main(sys.argv[1:]))\n"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "code"),
    [
        ("vsphere/test_call_queue", PATCH + RUN),
        ("vsphere/test_transport", IMPORT + PATCH + RUN),
        ("vsphere/test_session", PATCH + RUN),
        ("test_resolver", IMPORT + PATCH + RUN),
        ("test_storm", PATCH + RUN),
    ],
)
def test_holds_with_greenlets_for_threads(module: str, code: str) -> None:
    """Also when the modules were imported before a worker patched the standard library."""
    ended = subprocess.run(
        [sys.executable, "-c", code, "-q", "-p", "no:cacheprovider", HERE / f"{module}.py"],
        cwd=HERE.parent.parent,
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert ended.returncode == 0, ended.stdout[-4000:] + ended.stderr[-2000:]


def test_modules_imported_before_the_patch_do_not_block_the_hub() -> None:
    """A worker is patched late: the contexts must be of the classes that gevent put in place."""
    code = (
        "import mksfilter.backends.resolver\n"
        "from gevent import monkey; monkey.patch_all()\n"
        "import ssl, gevent.ssl\n"
        "from mksfilter.tls import ssl_context\n"
        "from mksfilter.config import VCenterSettings\n"
        "for more in ({'thumbprint': '00' * 32}, {'insecure': True}, {}):\n"
        "    context = ssl_context(VCenterSettings('dc1', 'vc', **more))\n"
        "    assert isinstance(context, gevent.ssl.SSLContext)\n"
        "    assert issubclass(context.sslsocket_class, gevent.ssl.SSLSocket)\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stderr


def test_backends_do_not_import_gevent() -> None:
    code = (
        "import sys, mksfilter.backends.resolver\n"
        "assert not any(name.startswith('gevent') for name in sys.modules)"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stderr
