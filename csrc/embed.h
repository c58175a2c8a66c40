/*
 * embed.h - the interpreter inside the launcher; see embed.c. A build without a static libpython has none.
 */

#ifndef PYOCIRUN_EMBED_H
#define PYOCIRUN_EMBED_H

/* argv[0] by which setup.py has the command make a snapshot: see make_snapshot */
#define SNAPSHOT_MAKER "pyocirun-make-snapshot"

#ifdef EMBED
/* MAKER SITE FILE MODULE...: import these modules from SITE, and write the memory then (snapshot.c) to FILE. */
int make_snapshot(int argc, char **argv);

/* Runs the command with the package in directory `site`. Its exit status; -1: it could not start, try another way. */
int run_embedded(const char *site, int argc, char **argv);
#else
static inline int make_snapshot(int argc, char **argv)
{
	(void)argc;
	(void)argv;
	return 1;
}

static inline int run_embedded(const char *site, int argc, char **argv)
{
	(void)site;
	(void)argc;
	(void)argv;
	return -1;
}
#endif

#endif
