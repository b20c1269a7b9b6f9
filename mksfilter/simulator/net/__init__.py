"""Listening sockets, their certificates, and HTTP over them."""
