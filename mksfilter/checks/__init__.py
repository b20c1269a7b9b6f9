"""What is wrong with a configuration, found without starting anything.

One module per file that an operator writes: :mod:`paste` for api-paste.ini, :mod:`nova` for
nova.conf, :mod:`proxy` for the proxy's own file; :mod:`options` has what they share.
"""
