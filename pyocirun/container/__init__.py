"""The libcontainer part: a factory that creates and loads containers, and what one can do with them."""
