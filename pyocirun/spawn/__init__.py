"""The effects around one launch: probing the host, spawning nsexec, answering it."""
