"""From Spec and Host to Plan: what is going to be done, as a value."""
