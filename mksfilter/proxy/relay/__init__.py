"""Two open connections and the bytes between them: what happens to a console once it is open.

:mod:`.relay` is where to begin. Nothing here knows of tokens, requests or vCenters.
"""
