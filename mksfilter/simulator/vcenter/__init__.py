"""A vCenter: its SOAP API, and the console proxy of its releases before 6.5."""
