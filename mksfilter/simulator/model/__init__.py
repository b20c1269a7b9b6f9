"""What the simulated vSphere consists of, as plain data, and the tickets that it has given."""
