/*
 * snapshot.h - the memory of an interpreter that has imported the package, kept in the command; see snapshot.c.
 */

#ifndef PYOCIRUN_SNAPSHOT_H
#define PYOCIRUN_SNAPSHOT_H

#include <stddef.h>

/* From here on memory that the interpreter takes is part of the snapshot. Before anything else of Python. */
int snapshot_begin(void);

/*
 * Write the snapshot to a file, to be a section of the command. sources: for each module in it the size of its source, 8 bytes, and the path below the
 * site directory, ended by a zero byte. Fails with a text on stderr, also if something in it points outside of it.
 */
int snapshot_write(const char *path, const char *sources, size_t length);

/*
 * NULL: the interpreter is as it was in snapshot_write, and belongs to this thread. Else why not, for a person: there is
 * no snapshot in this command, or it does not fit the sources below `site`. Nothing has changed then.
 */
const char *snapshot_restore(const char *site);

#endif
