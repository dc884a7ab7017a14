/*
 * The servers of the benchmark's network; each runs until it is killed.
 *
 *	server byte ADDRESS PORT     send one byte to whoever connects, and hold the
 *	                             connection until the client closes it
 *	server name ADDRESS NAME     answer DNS queries (RFC 1035) for NAME with ADDRESS, on
 *	                             its UDP port 53: it has an A record and no other one
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

static void die(const char *what)
{
	perror(what);
	exit(125);
}

static int bound(int type, const char *address, int port)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(port) };
	int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0), one = 1;

	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one))
		die("socket");
	if (inet_pton(AF_INET, address, &a.sin_addr) != 1 || bind(fd, (struct sockaddr *)&a, sizeof a))
		die(address);
	return fd;
}

static void serve_byte(const char *address, int port)
{
	int listener = bound(SOCK_STREAM, address, port), poll = epoll_create1(EPOLL_CLOEXEC);
	struct epoll_event e = { .events = EPOLLIN, .data.fd = listener };

	if (poll < 0 || listen(listener, 4096) || epoll_ctl(poll, EPOLL_CTL_ADD, listener, &e))
		die("listen");
	for (;;) {
		if (epoll_wait(poll, &e, 1, -1) != 1)
			continue;
		if (e.data.fd != listener) {
			close(e.data.fd); /* the client sends nothing: this is its end */
			continue;
		}
		e.data.fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
		if (e.data.fd < 0) {
			perror("accept");
			continue;
		}
		if (send(e.data.fd, "x", 1, MSG_NOSIGNAL) != 1 || epoll_ctl(poll, EPOLL_CTL_ADD, e.data.fd, &e))
			close(e.data.fd);
	}
}

/* Reads the name that a query asks for, with dots; returns the bytes after it, or 0. */
static size_t question(const unsigned char *q, size_t size, char *name)
{
	size_t at = 12, out = 0;

	while (at < size && q[at]) {
		size_t label = q[at++];

		if (label > 63 || at + label > size || out + label + 1 > 255)
			return 0;
		memcpy(name + out, q + at, label);
		at += label;
		out += label;
		name[out++] = '.';
	}
	name[out ? out - 1 : 0] = 0;
	return at + 5 <= size ? at + 1 : 0;
}

static void serve_name(const char *address, const char *known)
{
	/* The name is the one that stands at 12; type A, class IN, 60 s, 4 bytes. */
	unsigned char record[16] = { 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4 }, q[512 + sizeof record];
	int fd = bound(SOCK_DGRAM, address, 53);

	inet_pton(AF_INET, address, record + 12);
	for (;;) {
		struct sockaddr_in from;
		socklen_t length = sizeof from;
		ssize_t size = recvfrom(fd, q, 512, 0, (struct sockaddr *)&from, &length);
		char name[256];
		size_t type = size < 12 ? 0 : question(q, size, name);
		int here, a;

		if (!type)
			continue;
		here = !strcasecmp(name, known);
		a = here && q[type] == 0 && q[type + 1] == 1;
		q[2] = 0x84 | (q[2] & 1); /* an answer, with authority */
		q[3] = here ? 0x80 : 0x83; /* recursion to be had; no such name */
		memset(q + 4, 0, 8);
		q[5] = 1;
		q[7] = a;
		if (a)
			memcpy(q + type + 4, record, sizeof record);
		sendto(fd, q, type + 4 + (a ? sizeof record : 0), 0, (struct sockaddr *)&from, length);
	}
}

int main(int argc, char **argv)
{
	if (argc == 4 && !strcmp(argv[1], "byte"))
		serve_byte(argv[2], atoi(argv[3]));
	if (argc == 4 && !strcmp(argv[1], "name"))
		serve_name(argv[2], argv[3]);
	return 2;
}
