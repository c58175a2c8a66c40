"""Control groups: pure tables (v1, path, devices) and the managers that write them (manager, fs)."""
