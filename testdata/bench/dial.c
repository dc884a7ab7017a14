/*
 * A client of "server byte" for the benchmark. The name is resolved once, before
 * anything is timed; the first address counts.
 *
 *	dial often N NAME PORT   connect N times, one after the other; print how long it takes
 *	                         until the byte is there, the median, in µs
 *	dial many N NAME PORT    print "ready"; at a line of input, connect N times at once;
 *	                         print how long it takes until every byte is there, in ms,
 *	                         and hold the connections until the input ends
 */
#define _GNU_SOURCE
#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static long long now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void die(const char *what)
{
	perror(what);
	exit(125);
}

static struct addrinfo *resolve(const char *name, const char *port)
{
	struct addrinfo want = { .ai_socktype = SOCK_STREAM }, *found;
	int failed = getaddrinfo(name, port, &want, &found);

	if (failed) {
		fprintf(stderr, "cannot resolve %s: %s\n", name, gai_strerror(failed));
		exit(125);
	}
	return found;
}

static int dial(const struct addrinfo *to, int flags)
{
	int fd = socket(to->ai_family, SOCK_STREAM | SOCK_CLOEXEC | flags, 0);

	if (fd < 0)
		die("socket");
	if (connect(fd, to->ai_addr, to->ai_addrlen) && errno != EINPROGRESS)
		die("connect");
	return fd;
}

static void read_byte(int fd)
{
	char byte;
	ssize_t n = read(fd, &byte, 1);

	if (n == 0)
		errno = ECONNABORTED;
	if (n != 1)
		die("read");
}

static int ascending(const void *a, const void *b)
{
	long long x = *(const long long *)a, y = *(const long long *)b;

	return (x > y) - (x < y);
}

static void often(int n, const struct addrinfo *to)
{
	long long *took = calloc(n, sizeof *took);

	for (int i = 0; i < n; i++) {
		long long began = now();
		int fd = dial(to, 0);

		read_byte(fd);
		took[i] = now() - began;
		close(fd);
	}
	qsort(took, n, sizeof *took, ascending);
	printf("%.1f\n", (took[(n - 1) / 2] + took[n / 2]) / 2e3);
}

static void many(int n, const struct addrinfo *to)
{
	struct rlimit files;
	int poll = epoll_create1(EPOLL_CLOEXEC), got = 0;
	long long began;

	if (getrlimit(RLIMIT_NOFILE, &files))
		die("getrlimit");
	files.rlim_cur = files.rlim_max;
	if (poll < 0 || setrlimit(RLIMIT_NOFILE, &files))
		die("setrlimit");
	puts("ready");
	fflush(stdout);
	if (getchar() == EOF)
		return;
	began = now();
	for (int i = 0; i < n; i++) {
		int fd = dial(to, SOCK_NONBLOCK);
		struct epoll_event e = { .events = EPOLLIN | EPOLLONESHOT, .data.fd = fd };

		if (epoll_ctl(poll, EPOLL_CTL_ADD, fd, &e))
			die("epoll_ctl");
	}
	while (got < n) {
		struct epoll_event e[64];
		int ready = epoll_wait(poll, e, 64, 30000);

		if (ready == 0) {
			fprintf(stderr, "only %d of %d connections within 30 s\n", got, n);
			exit(1);
		}
		for (int i = 0; i < ready; i++, got++)
			read_byte(e[i].data.fd);
	}
	printf("%.1f\n", (now() - began) / 1e6);
	fflush(stdout);
	while (getchar() != EOF)
		;
}

int main(int argc, char **argv)
{
	int n = argc == 5 ? atoi(argv[2]) : 0;

	if (n < 1)
		return 2;
	if (!strcmp(argv[1], "often"))
		often(n, resolve(argv[3], argv[4]));
	else if (!strcmp(argv[1], "many"))
		many(n, resolve(argv[3], argv[4]));
	else
		return 2;
	return fflush(stdout) ? 1 : 0;
}
