/*
 * embed.h - the interpreter inside the launcher; see embed.c. A build without a static libpython has none.
 */

#ifndef PYOCIRUN_EMBED_H
#define PYOCIRUN_EMBED_H

#ifdef EMBED
/* Runs the command with the package in directory `site`. Its exit status; -1: it could not start, try another way. */
int run_embedded(const char *site, int argc, char **argv);
#else
static inline int run_embedded(const char *site, int argc, char **argv)
{
	(void)site;
	(void)argc;
	(void)argv;
	return -1;
}
#endif

#endif
