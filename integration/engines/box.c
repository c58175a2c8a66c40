/* The image's only program: what the tests need of a userland, in one static file.
 *
 *   /box echo TEXT     /box env NAME     /box exit STATUS
 *   /box later TEXT    the same as echo, half a second later
 *   /box both OUT ERR  until the end of stdin, after a line to stdout and one to stderr
 *   /box wait          until SIGTERM, which ends it with status 3
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void on_term(int number)
{
	(void)number;
	_exit(3);
}

int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "", *argument = argc > 2 ? argv[2] : "";
	char byte;

	if (!strcmp(what, "echo"))
		puts(argument);
	else if (!strcmp(what, "later")) {
		usleep(500000);
		puts(argument);
	} else if (!strcmp(what, "both") && argc > 3) {
		puts(argument);
		fflush(stdout);
		fprintf(stderr, "%s\n", argv[3]);
		while (read(0, &byte, 1) > 0)
			;
	} else if (!strcmp(what, "env"))
		puts(getenv(argument) ? getenv(argument) : "");
	else if (!strcmp(what, "exit"))
		return atoi(argument);
	else if (!strcmp(what, "wait")) {
		signal(SIGTERM, on_term);
		puts("waiting");
		fflush(stdout);
		for (;;)
			pause();
	} else
		return 64;
	return 0;
}
