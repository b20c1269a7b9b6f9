"""An embedded vSphere for the demo and for tests: vCenter, ESXi hosts, screens."""
