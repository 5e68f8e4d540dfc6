/* Prints what getaddrinfo() of the C library that it is linked with says of each name: its addresses, or why it has none. */

#include <arpa/inet.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

static void show(const struct addrinfo *found)
{
	char text[INET6_ADDRSTRLEN] = "";
	if (found->ai_family == AF_INET)
		inet_ntop(AF_INET, &((struct sockaddr_in *)found->ai_addr)->sin_addr, text, sizeof text);
	else if (found->ai_family == AF_INET6)
		inet_ntop(AF_INET6, &((struct sockaddr_in6 *)found->ai_addr)->sin6_addr, text, sizeof text);
	printf(" %s", text);
}

int main(int argc, char **argv)
{
	for (int i = 1; i < argc; i++) {
		struct addrinfo hints = { .ai_socktype = SOCK_STREAM };
		struct addrinfo *found = NULL;
		int error = getaddrinfo(argv[i], NULL, &hints, &found);
		printf("%s:", argv[i]);
		if (error != 0)
			printf(" %s", error == EAI_NONAME ? "no such name" : error == EAI_AGAIN ? "try again" : gai_strerror(error));
		for (struct addrinfo *one = found; one != NULL; one = one->ai_next)
			show(one);
		printf("\n");
		if (found)
			freeaddrinfo(found);
	}
	return 0;
}
