"""WebMKS consoles for OpenStack on VMware vSphere.

Two halves that share nothing but a signing key: :mod:`mksfilter.filter`, a Paste filter for
nova-api that answers the ``mks`` console request with a signed token, and :mod:`mksfilter.proxy`,
a WebSocket proxy that turns such a token into a console of the virtual machine it names.
"""

__version__ = "0.1.0"
__all__ = ["__version__"]
