/*
 * launcher.c - the installed command `pyocirun`: finds the package and the interpreter, and turns into it.
 *
 * A script's first line cannot do that well. Its options are lost on installation, an entry point that pip writes
 * imports far more than it needs, and some callers give no PATH. So this small program is the interpreter itself
 * where the build found it as a static library (embed.c). Elsewhere, or if that one was replaced since, it execs
 *
 *	PYTHON -I -S -X frozen_modules=on START ARGS...
 *
 * PYTHON: the interpreter beside this program (a virtual environment), else the one it was built with. START: the
 * package's start script, which is looked for beside the interpreter's library and in the environment's own.
 * -I keeps PYTHON* variables, the user's site directory and the current directory out; -S saves what `site` costs.
 */

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "embed.h"

#ifndef PYTHON
#error "the build names the interpreter"
#endif

#define START "pyocirun/cli/start_command.py"

static const char *const places[] = { SITES };

static int give_up(const char *what)
{
	fprintf(stderr, "pyocirun: %s\n", what);
	return 1;
}

static int join(char *to, const char *directory, const char *name)
{
	int length = snprintf(to, PATH_MAX, "%s/%s", directory, name);

	return length > 0 && length < PATH_MAX;
}

/* The directory that the program lies in, all links resolved: the environment may have been moved or linked to. */
static int own_directory(char *directory)
{
	ssize_t length = readlink("/proc/self/exe", directory, PATH_MAX - 1);
	char *slash;

	if (length <= 0)
		return 0;
	directory[length] = 0;
	slash = strrchr(directory, '/');
	if (!slash || slash == directory)
		return 0;
	*slash = 0;
	return 1;
}

/* places: absolute directories, or ones relative to the prefix, "lib/python3.11/site-packages". */
static int find_start(char *start, char *site, const char *prefix)
{
	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		if (places[i][0] == '/')
			snprintf(site, PATH_MAX, "%s", places[i]);
		else if (!*prefix || !join(site, prefix, places[i]))
			continue;
		if (join(start, site, START) && access(start, R_OK) == 0)
			return 1;
	}
	return 0;
}

int main(int argc, char **argv)
{
	char directory[PATH_MAX] = "";
	char prefix[PATH_MAX] = "";
	char site[PATH_MAX];
	char start[PATH_MAX];
	char beside[PATH_MAX] = "";
	const char *python = PYTHON;
	char **arguments = calloc((size_t)argc + 7, sizeof(char *));
	int count = 0;
	int status;

	if (!arguments)
		return give_up("out of memory");
	if (argc > 0 && strcmp(argv[0], SNAPSHOT_MAKER) == 0)
		return make_snapshot(argc, argv);
	if (own_directory(directory)) {
		memcpy(prefix, directory, sizeof(prefix));
		*strrchr(prefix, '/') = 0;
		if (join(beside, directory, ABI) && access(beside, X_OK) == 0)
			python = beside;
	}
	if (!find_start(start, site, prefix))
		return give_up(*prefix ? "the Python package pyocirun is not installed where this "
					 "command looks for it"
				       : "/proc/self/exe cannot be read: is /proc mounted?");
	status = run_embedded(site, argc, argv);
	if (status >= 0)
		return status;
	arguments[count++] = (char *)(size_t)python;
	arguments[count++] = (char *)(size_t) "-I";
	arguments[count++] = (char *)(size_t) "-S";
	arguments[count++] = start;
	for (int i = 1; i < argc; i++)
		arguments[count++] = argv[i];
	execv(python, arguments);
	fprintf(stderr, "pyocirun: cannot execute %s: %s\n", python, strerror(errno));
	return 1;
}
