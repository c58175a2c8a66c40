"""JSON schema of config.json, written from the prose of the OCI runtime specification."""
