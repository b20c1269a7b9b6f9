"""Two open connections and the bytes between them: what happens to a console once it is open.

:mod:`.protocol` is where to begin: a session without I/O. :mod:`.driver` gives it its sockets.
Nothing here knows of tokens, requests or vCenters.
"""
