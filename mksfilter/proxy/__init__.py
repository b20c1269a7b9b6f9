"""How consoles are connected: the WSGI application, its worker, and the relay."""
