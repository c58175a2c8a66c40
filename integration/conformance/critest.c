/* Stands in for the servers and the set-user-ID program that critest's images have.
 *
 *   web PORT    answers every HTTP request on PORT with 200, and leaves its pid in /var/run/nginx.pid
 *   nnp         prints its effective user id; critest expects these words
 */
#include <arpa/inet.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static const char ANSWER[] =
	"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nok\n";

static int serve(int port)
{
	struct sockaddr_in address = { .sin_family = AF_INET,
				       .sin_port = htons((unsigned short)port) };
	int yes = 1, server = socket(AF_INET, SOCK_STREAM, 0);
	FILE *pid = fopen("/var/run/nginx.pid", "w");
	char request[4096];

	if (pid) {
		fprintf(pid, "%d\n", getpid());
		fclose(pid);
	}
	setsockopt(server, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
	if (bind(server, (struct sockaddr *)&address, sizeof(address)) || listen(server, 16)) {
		perror("web");
		return 1;
	}
	for (;;) {
		int client = accept(server, NULL, NULL);

		if (client < 0)
			continue;
		if (read(client, request, sizeof(request)) > 0 &&
		    write(client, ANSWER, strlen(ANSWER)) < 0)
			perror("web");
		close(client);
	}
}

int main(int argc, char **argv)
{
	const char *name = strrchr(argv[0], '/');

	signal(SIGPIPE, SIG_IGN);
	if (!strcmp(name ? name + 1 : argv[0], "nnp"))
		return printf("Effective uid: %d\n", geteuid()) < 0;
	return serve(argc > 1 ? atoi(argv[1]) : 80);
}
