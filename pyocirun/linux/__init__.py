"""Names and numbers of the kernel, as tables. Nothing here opens a file or makes a system call."""
