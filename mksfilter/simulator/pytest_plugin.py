"""The simulated vSphere as pytest fixtures (entry point ``pytest11``)."""
