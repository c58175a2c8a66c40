"""From config.json to Spec: reading and checking, without touching the host."""
